"""Reads ONNX operations that only move elements: each makes a view of its input."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bwn.onnx.constants import BATCHES
from bwn.onnx.import_state import canonical
from bwn.onnx.views import Factor, Size, View, merged
from bwn.ops.onnx_reading import axes_of, reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

END = 2**31 - 1
"""Least end of a slice that takes the whole batch, as exporters write it."""
Groups = tuple[tuple[int, ...], ...]
"""The axes that are joined to each axis of the result, outermost first."""


@reads("Identity")
def read_identity(state: ImportState, node: OnnxNode) -> None:
    """Another name for its input."""
    state.alias(node)


@reads("Cast")
def read_cast(state: ImportState, node: OnnxNode) -> None:
    """To float32, which has no effect; from a comparison to any type, as 1 and 0."""
    if node.attrs.get("to") != np.float32:
        raise node.refuse(
            "of activations to another type is not supported; export the model in float32"
        )
    state.alias(node)


@reads("Dropout")
def read_dropout(state: ImportState, node: OnnxNode) -> None:
    """Has no effect at inference."""
    if node.has(2) and state.constant(node, 2).any():
        raise node.refuse("is in training mode; export the model for inference")
    state.alias(node)


@reads("Shape")
def read_shape(state: ImportState, node: OnnxNode) -> None:
    """Becomes a constant, in which only the batch size may vary."""
    sizes = state.view(node).sizes
    chosen = slice(node.attrs.get("start", 0), node.attrs.get("end", len(sizes)))
    arrays = tuple(
        np.asarray([size.count * (batch if size.batch else 1) for size in sizes], np.int64)[chosen]
        for batch in ((1,) if state.single else BATCHES)
    )
    state.set_constant(node.output, arrays)


@reads("Transpose")
def read_transpose(state: ImportState, node: OnnxNode) -> None:
    """Reorders axes; reverses them without `perm`."""
    view = state.movable(node)
    order = node.attrs.get("perm", range(view.rank)[::-1])
    state.set_view(node, state.legal(node, lambda: view.transpose(order)))


@reads("Squeeze")
def read_squeeze(state: ImportState, node: OnnxNode) -> None:
    """Removes axes of size 1."""
    view, axes = state.movable(node), axes_of(node, state.optional(node, 1))
    # For ONNX Runtime, an empty list means all of them.
    state.set_view(node, state.legal(node, lambda: view.squeeze(axes or None)))


@reads("Unsqueeze")
def read_unsqueeze(state: ImportState, node: OnnxNode) -> None:
    """Adds axes of size 1."""
    view, axes = state.movable(node), axes_of(node, state.optional(node, 1)) or []
    state.set_view(node, state.legal(node, lambda: view.unsqueeze(axes)))


@reads("Flatten")
def read_flatten(state: ImportState, node: OnnxNode) -> None:
    """Joins the axes before `axis`, and the axes from it on."""
    view, axis = state.movable(node), node.attrs.get("axis", 1)
    axis = axis if axis == view.rank else node.axis(axis, view.rank)
    halves = view.sizes[:axis], view.sizes[axis:]
    sizes = [
        Size(prod(size.count for size in half), any(size.batch for size in half)) for half in halves
    ]
    reshape(state, node, view, sizes)


@reads("Reshape")
def read_reshape(state: ImportState, node: OnnxNode) -> None:
    """The same elements on other axes; 0 keeps a size, -1 is inferred."""
    view, sizes = state.movable(node), list(state.sizes(node, 1))
    for axis, size in enumerate(sizes):
        if size == Size(0) and not node.attrs.get("allowzero", 0):
            if axis >= view.rank:
                raise node.refuse(f"keeps axis {axis} of {view}, which has fewer")
            sizes[axis] = view.sizes[axis]
    if Size(-1) in sizes:
        known = prod(size.count for size in sizes if size != Size(-1))
        total = prod(size.count for size in view.sizes)
        if known > 0 and total % known and not state.single:
            raise node.refuse(
                f"cannot turn {view} into {', '.join(map(str, sizes))}, "
                "unless examples of the batch are mixed"
            )
        batch = not state.single and not any(size.batch for size in sizes)
        rest = Size(total // max(known, 1), batch)
        sizes[sizes.index(Size(-1))] = rest
    reshape(state, node, view, sizes)


def reshape(state: ImportState, node: OnnxNode, view: View, sizes: list[Size]) -> None:
    """Set a node's output to its input with other axes, copied if a view cannot have them."""
    if state.single:
        sizes = [Size(size.count) for size in sizes]
    result = state.legal(node, lambda: view.reshape(sizes))
    if result is None:
        view = in_order(state, node, view)
        result = view.reshape(sizes)
    if result is None:
        shown = ", ".join(map(str, sizes))
        raise node.refuse(f"turns {view} into ({shown}), which mixes examples of the batch")
    state.set_view(node, result)


