"""Kernel, stride and padding attributes as ONNX writes them, resolved to numbers."""

from __future__ import annotations

from typing import Any

import onnx

from bwn.ir.graph import Pads, Pair
from bwn.onnx.import_state import refuse


def pair(node: onnx.NodeProto, attrs: dict[str, Any], name: str) -> Pair:
    """A two-number attribute; (1, 1) where it is not given."""
    values = [int(value) for value in attrs.get(name, (1, 1))]
    if len(values) != 2:
        raise refuse(node, f"{name} is {values}, expected two numbers (2-D)")
    return values[0], values[1]


def window_pads(
    node: onnx.NodeProto,
    attrs: dict[str, Any],
    size: Pair,
    kernel: Pair,
    stride: Pair,
    dilation: Pair = (1, 1),
) -> Pads:
    """Top, left, bottom, right padding of windows over an input of `size`, auto_pad resolved."""
    auto = attrs.get("auto_pad", b"NOTSET").decode("ascii", "replace")
    if auto == "NOTSET":
        pads = [int(pad) for pad in attrs.get("pads", (0, 0, 0, 0))]
        if len(pads) != 4:
            raise refuse(node, f"pads are {pads}, expected four numbers (2-D)")
        return pads[0], pads[1], pads[2], pads[3]
    if auto == "VALID":
        return 0, 0, 0, 0
    if auto not in ("SAME_UPPER", "SAME_LOWER") or min(stride) < 1:
        raise refuse(node, f"auto_pad is {auto!r} with strides {stride}, which is not supported")
    both = [
        same_pads(*axis, upper=auto == "SAME_UPPER")
        for axis in zip(size, kernel, stride, dilation, strict=True)
    ]
    return both[0][0], both[1][0], both[0][1], both[1][1]


def same_pads(size: int, kernel: int, stride: int, dilation: int, upper: bool) -> Pair:
    """Padding before and after, such that the output has ceil(size / stride) positions."""
    windows = -(-size // stride)
    total = max((windows - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)


def ceil_pads(pads: Pads, size: Pair, kernel: Pair, stride: Pair) -> Pads:
    """`pads` with as much added below and right as makes the windows of ceil_mode fit.

    A window that would start beyond the image and its first padding does not count.
    """
    after = list(pads[2:])
    for axis in (0, 1):
        padded = size[axis] + pads[axis] + pads[axis + 2]
        windows = -(-(padded - kernel[axis]) // stride[axis]) + 1
        if (windows - 1) * stride[axis] >= size[axis] + pads[axis]:
            windows -= 1
        after[axis] = max(
            pads[axis + 2], (windows - 1) * stride[axis] + kernel[axis] - size[axis] - pads[axis]
        )
    return pads[0], pads[1], after[0], after[1]
