"""The table of readers of ONNX operations, and functions that several readers share.

A reader is a function of the import's state and one ONNX node with plain Python values. It emits
nodes, makes a view of a tensor, or leaves half of a pattern in `state.pending`. Nothing here
imports onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.node import Array, Pair
from bwn.ir.quantization import Quantization
from bwn.ops.window import Pads, Window

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.onnx.views import View

Reader = Callable[["ImportState", "OnnxNode"], None]

READERS: dict[str, Reader] = {}
"""The reader of each ONNX operation; `reads` fills it."""


def reads(*op_types: str) -> Callable[[Reader], Reader]:
    """Decorator for the function that reads these ONNX operations."""

    def register(reader: Reader) -> Reader:
        for op_type in op_types:
            if op_type in READERS:
                raise ValueError(f"{op_type} has two readers")
            READERS[op_type] = reader
        return reader

    return register


def read_as(
    state: ImportState, node: OnnxNode, op_type: str, inputs: Sequence[str], output: str,
    **attributes: Any,
) -> str:  # fmt: skip
    """Read another operation as a part of `node`.

    Args:
        state: Of the import.
        node: Whose name refusals give.
        op_type: The operation.
        inputs: Names of its inputs, which `state` knows.
        output: Name of its output.
        attributes: Of the operation.

    Returns:
        `output`.
    """
    part = replace(node, op_type=op_type, inputs=tuple(inputs), outputs=(output,))
    READERS[op_type](state, replace(part, attrs=attributes, proto=None))
    return output


class Pending(msgspec.Struct, frozen=True):
    """Half of a pattern on an activation, which only the node that completes it can read.

    Attributes:
        kind: `compare`, `choice` (one of two values, by a comparison), `sign` (sign(x), with
            sign(0) = 0), `raised` (sign(x) + c, 0 < c < 1), `quantized` (integers q) or
            `surrounded` (padded with -inf).
        view: The activation x.
        positive: For comparisons: whether it is true where x >= 0, or where x < 0.
        values: For a choice: the value where the comparison is true, and the other value.
        quantization: For quantized integers: their scale, zero point and range.
        pads: For a padded tensor: top, left, bottom, right.
        complete: Emits it when another node than the one that completes the pattern reads it.
    """

    kind: str
    view: View
    positive: bool = True
    values: tuple[Array, Array] | None = None
    quantization: Quantization | None = None
    pads: Pads = (0, 0, 0, 0)
    complete: Callable[[ImportState, str], None] | None = None


def vector(
    state: ImportState, node: OnnxNode, index: int, count: int, factor: float = 1.0
) -> str | None:
    """Name of an input stored as a vector of `count` numbers times `factor`; None if missing."""
    if not node.has(index):
        return None
    array = state.weights(node, index)
    rows, columns = array.shape[:-1], array.shape[-1:]
    if rows not in ((), (1,)) or columns not in ((), (1,), (count,)):
        raise node.refuse(f"'{node.inputs[index]}' has shape {array.shape}, expected ({count},)")
    numbers = np.broadcast_to(array.reshape(-1), (count,))
    if factor != 1:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            numbers = numbers * np.float32(factor)
    return state.store(node.inputs[index], numbers)


def axes_of(node: OnnxNode, axes: Array | None) -> list[int] | None:
    """The axes of a node: an attribute in old opsets, the input `axes` in new ones."""
    numbers = node.attrs.get("axes", axes)
    return None if numbers is None else [int(axis) for axis in np.ravel(numbers)]


def parameter(
    state: ImportState, node: OnnxNode, index: int, count: int
) -> npt.NDArray[np.float32]:
    """An input with one number per channel, (count,) float32; GraphError for other shapes."""
    array = state.weights(node, index)
    if array.shape != (count,):
        raise node.refuse(f"'{node.inputs[index]}' has shape {array.shape}, expected ({count},)")
    return array


def pair(node: OnnxNode, name: str) -> Pair:
    """A two-number attribute, by default (1, 1); for a 1-D operation (1, its number)."""
    values = [int(value) for value in node.attrs.get(name, (1, 1))]
    if len(values) not in (1, 2):
        raise node.refuse(f"{name} is {values}; only 1-D and 2-D operations are supported")
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


def window_pads(node: OnnxNode, size: Pair, window: Window) -> Pads:
    """Padding of windows over an input of `size`, with auto_pad resolved. window.pads: unused."""
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = [int(pad) for pad in node.attrs.get("pads", (0, 0, 0, 0))]
        if len(pads) not in (2, 4):
            raise node.refuse(f"pads are {pads}; only 1-D and 2-D operations are supported")
        return (pads[0], pads[1], pads[2], pads[3]) if len(pads) == 4 else (0, pads[0], 0, pads[1])
    if auto == "VALID":
        return 0, 0, 0, 0
    if auto not in ("SAME_UPPER", "SAME_LOWER") or min(window.stride) < 1:
        raise node.refuse(
            f"auto_pad is {auto!r} with strides {window.stride}, which is not supported"
        )
    vertical, horizontal = (
        same_pads(*axis, upper=auto == "SAME_UPPER")
        for axis in zip(size, window.kernel, window.stride, window.dilation, strict=True)
    )
    return vertical[0], horizontal[0], vertical[1], horizontal[1]


def same_pads(size: int, kernel: int, stride: int, dilation: int, upper: bool) -> Pair:
    """Padding before and after, such that the output has ceil(size / stride) positions."""
    windows = -(-size // stride)
    total = max((windows - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)


def ceil_pads(size: Pair, window: Window) -> Pads:
    """`window.pads` enlarged below and right so that the windows of ceil_mode fit.

    Windows that would start beyond the image and its padding above or left are left out.
    """
    stride, pads = window.stride, window.pads
    kernel = [window.dilation[axis] * (window.kernel[axis] - 1) + 1 for axis in (0, 1)]
    after = list(pads[2:])
    for axis in (0, 1):
        padded = size[axis] + pads[axis] + pads[axis + 2]
        windows = -(-(padded - kernel[axis]) // stride[axis]) + 1
        if (windows - 1) * stride[axis] >= size[axis] + pads[axis]:
            windows -= 1
        end = (windows - 1) * stride[axis] + kernel[axis] - size[axis] - pads[axis]
        after[axis] = max(pads[axis + 2], end)
    return pads[0], pads[1], after[0], after[1]