def in_order(state: ImportState, node: OnnxNode, view: View) -> View:
    """A view of the first input with its elements in order, copied if needed."""
    view = view.with_batch() if state.single else view
    source = state.planes(node, view, node.inputs[0])
    view = canonical(source, state.shapes[source], view.rank)
    return view.without_batch() if state.single else view


@reads("Expand")
def read_expand(state: ImportState, node: OnnxNode) -> None:
    """Repeats axes of size 1, and adds axes at the front."""
    view, sizes = state.movable(node), state.sizes(node, 1)
    view = view.unsqueeze(range(len(sizes) - view.rank))
    for axis, size in enumerate(sizes, view.rank - len(sizes)):
        own = view.sizes[axis]
        if own == Size(1) and not size.batch and size.count > 0:
            view = view.expand(axis, size.count)
        elif size not in (own, Size(1), Size(own.count)):
            raise node.refuse(f"repeats axis {axis} of {view}, of size {own}, to {size}")
    state.set_view(node, view)


@reads("Tile")
def read_tile(state: ImportState, node: OnnxNode) -> None:
    """Repeats the tensor along any axis except the batch."""
    view, counts = state.movable(node), state.sizes(node, 1)
    if len(counts) != view.rank or any(size.batch or size.count < 1 for size in counts):
        raise node.refuse(f"repeats {view} {', '.join(map(str, counts))} times")
    if any(own.batch and size.count > 1 for own, size in zip(view.sizes, counts, strict=True)):
        raise node.refuse("works on axis 0, the batch; examples must stay independent")
    axes = (
        merged((Factor(size.count, 0), *axis)) for size, axis in zip(counts, view.axes, strict=True)
    )
    state.set_view(node, view._replace(axes=tuple(axes)))


@reads("Slice")
def read_slice(state: ImportState, node: OnnxNode) -> None:
    """Any axes except the batch, with steps."""
    view = state.movable(node)
    starts, ends, axes, steps = (state.int_list(node, index) for index in (1, 2, 3, 4))
    axes, steps = axes or [*range(len(starts))], steps or [1] * len(starts)
    counts = {len(starts), len(ends), len(axes), len(steps)}
    if len(counts) > 1:
        raise node.refuse(
            f"has {len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps, "
            "expected as many of each"
        )
    for number, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = node.axis(number, view.rank)
        size = view.sizes[axis]
        if size.batch:
            if (start, step) != (0, 1) or end < END:
                raise node.refuse("takes a part of the batch")
            continue
        if step == 0:
            raise node.refuse("has a step of 0")
        chosen = range(size.count)[slice(start, end, step)]
        if not chosen:
            raise node.refuse(f"takes nothing of {view}")
        view = sliced(state, node, view, axis, chosen)
    state.set_view(node, view)


