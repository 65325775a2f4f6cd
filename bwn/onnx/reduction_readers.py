"""Reads ONNX operations over axes: reductions, softmax, normalizations.

An axis of the ONNX tensor is a view of one or more whole axes of a tensor in the graph. If it is a
view of a part of an axis, the tensor is copied first.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Array
from bwn.onnx.import_state import canonical
from bwn.onnx.views import BATCH, Factor, View, merged, row_major
from bwn.ops.broadcasting import Arithmetic, Function
from bwn.ops.normalize import LocalResponse, Normalize
from bwn.ops.onnx_reading import axes_of, read_as, reads, vector
from bwn.ops.pool import Pool
from bwn.ops.reduce import ONNX_OPS, Kind, Reduce
from bwn.ops.softmax import ChannelSoftmax, Softmax

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


def source_axes(view: View, logical: set[int]) -> tuple[int, ...] | None:
    """The axes of the source that correspond to axes of a view; None if they are not whole axes."""
    layout = view.layout
    if layout is None or any(len(dim) > 1 for dim in layout):
        return None
    chosen = tuple(axis for axis, dim in enumerate(layout) if dim and dim[0].axis in logical)
    ordered = all(
        list(axis) == sorted(axis, key=lambda factor: -factor.stride)
        for axis in view.axes
        if BATCH not in axis
    )
    return chosen if ordered else None


def reduced_view(view: View, source: str, axes: tuple[int, ...], logical: set[int]) -> View:
    """The view after a reduction: `axes` of its source, and its own axes `logical`, have size 1."""
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(view.shape))
    before, after = (
        [factor.stride for factor in row_major(sizes)] for sizes in (view.shape, shape)
    )
    parts = [
        (part, Factor(part.factor.size, part.factor.stride // before[dim] * after[dim]))
        for dim, parts in enumerate(view.layout or ())
        for part in parts
    ]
    kept: list[list[Factor]] = [[] for _ in view.axes]
    for number, axis in enumerate(view.axes):
        for factor in axis if number not in logical else ():
            ends = factor.stride, factor.stride * factor.size
            kept[number] += (
                [BATCH]
                if factor == BATCH
                else [
                    moved
                    for part, moved in parts
                    if part.axis == number and ends[0] <= part.factor.stride < ends[1]
                ]
            )
    return View(source, shape, tuple(map(merged, kept)))


def logical_axes(state: ImportState, node: OnnxNode, view: View, numbers: list[int]) -> set[int]:
    """Axes as numbers from 0. Raises GraphError if the batch is one of them."""
    axes = {node.axis(number, view.rank) for number in numbers}
    if any(view.sizes[axis].batch for axis in axes):
        raise node.refuse("goes over the batch; examples must stay independent")
    return axes


def over_axes(
    state: ImportState, node: OnnxNode, logical: set[int]
) -> tuple[View, tuple[int, ...]]:
    """The input as a view whose `logical` axes are whole axes of its source, copied if needed."""
    view = state.view(node)
    axes = source_axes(view, logical)
    if axes is None and view.is_ordinary:
        source = state.planes(node, view, node.inputs[0])
        view = canonical(source, state.shapes[source], view.rank)
        axes = source_axes(view, logical)
    if axes:
        return view, axes
    counts, kept = [size.count for size in view.sizes], set(range(view.rank)) - logical
    first = {axis for axis in kept if axis < min(logical)}
    if any(axis < max(logical) for axis in kept - first):
        first = kept
    parts = [sorted(part) for part in (first, logical, kept - first)]
    order = [axis for part in parts for axis in part]
    before, reduced, after = (prod(counts[axis] for axis in part) for part in parts)
    factors = [factor for axis in order for factor in view.axes[axis] if factor != BATCH]
    shape = (before, reduced, after)
    source = state.copied(view, factors, shape, f"{node.inputs[0]}.planes")
    return View.over(source, shape, view.axes, order), (1,)


@reads(*ONNX_OPS.values())
def read_reduce(state: ImportState, node: OnnxNode) -> None:
    """Over any axes except the batch."""
    numbers = axes_of(node, state.optional(node, 1))
    if not numbers and node.attrs.get("noop_with_empty_axes", 0):
        state.alias(node)
        return
    view = state.view(node)
    logical = logical_axes(state, node, view, numbers or list(range(view.rank)))
    kind = next(kind for kind, op_type in ONNX_OPS.items() if op_type == node.op_type)
    keeps = bool(node.attrs.get("keepdims", 1))
    emit_reduce(state, node, kind, logical, keeps=keeps)


def emit_reduce(
    state: ImportState, node: OnnxNode, kind: Kind, logical: set[int], *, keeps: bool = True
) -> None:
    """Emit a reduction. keeps: whether its axes stay, with size 1. An image's mean is a pooling."""
    view, axes = over_axes(state, node, logical)
    source, shape = view.source, view.shape
    same = keeps and view.is_plain and view.rank != 3
    output = node.output if same else f"{node.output}.planes"
    if kind == "mean" and axes == (1, 2):
        layer = Pool(input=source, output=output, kind="average", kernel=(shape[1], shape[2]))
        state.emit(layer)
    else:
        state.emit(Reduce(input=source, output=output, kind=kind, axes=axes))
    result = reduced_view(view, output, axes, logical)
    state.views[node.output] = result if keeps else result.squeeze(sorted(logical))


