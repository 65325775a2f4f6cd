"""Import of pools, reshapes and the ops that change nothing: one function an ONNX op, by its name in SHAPING."""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np
import onnx

from bwn.ir.graph import Flatten, Pads, Pair, Pool, Shape, Softmax
from bwn.onnx.constant_folding import BATCH, axes_of
from bwn.onnx.import_state import Importer, refuse
from bwn.onnx.layers import Attributes, Handler
from bwn.onnx.padding import ceil_pads, pair, window_pads

Kind = Literal["max", "average"]


def pool(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """MaxPool and AveragePool."""
    source, shape = image(state, node)
    kind: Kind = "max" if node.op_type == "MaxPool" else "average"
    kernel, stride = pair(node, attrs, "kernel_shape"), pair(node, attrs, "strides")
    if pair(node, attrs, "dilations") != (1, 1) or any(node.output[1:]):
        raise refuse(node, "dilations and a second output are not supported")
    if min(kernel) < 1 or min(stride) < 1:
        raise refuse(node, f"kernel {kernel}, strides {stride}: expected each at least 1")
    size = (shape[1], shape[2])
    pads = window_pads(node, attrs, size, kernel, stride)
    if attrs.get("ceil_mode", 0):
        pads = resolve_ceil(node, kind, pads, size, kernel, stride)
    made = Pool(
        input=source,
        output=node.output[0],
        kind=kind,
        kernel=kernel,
        stride=stride,
        pads=pads,
        count_pads=bool(attrs.get("count_include_pad", 0)),
    )
    state.emit(made)


def resolve_ceil(
    node: onnx.NodeProto, kind: Kind, pads: Pads, size: Pair, kernel: Pair, stride: Pair
) -> Pads:
    """Padding that makes ceil_mode's windows; an average would count it wrongly."""
    resolved = ceil_pads(pads, size, kernel, stride)
    if kind == "average" and resolved != pads:
        rest = [
            (size[axis] + pads[axis] + pads[axis + 2] - kernel[axis]) % stride[axis]
            for axis in (0, 1)
        ]
        if any(rest):
            raise refuse(
                node, "ceil_mode = 1 is not supported for averages; export with ceil_mode off"
            )
        return pads
    return resolved


def image(state: Importer, node: onnx.NodeProto) -> tuple[str, Shape]:
    """Name and (C, H, W) of the first input."""
    source, shape = state.activation(node)
    if len(shape) != 3:
        raise refuse(node, f"input has shape {shape}, expected (channels, height, width)")
    return source, shape


def global_pool(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    source, shape = image(state, node)
    kind: Kind = "max" if node.op_type == "GlobalMaxPool" else "average"
    state.emit(Pool(input=source, output=node.output[0], kind=kind, kernel=(shape[1], shape[2])))


def reduce_mean(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """ReduceMean over height and width."""
    source, shape = image(state, node)
    extra = [
        state.constant(node, index) for index in range(1, len(node.input)) if node.input[index]
    ]
    axes = axes_of(node, [np.zeros(0), *extra], attrs)
    if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise refuse(
            node, f"axes are {axes}; only the mean over height and width, axes (2, 3), is supported"
        )
    kept = bool(attrs.get("keepdims", 1))
    pooled = node.output[0] if kept else f"{node.output[0]}.pool"
    state.emit(Pool(input=source, output=pooled, kind="average", kernel=(shape[1], shape[2])))
    if not kept:
        state.emit(Flatten(input=pooled, output=node.output[0]))


def flatten(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Flatten from axis 1."""
    source, shape = state.activation(node)
    if attrs.get("axis", 1) not in (1, -len(shape)):
        raise refuse(node, f"axis is {attrs['axis']}; only axis 1 (all but the batch) is supported")
    flat(state, node, source, shape)


def flat(state: Importer, node: onnx.NodeProto, source: str, shape: Shape) -> None:
    """Emit a Flatten, or nothing where there is nothing to flatten."""
    if len(shape) == 1:
        state.alias(node)
    else:
        state.emit(Flatten(input=source, output=node.output[0]))


def reshape(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Reshape to (N, -1), or to the shape that is there."""
    source, shape = state.activation(node)
    target = [int(size) for size in state.constant(node, 1).reshape(-1)]
    if not attrs.get("allowzero", 0):
        full = (BATCH, *shape)
        target = [
            full[axis] if size == 0 and axis < len(full) else size
            for axis, size in enumerate(target)
        ]
    if state.single and target[:1] == [1]:
        target[0] = BATCH
    rest = target[1:]
    if target[:1] == [-1] or target[:1] == [BATCH]:
        if rest == [prod(shape)] or (rest == [-1] and target[0] == BATCH):
            flat(state, node, source, shape)
            return
        if rest == list(shape):
            state.alias(node)
            return
    shown = ["N" if size == BATCH else size for size in target]
    raise refuse(node, f"to {shown} of {('N', *shape)}; only (N, all the rest) is supported")


def squeeze(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Squeeze of (C, 1, 1) to (C,)."""
    source, shape = state.activation(node)
    extra = [
        state.constant(node, index) for index in range(1, len(node.input)) if node.input[index]
    ]
    axes = axes_of(node, [np.zeros(0), *extra], attrs)
    if (
        axes is None
        or sorted(axis % (len(shape) + 1) for axis in axes) != [2, 3]
        or shape[1:] != (1, 1)
    ):
        raise refuse(
            node, f"axes {axes} of {('N', *shape)}; only (N, C, 1, 1) to (N, C) is supported"
        )
    flat(state, node, source, shape)


def softmax(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Softmax over the classes."""
    source, shape = state.activation(node)
    if len(shape) != 1 or attrs.get("axis", -1 if state.opset >= 13 else 1) not in (1, -1):
        raise refuse(node, f"of {('N', *shape)}: only the last axis of (N, classes) is supported")
    state.emit(Softmax(input=source, output=node.output[0]))


def unchanged(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Identity, Dropout at inference, Cast of float32 to float32."""
    if node.op_type == "Cast" and attrs.get("to") != onnx.TensorProto.FLOAT:
        raise refuse(
            node, "of activations to another type is not supported; export the model in float32"
        )
    if node.op_type == "Dropout":
        training = len(node.input) > 2 and node.input[2] and state.constant(node, 2).any()
        if training or any(node.output[1:]):
            raise refuse(node, "is in training mode; export the model for inference")
    state.alias(node)


def shape_of(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Shape of an activation: known but for the batch."""
    full = np.asarray((BATCH, *state.activation(node)[1]), np.int64)
    state.constants[node.output[0]] = full[attrs.get("start", 0) : attrs.get("end", len(full))]


SHAPING: dict[str, Handler] = {
    **dict.fromkeys(("MaxPool", "AveragePool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), global_pool),
    "ReduceMean": reduce_mean,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Softmax": softmax,
    **dict.fromkeys(("Identity", "Dropout", "Cast"), unchanged),
    "Shape": shape_of,
}
