"""ONNX operations that only pick elements: Slice, Split, Gather, Expand, Tile, and their helpers.

Each becomes a Rearrange where a loop with strides says what it picks, else a Gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Array as AnyArray
from bwn.ir.node import Shape
from bwn.ops.gather import Array, Gather
from bwn.ops.onnx_reading import reads
from bwn.ops.rearrange import Rearrange

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState, OnnxNode


def ir_axis(node: OnnxNode, axis: int, shape: Shape) -> int:
    """The axis of the IR's shape, which has no batch, of an axis as ONNX counts them.

    Raises:
        GraphError: It is the batch, or beyond the tensor.
    """
    rank = len(shape) + 1
    if not -rank <= axis < rank:
        raise node.refuse(f"axis {axis} of a tensor of {rank} axes")
    if axis % rank == 0:
        raise node.refuse("works on axis 0, the batch; examples must stay independent")
    return axis % rank - 1


def flat_strides(shape: Shape) -> list[int]:
    """Elements from one index of each axis to the next, in row-major order."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def progression(indices: Array) -> tuple[int, int] | None:
    """First index and step of indices that are evenly spaced; None where they are not."""
    steps = np.diff(indices)
    if len(steps) and (steps != steps[0]).any():
        return None
    return int(indices[0]), int(steps[0]) if len(steps) else 0


def emit_lists(
    state: ImportState, source: str, shape: Shape, output: str, lists: Sequence[Array]
) -> None:
    """Emit the node that picks elements of (C, H, W) or (K,) by a list for each axis."""
    even = [progression(indices) for indices in lists]
    sizes = tuple(map(len, lists))
    if any(pair is None for pair in even):
        whole = [np.array_equal(i, np.arange(n)) for i, n in zip(lists, shape, strict=True)]
        indices = tuple(
            () if all_of_it else tuple(map(int, numbers))
            for numbers, all_of_it in zip(lists, whole, strict=True)
        )
        state.emit(Gather(input=source, output=output, indices=indices))
        return
    pairs = [pair for pair in even if pair is not None]
    strides = flat_strides(shape)
    state.emit(
        Rearrange(
            input=source,
            output=output,
            shape=sizes,
            sizes=sizes,
            strides=tuple(step * stride for (_, step), stride in zip(pairs, strides, strict=True)),
            offset=sum(first * stride for (first, _), stride in zip(pairs, strides, strict=True)),
        )
    )


def whole_lists(shape: Shape) -> list[Array]:
    """Index lists that pick everything."""
    return [np.arange(size) for size in shape]


@reads("Slice")
def read_slice(state: ImportState, node: OnnxNode) -> None:
    """Of constant bounds, clamped as ONNX says; steps may be negative."""
    source, shape = state.activation(node)
    starts, ends = (integers(state.constant(node, index)) for index in (1, 2))
    axes, steps = (integers(state.optional(node, index)) for index in (3, 4))
    bounds = zip(
        starts,
        ends,
        axes or range(len(starts)),
        steps or [1] * len(starts),
        strict=True,
    )
    lists = whole_lists(shape)
    for start, end, axis, step in bounds:
        if axis % (len(shape) + 1) == 0 and start == 0 and step == 1 and end >= MOST:
            continue  # the whole batch
        index = ir_axis(node, axis, shape)
        lists[index] = lists[index][bounded(start, end, step, shape[index])]
        if not len(lists[index]):
            raise node.refuse(f"leaves nothing of axis {axis}")
    emit_lists(state, source, shape, node.output, lists)


def integers(array: AnyArray | None) -> list[int]:
    """The integers of a constant; none of one that is absent."""
    return [] if array is None else [int(number) for number in np.ravel(array)]


MOST = 2**31 - 1
"""An end from which on a slice of the batch takes all of it, as exporters write it."""


def bounded(start: int, end: int, step: int, size: int) -> slice:
    """A Python slice that picks what ONNX's does, which clamps bounds to the axis."""
    if step == 0:
        step = 1
    lowest = -1 if step < 0 else 0
    start = min(max(start + size * (start < 0), 0), size - (step < 0))
    end = min(max(end + size * (end < 0), lowest), size)
    return slice(start, None if end < 0 else end, step)


@reads("Gather")
def read_gather(state: ImportState, node: OnnxNode) -> None:
    """By constant indices, a list or one; one removes the axis."""
    source, shape = state.activation(node)
    axis = ir_axis(node, node.attrs.get("axis", 0), shape)
    indices, size = state.constant(node, 1).astype(np.int64), shape[axis]
    if indices.ndim > 1 or not indices.size or indices.min() < -size or indices.max() >= size:
        raise node.refuse(f"indices of shape {indices.shape} for an axis of {size} elements")
    lists = whole_lists(shape)
    lists[axis] = np.ravel(indices) % size
    emit_lists(state, source, shape, node.output, lists)