@reads("ReduceLogSumExp")
def read_log_sum_exp(state: ImportState, node: OnnxNode) -> None:
    """max + log(sum(exp(x - max))), which does not overflow."""
    axes = axes_of(node, state.optional(node, 1))
    if not axes and node.attrs.get("noop_with_empty_axes", 0):
        state.alias(node)
        return
    x, output = node.inputs[0], node.output
    over = {"axes": axes or list(range(state.view(node).rank))}
    keeps = {"keepdims": node.attrs.get("keepdims", 1)}
    top = read_as(state, node, "ReduceMax", [x], f"{output}.max", **over)
    below = read_as(state, node, "Sub", [x, top], f"{output}.below")
    powers = read_as(state, node, "Exp", [below], f"{output}.exp")
    total = read_as(state, node, "ReduceSum", [powers], f"{output}.sum", **over, **keeps)
    log = read_as(state, node, "Log", [total], f"{output}.log")
    if not keeps["keepdims"]:
        top = read_as(state, node, "Squeeze", [top], f"{output}.squeezed", **over)
    read_as(state, node, "Add", [log, top], output)


@reads("LpNormalization")
def read_lp_normalization(state: ImportState, node: OnnxNode) -> None:
    """x / (its norm over one axis), of p 1 or 2; 0 where the norm is 0."""
    x, output, p = node.inputs[0], node.output, node.attrs.get("p", 2)
    if p not in (1, 2):
        raise node.refuse(f"p is {p}, expected 1 or 2")
    axes = [node.attrs.get("axis", -1)]
    least = f"{output}.least"
    state.constants[least] = np.asarray(np.finfo(np.float32).tiny)  # 0 / least is 0, 0 / 0 is not
    norm = read_as(state, node, f"ReduceL{p}", [x], f"{output}.norm", axes=axes)
    above = read_as(state, node, "Max", [norm, least], f"{output}.above")
    read_as(state, node, "Div", [x, above], output)


@reads("Softmax", "LogSoftmax")
def read_softmax(state: ImportState, node: OnnxNode) -> None:
    """Over one axis; before opset 13, axes after it must have size 1."""
    view, log = state.view(node), node.op_type == "LogSoftmax"
    number = node.attrs.get("axis", -1 if state.opset >= 13 else 1)
    (axis,) = logical_axes(state, node, view, [number])
    if state.opset < 13 and any(size.count > 1 for size in view.sizes[axis + 1 :]):
        raise node.refuse(f"goes over several axes of {view}; export with opset 13 or newer")
    view = state.channels_last(node, axis=axis)
    if len(view.shape) == 1 and not log:
        state.emit(Softmax(input=view.source, output=node.output), like=view)
    else:
        layer = ChannelSoftmax(input=view.source, output=node.output, log=log)
        state.emit(layer, like=view)


