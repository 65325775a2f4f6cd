"""ONNX operations that pick elements by constant indices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bwn.onnx.constants import BATCHES
from bwn.onnx.picking import by_lists, progression, whole_lists
from bwn.onnx.view_readers import sliced
from bwn.onnx.views import BATCH, Factor, Size, View
from bwn.ops.gather import Gather, Indices
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("Gather")
def read_gather(state: ImportState, node: OnnxNode) -> None:
    """Constant indices on one axis, which the axes of the indices replace."""
    view = state.view(node)
    axis = node.axis(node.attrs.get("axis", 0), view.rank)
    one = state.is_constant(node, 1) and state.constant(node, 1).size == 1
    if one and state.single and view.sizes[axis] == Size(1, batch=True):
        view = state.movable(node)  # the one example of a batch of 1
    varies = node.has(1) and (state.single or node.inputs[1] in state.varying)
    if varies and view.sizes[axis].batch:
        view, indices = per_example(state, node, view, axis)
        axis += 1
    else:
        indices = state.constant(node, 1).astype(np.int64)
    if view.sizes[axis].batch:
        raise node.refuse("picks from the batch; examples must stay independent")
    size = view.sizes[axis].count
    if not indices.size or not -size <= indices.min() <= indices.max() < size:
        raise node.refuse(f"has indices of shape {indices.shape} for an axis of {size} elements")
    pick(state, node, view, axis, indices % size)


def per_example(state: ImportState, node: OnnxNode, view: View, axis: int) -> tuple[View, Indices]:
    """Split an axis of N * K elements, of which each example picks its own, into N and K.

    Returns:
        The view with those axes, and the indices of one example, from 0.
    """
    size = view.sizes[axis].count
    samples = (state.constant(node, 1),) if state.single else state.varying[node.inputs[1]]
    indices: Indices = np.atleast_1d(samples[0]).astype(np.int64)
    for batch, sample in zip(BATCHES, samples, strict=False):
        steps = size * np.arange(batch).reshape(-1, *[1] * (indices.ndim - 1))
        if sample.shape[:1] != (batch,) or not np.array_equal(sample, indices + steps):
            raise node.refuse("picks from the batch; examples must stay independent")
    first, *rest = view.axes[axis]
    if first != BATCH or (indices < 0).any():  # one from the end is of the last example
        raise node.refuse(f"picks from {view}, where examples are mixed")
    axes = (*view.axes[:axis], (BATCH,), tuple(rest), *view.axes[axis + 1 :])
    return view._replace(axes=axes), indices[0]


@reads("GatherND")
def read_gather_nd(state: ImportState, node: OnnxNode) -> None:
    """Constant indices on the first axes, none of which is the batch."""
    view, indices = state.view(node), state.constant(node, 1).astype(np.int64)
    count = indices.shape[-1] if indices.ndim else 0
    if node.attrs.get("batch_dims", 0) or not 0 < count <= view.rank:
        raise node.refuse(f"has indices of shape {indices.shape}, which is not supported")
    sizes = view.sizes[:count]
    if any(size.batch for size in sizes):
        raise node.refuse("picks from the batch; examples must stay independent")
    counts = np.array([size.count for size in sizes])
    if not indices.size or (indices < -counts).any() or (indices >= counts).any():
        raise node.refuse(f"has indices that leave {view}")
    flat = np.ravel_multi_index(tuple(np.moveaxis(indices % counts, -1, 0)), tuple(counts))
    joined = view.joined([range(count), *([axis] for axis in range(count, view.rank))])
    pick(state, node, joined, 0, np.asarray(flat, np.int64))


def pick(state: ImportState, node: OnnxNode, view: View, axis: int, indices: Indices) -> None:
    """Set a node's output to elements of an axis, in the shape of `indices`."""
    numbers = indices.reshape(-1)
    even, plain = progression(numbers), view.is_ordinary
    if even is not None and (even[1] or len(numbers) == 1):
        first, step = even[0], even[1] or 1
        chosen = range(first, first + step * len(numbers), step)
        picked = (
            sliced(state, node, view, axis, chosen)
            if plain
            else view.slice(axis, first, step, len(numbers))
        )
        result = picked and picked.split_axis(axis, indices.shape)
        if result is not None:
            state.set_view(node, result)
            return
    if view == state.view(node) and plain and indices.ndim == 1:  # the axes stay as they lie
        source, shape = state.activation(node)
        lists = whole_lists(shape)
        lists[axis - 1 if view.rank < len(shape) + 1 and axis == 1 else axis - view.rank] = numbers
        state.emit(by_lists(source, shape, node.output, lists))
        return
    result = picked_last(state, node, view, axis, numbers).split_axis(axis, indices.shape)
    assert result is not None, "an axis of a copy is one factor"
    state.views[node.output] = result


def picked_last(
    state: ImportState, node: OnnxNode, view: View, axis: int, numbers: Indices
) -> View:
    """A view of some elements of an axis, picked from a copy that has this axis last."""
    order = [number for number in range(view.rank) if number != axis]
    rest = [factor for number in order for factor in view.axes[number] if factor != BATCH]
    shape = (prod(factor.size for factor in rest), 1, view.sizes[axis].count)
    source = state.copied(view, (*rest, *view.axes[axis]), shape, f"{node.inputs[0]}.planes")
    picked = Gather(
        input=source,
        output=f"{node.output}.planes",
        indices=((), (), tuple(map(int, numbers))),
    )
    state.emit(picked)
    axes = [*view.axes[:axis], (Factor(len(numbers), 0),), *view.axes[axis + 1 :]]
    return View.over(picked.output, (*shape[:2], len(numbers)), axes, (*order, axis))
