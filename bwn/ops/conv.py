"""2-D convolution of (N, C, H, W) with zero padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Pair, Reals, Shape, Tensors
from bwn.kernels import reference as plain
from bwn.ops.onnx_reading import pair, reads, vector, window_pads
from bwn.ops.weighted import Weighted
from bwn.ops.window import Pads, Window, check_phases, check_window, window_shape

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


class Conv(Weighted, frozen=True, kw_only=True, tag="conv"):
    """2-D convolution.

    `weight` is (outputs, C / groups, KH, KW) float32, or (outputs, ceil(K / 64)) uint64 with K =
    KH * KW * C / groups in the order k = (ky * KW + kx) * (C / groups) + c.

    Attributes:
        kernel: Height and width of the window.
        stride: Rows and columns from one window to the next.
        pads: Zeros above, left, below and right of the image.
        dilation: Rows and columns from one tap to the next.
        groups: Groups of channels, each convolved by itself.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    rank: ClassVar[int] = 3

    def window(self, shape: Shape) -> Window:
        """The window of its attributes."""
        return Window(self.kernel, self.stride, self.pads, self.dilation, self.groups)

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """The window is legal, and so is everything that layers with weights share."""
        check_window(self, self.window(inputs[0]))
        check_phases(self, self.window(inputs[0]))
        super().check(inputs, tensors, signs)

    def weight_shape(self, outputs: int, shape: Shape) -> Shape:
        """(outputs, C / groups, KH, KW)."""
        return (outputs, shape[0] // self.groups, *self.kernel)

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """(outputs, height, width)."""
        (shape,) = inputs
        return window_shape(self, self.window(shape), shape, tensors[self.weight].shape[0])

    def sums(self, x: Reals, weights: Reals) -> Reals:
        """The convolution."""
        return plain.conv(
            x,
            weights,
            stride=self.stride,
            pads=self.pads,
            dilation=self.dilation,
            groups=self.groups,
        )

    def unpack(self, words: npt.NDArray[np.uint64], shape: Shape) -> npt.NDArray[np.int8]:
        """(outputs, C / groups, KH, KW)."""
        return plain.conv_weights(words, self.kernel, shape[0] // self.groups)

    def onnx_form(self) -> tuple[str, dict[str, Any]]:
        """Conv."""
        return "Conv", {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": self.pads,
            "dilations": self.dilation,
            "group": self.groups,
        }


@reads("Conv")
def read_conv(state: ImportState, node: OnnxNode) -> None:
    """Inputs (N, C, H, W) or (N, C, L)."""
    source, shape = state.activation(node)
    weight = state.weights(node, 1)
    if weight.ndim == 3:  # of (N, C, L), which is (N, C, 1, L) here
        weight = weight[:, :, None]
    if weight.ndim != 4 or len(shape) != 3:
        raise node.refuse(
            f"weights have {weight.ndim} axes, the input of an example has shape {shape}; only "
            "convolutions of (N, C, H, W) and (N, C, L) are supported"
        )
    kernel = (weight.shape[2], weight.shape[3])
    if "kernel_shape" in node.attrs and pair(node, "kernel_shape") != kernel:
        raise node.refuse(f"kernel_shape is {node.attrs['kernel_shape']}, its weights say {kernel}")
    stride, dilation = pair(node, "strides"), pair(node, "dilations")
    state.emit(
        Conv(
            input=source,
            output=node.output,
            weight=state.store(node.inputs[1], weight),
            bias=vector(state, node, 2, weight.shape[0]),
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            pads=window_pads(node, (shape[1], shape[2]), Window(kernel, stride, dilation=dilation)),
            groups=node.attrs.get("group", 1),
        ),
    )