@reads("LayerNormalization")
def read_layer_norm(state: ImportState, node: OnnxNode) -> None:
    """Over the last axis, or over all axes except the batch."""
    if any(node.outputs[1:]):
        raise node.refuse("has a second output, which is not supported")
    view, epsilon = state.view(node), float(node.attrs.get("epsilon", 1e-5))
    axis = min(logical_axes(state, node, view, [node.attrs.get("axis", -1)]))
    if axis == view.rank - 1:
        view = state.channels_last(node)
        channels = view.shape[0]
        layer = Normalize(
            input=view.source,
            output=node.output,
            over="channels",
            scale=vector(state, node, 1, channels),
            bias=vector(state, node, 2, channels),
            epsilon=epsilon,
        )
        state.emit(layer, like=view)
    elif axis == 1:
        view = state.whole(node)
        emit_norm_of_all(state, node, view, epsilon)
    else:
        raise node.refuse(f"goes over the axes of {view} from {axis} on; supported: the last, all")


def emit_norm_of_all(state: ImportState, node: OnnxNode, view: View, epsilon: float) -> None:
    """Normalize all numbers of an example, with a scale and bias of any shape that fits."""
    arrays: list[Array | None] = [
        state.weights_like(node, index, view) if node.has(index) else None for index in (1, 2)
    ]
    functions: tuple[Function, Function] = ("mul", "add")
    steps = [
        (function, array)
        for function, array in zip(functions, arrays, strict=True)
        if array is not None
    ]
    name = f"{node.output}.norm" if steps else node.output
    state.emit(Normalize(input=view.source, output=name, over="group", epsilon=epsilon), like=view)
    for index, (function, array) in enumerate(steps):
        last = index == len(steps) - 1
        output = node.output if last else f"{node.output}.scaled"
        constant = state.store(f"{output}.{function}", array)
        source = state.views[name].source
        layer = Arithmetic(input=source, output=output, function=function, constant=constant)
        state.emit(layer, like=view)
        name = output


@reads("InstanceNormalization")
def read_instance_norm(state: ImportState, node: OnnxNode) -> None:
    """Normalizes each channel; after a Reshape of channels into groups, each group."""
    view, groups = state.view(node), state.view(node).sizes[1].count
    layout = view.layout
    fits = layout is not None and all(
        part.axis != 1 or (axis == 0 and not place)
        for axis, dim in enumerate(layout)
        for place, part in enumerate(dim)
    )
    if not fits or len(view.shape) == 1:
        source = state.activation(node)[0]
        view = canonical(source, state.shapes[source], view.rank)
    emit_group_norm(state, node, view, groups, vectors=groups)


@reads("GroupNormalization")
def read_group_norm(state: ImportState, node: OnnxNode) -> None:
    """Normalizes groups of channels, with a scale and bias for each channel (opset 21)."""
    source = state.activation(node)[0]
    view = canonical(source, state.shapes[source], state.view(node).rank)
    groups = int(node.attrs["num_groups"])
    if groups < 1 or view.shape[0] % groups:
        raise node.refuse(f"{groups} groups do not divide {view.shape[0]} channels")
    emit_group_norm(state, node, view, groups)


def emit_group_norm(
    state: ImportState, node: OnnxNode, view: View, groups: int, vectors: int | None = None
) -> None:
    """Emit a normalization of groups of channels.

    vectors: Length of scale and bias, each number for equally many channels; None: one per
        channel.
    """
    channels = view.shape[0]
    names = []
    for index in (1, 2):
        array = state.weights(node, index)
        expected = vectors or channels
        if array.shape != (expected,):
            raise node.refuse(
                f"'{node.inputs[index]}' has shape {array.shape}, expected ({expected},)"
            )
        names.append(state.store(node.inputs[index], np.repeat(array, channels // expected)))
    layer = Normalize(
        input=view.source,
        output=node.output,
        over="group",
        groups=groups,
        scale=names[0],
        bias=names[1],
        epsilon=float(node.attrs.get("epsilon", 1e-5)),
    )
    state.emit(layer, like=view)


@reads("LRN")
def read_lrn(state: ImportState, node: OnnxNode) -> None:
    """Over neighboring channels."""
    source, attributes = state.activation(node)[0], node.attrs
    state.emit(
        LocalResponse(
            input=source,
            output=node.output,
            size=int(attributes["size"]),
            alpha=float(attributes.get("alpha", 1e-4)),
            beta=float(attributes.get("beta", 0.75)),
            k=float(attributes.get("bias", 1.0)),
        )
    )
