"""ConvTranspose, read as a convolution with flipped weights of an image with zeros in between.

With stride s, input pixel i adds w[k] * x[i] to the output at s * i + d * k - pad. So output p is
the sum of w[K - 1 - j] over the taps j of a window of dilation d that starts at p + pad - d *
(K - 1) in an image that has x[i] at s * i, and zeros elsewhere. Weights of one bit stay so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Pair
from bwn.ops.conv import Conv
from bwn.ops.gather import Gather
from bwn.ops.onnx_reading import pair, reads, vector
from bwn.ops.window import MAX_ATTRIBUTE

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("ConvTranspose")
def read_conv_transpose(state: ImportState, node: OnnxNode) -> None:
    """Inputs (N, C, H, W) or (N, C, L); all attributes."""
    source, shape = state.activation(node)
    weight, groups = state.weights(node, 1), int(node.attrs.get("group", 1))
    if weight.ndim == 3:  # of (N, C, L), which is (N, C, 1, L) here
        weight = weight[:, :, None]
    if weight.ndim != 4 or len(shape) != 3 or groups < 1 or len(weight) % groups:
        raise node.refuse(
            f"weights of shape {weight.shape} in {groups} groups; only transposed "
            "convolutions of (N, C, H, W) and (N, C, L) are supported"
        )
    dilation = pair(node, "dilations")
    kernel = (weight.shape[2], weight.shape[3])
    lists: list[tuple[int, ...]] = [()]
    pads: list[Pair] = []
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1)
        indices, around = _axis(node, axis, shape[axis + 1], reach)
        lists.append(indices)
        pads.append(around)
    if lists[1:] != [tuple(range(size)) for size in shape[1:]]:
        spread = f"{node.output}.spread"
        state.emit(Gather(input=source, output=spread, indices=tuple(lists)))
        source = spread
    (top, bottom), (left, right) = pads
    state.emit(
        Conv(
            input=source,
            output=node.output,
            weight=state.store(node.inputs[1], flipped(weight, groups)),
            bias=vector(state, node, 2, weight.shape[1] * groups),
            kernel=kernel,
            dilation=dilation,
            pads=(top, left, bottom, right),
            groups=groups,
        )
    )


def flipped(weight: npt.NDArray[np.float32], groups: int) -> npt.NDArray[np.float32]:
    """Weights (C, O / groups, KH, KW) as those of a convolution, (O, C / groups, KH, KW)."""
    inputs, outputs, height, width = weight.shape
    parts = weight.reshape(groups, inputs // groups, outputs, height, width).swapaxes(1, 2)
    return parts.reshape(groups * outputs, inputs // groups, height, width)[:, :, ::-1, ::-1]


def _axis(node: OnnxNode, axis: int, size: int, reach: int) -> tuple[tuple[int, ...], Pair]:
    """The input index at each place of an axis (-1 is a zero), and the convolution's padding."""
    stride = pair(node, "strides")[axis]
    before, more, after = _pads(node, axis, size, reach)
    length = (size - 1) * stride + 1
    if min(stride, size) < 1 or not 0 <= more <= MAX_ATTRIBUTE - length:
        raise node.refuse(
            f"strides {node.attrs.get('strides')} and output_padding "
            f"{node.attrs.get('output_padding', 0)} of an input of {size}"
        )
    places = np.full(length + more, -1)
    places[:length:stride] = np.arange(size)
    # Padding beyond the window's reach leaves out what is there.
    first, last = max(0, before - reach), max(0, after - reach)
    places = places[first : len(places) - last]
    return tuple(places.tolist()), (max(0, reach - before), max(0, reach - after))


def _pads(node: OnnxNode, axis: int, size: int, reach: int) -> tuple[int, int, int]:
    """Padding before an axis, zeros to append, and padding after it, with auto_pad resolved."""
    attrs, stride = node.attrs, pair(node, "strides")[axis]
    more = _number(attrs.get("output_padding", (0,)), axis, 0)
    auto = str(attrs.get("auto_pad", "NOTSET"))
    full = stride * (size - 1) + more + reach + 1
    if "output_shape" in attrs:
        total = full - _number(attrs["output_shape"][-2:], axis, 1)
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        total = max(0, full - size * stride)
    elif auto in ("NOTSET", "VALID"):
        pads = attrs.get("pads", (0, 0)) if auto == "NOTSET" else (0, 0)
        half = len(pads) // 2
        return _number(pads[:half], axis, 0), more, _number(pads[half:], axis, 0)
    else:
        raise node.refuse(f"auto_pad is {auto!r}, which is not supported")
    if total < 0:
        total, more = 0, more - total
    less, rest = total // 2, total - total // 2
    return (less, more, rest) if auto == "SAME_UPPER" else (rest, more, less)


def _number(numbers: Sequence[int], axis: int, default: int) -> int:
    """The number of height (axis 0) or width (1); a 1-D operation gives only the width."""
    pair = (default, *numbers) if len(numbers) == 1 else numbers
    return int(pair[axis])