@reads("Split")
def read_split(state: ImportState, node: OnnxNode) -> None:
    """Consecutive parts of an axis; parts may be empty."""
    view = state.movable(node)
    axis = node.axis(node.attrs.get("axis", 0), view.rank)
    count = view.sizes[axis].count
    if view.sizes[axis].batch:
        raise node.refuse("splits the batch")
    sizes = node.attrs.get("split", np.ravel(state.constant(node, 1)) if node.has(1) else None)
    if sizes is None:
        parts = len(node.outputs)
        each = -(-count // parts)
        sizes = [min(each, count - index * each) for index in range(parts)]
    if sum(sizes) != count or min(sizes) < 0:
        raise node.refuse(f"splits {count} into {list(map(int, sizes))}")
    start = 0
    for index, size in enumerate(map(int, sizes)):
        if size == 0:
            counts = [own.count for own in view.sizes]
            counts[axis] = 0
            state.set_constant(node.outputs[index], (np.zeros(counts, np.float32),))
            continue
        chosen = range(start, start + size)
        state.set_view(node, sliced(state, node, view, axis, chosen), output=index)
        start += size


def sliced(state: ImportState, node: OnnxNode, view: View, axis: int, chosen: range) -> View:
    """A view of some elements of an axis, copied if the axis does not have one stride."""
    if chosen == range(view.sizes[axis].count):
        return view
    result = view.slice(axis, chosen.start, chosen.step, len(chosen))
    if result is None:
        view = in_order(state, node, view)
        result = view.slice(axis, chosen.start, chosen.step, len(chosen))
    assert result is not None, "an axis of a copy is one factor"
    return result


@reads("DepthToSpace")
def read_depth_to_space(state: ImportState, node: OnnxNode) -> None:
    """Blocks of channels become blocks of pixels."""
    channels, height, width = _image(state, node)
    block = int(node.attrs["blocksize"])
    if block < 1 or channels % block**2:
        raise node.refuse(f"cannot divide {channels} channels into blocks of {block} x {block}")
    depth = channels // block**2
    if node.attrs.get("mode", "DCR") == "CRD":
        sizes: tuple[int, ...] = (depth, block, block, height, width)
        groups: Groups = ((1,), (4, 2), (5, 3))
    else:
        sizes, groups = (block, block, depth, height, width), ((3,), (4, 1), (5, 2))
    _regroup(state, node, sizes, groups)


@reads("SpaceToDepth")
def read_space_to_depth(state: ImportState, node: OnnxNode) -> None:
    """Blocks of pixels become blocks of channels."""
    channels, height, width = _image(state, node)
    block = int(node.attrs["blocksize"])
    if block < 1 or height % block or width % block:
        raise node.refuse(f"cannot divide {height} x {width} into blocks of {block} x {block}")
    sizes = (channels, height // block, block, width // block, block)
    first = str(node.attrs.get("mode", "DCR")) == "DCR"
    _regroup(state, node, sizes, ((3, 5, 1) if first else (1, 3, 5), (2,), (4,)))


def _image(state: ImportState, node: OnnxNode) -> tuple[int, int, int]:
    """Channels, height and width of the input."""
    view = state.view(node)
    if view.rank != 4 or not view.sizes[0].batch:
        raise node.refuse(f"reads {view}, expected (N, C, H, W)")
    return view.sizes[1].count, view.sizes[2].count, view.sizes[3].count


def _regroup(state: ImportState, node: OnnxNode, sizes: tuple[int, ...], groups: Groups) -> None:
    """Split (N, C, H, W) into (N, *sizes), and join these axes in groups."""
    view, whole = state.view(node), [Size(1, batch=True), *map(Size, sizes)]
    parts = view.reshape(whole)
    if parts is None:
        source = state.planes(node, view, node.inputs[0])
        parts = View.of(source, state.shapes[source]).reshape(whole)
    assert parts is not None, "a tensor in order can be split"
    state.set_view(node, parts.joined(((0,), *groups)))
