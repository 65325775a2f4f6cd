"""Sliding windows of convolution and pooling.

Padding is checked here. `onnx_reading.py` reads it from ONNX; `bwn/plan/builder.py` lays it out in
memory (`reserve_padding` of `bwn/plan/buffers.py`).
"""

from __future__ import annotations

from math import gcd, prod

import msgspec

from bwn.ir.node import Node, Pair, Shape

Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""
MAX_ATTRIBUTE = 2**20
MAX_PADDED = 2**28
"""Most elements of an input with its padding."""
MAX_PHASES = 2**12
"""Most phases of a stride, each of which is a copy: as in a 64 x 64 patch embedding."""


class Window(msgspec.Struct, frozen=True):
    """The geometry of a sliding window; one element for a fully connected layer."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def taps(self) -> int:
        """Positions of the window."""
        return prod(self.kernel)

    @property
    def phase_count(self) -> int:
        """Number of planes of every stride-th row and column that its taps read."""
        return prod(
            min(taps, stride // gcd(step, stride))
            for taps, step, stride in zip(self.kernel, self.dilation, self.stride, strict=True)
        )

    @property
    def phases(self) -> tuple[list[int], list[int]]:
        """Rows and columns modulo the stride that some tap reads, in order."""
        rows, columns = (
            # They repeat after as many taps.
            sorted({tap * step % stride for tap in range(min(taps, stride // gcd(step, stride)))})
            for taps, step, stride in zip(self.kernel, self.dilation, self.stride, strict=True)
        )
        return rows, columns

    def output_size(self, size: Pair) -> Pair:
        """Height and width of the positions that fit.

        (size + pads - dilation * (kernel - 1) - 1) // stride + 1, on each axis.
        """
        height, width = (
            (
                size[i]
                + self.pads[i]
                + self.pads[i + 2]
                - self.dilation[i] * (self.kernel[i] - 1)
                - 1
            )
            // self.stride[i]
            + 1
            for i in (0, 1)
        )
        return height, width


def check_window(node: Node, window: Window) -> None:
    """Raise GraphError if an attribute is out of range or a window can lie in the padding."""
    numbers = {
        "kernel": window.kernel,
        "stride": window.stride,
        "dilation": window.dilation,
        "groups": (window.groups, window.groups),
    }
    for name, pair in numbers.items():
        if not all(1 <= number <= MAX_ATTRIBUTE for number in pair):
            raise node.refuse(f"{name} is {pair}, expected 1 to {MAX_ATTRIBUTE}")
    reach = tuple(window.dilation[axis] * (window.kernel[axis] - 1) + 1 for axis in (0, 1))
    if not all(0 <= pad < reach[axis % 2] for axis, pad in enumerate(window.pads)):
        raise node.refuse(f"pads are {window.pads}, expected 0 up to less than the window {reach}")


def check_phases(node: Node, window: Window) -> None:
    """Raise GraphError if a stride has too many phases to copy one by one."""
    if window.phase_count > MAX_PHASES:
        raise node.refuse(
            f"stride {window.stride} with kernel {window.kernel} reads {window.phase_count} "
            f"phases of the image, at most {MAX_PHASES} are allowed"
        )


def window_shape(node: Node, window: Window, shape: Shape, channels: int) -> Shape:
    """(channels, height, width) of a window's output. Raises GraphError if no window fits."""
    if len(shape) != 3:
        raise node.refuse(f"input has shape {shape}, expected (channels, height, width)")
    top, left, bottom, right = window.pads
    padded = (shape[0], top + shape[1] + bottom, left + shape[2] + right)
    if prod(padded) > MAX_PADDED:
        raise node.refuse(f"its input is {padded} with padding, more than {MAX_PADDED} elements")
    size = window.output_size((shape[1], shape[2]))
    if min(size) < 1:
        raise node.refuse(f"a window of {window.kernel} does not fit an input of {shape[1:]}")
    return (channels, *size)
