"""ONNX operations that only pick elements: Slice, Split, Gather, Expand, Tile, DepthToSpace.

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
from bwn.ops.onnx_reading import BATCH, reads
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


@reads("Split")
def read_split(state: ImportState, node: OnnxNode) -> None:
    """Into parts of constant sizes, or as many equal ones as there are outputs."""
    source, shape = state.activation(node)
    axis = ir_axis(node, node.attrs.get("axis", 0), shape)
    sizes = integers(state.optional(node, 1)) or list(node.attrs.get("split", ()))
    count = len(node.outputs)
    if not sizes:
        largest = -(-shape[axis] // count)
        sizes = [largest] * (count - 1) + [shape[axis] - largest * (count - 1)]
    if len(sizes) != count or min(sizes) < 1 or sum(sizes) != shape[axis]:
        raise node.refuse(f"splits axis of {shape[axis]} into {sizes} for {count} outputs")
    first = 0
    for output, size in zip(node.outputs, sizes, strict=True):
        lists = whole_lists(shape)
        lists[axis] = np.arange(first, first + size)
        first += size
        if output:
            emit_lists(state, source, shape, output, lists)


@reads("Expand")
def read_expand(state: ImportState, node: OnnxNode) -> None:
    """To a constant shape, by repeating axes of length 1."""
    source, shape = state.activation(node)
    target = integers(state.constant(node, 1))
    full = (1, *shape)
    target = [1] * (len(full) - len(target)) + target
    whole = target[:1] in ([1], [BATCH])
    fits = all(
        1 in (size, wanted) or size == wanted
        for size, wanted in zip(shape, target[1:], strict=False)
    )
    if len(target) != len(full) or not whole or not fits:
        raise node.refuse(f"expands {('N', *shape)} to {target}")
    lists = [
        np.zeros(wanted, np.int64) if size == 1 else np.arange(size)
        for size, wanted in zip(shape, target[1:], strict=True)
    ]
    emit_lists(state, source, shape, node.output, lists)


def fits(shape: Shape, target: Sequence[int]) -> bool:
    """Whether each axis has the length wanted, or 1, or is wanted to have 1."""
    return all(
        size == wanted or 1 in (size, wanted) for size, wanted in zip(shape, target, strict=True)
    )


@reads("Tile")
def read_tile(state: ImportState, node: OnnxNode) -> None:
    """The whole tensor again and again on each axis but the batch."""
    source, shape = state.activation(node)
    batch, *repeats = integers(state.constant(node, 1)) or [0]
    if batch != 1 or len(repeats) != len(shape) or min(repeats) < 1:
        raise node.refuse(f"repeats are {[batch, *repeats]}, expected 1 for the batch")
    strides = flat_strides(shape)
    sizes = [number for pair in zip(repeats, shape, strict=True) for number in pair]
    emit_loop(
        state,
        (source, node.output),
        tuple(size * count for size, count in zip(shape, repeats, strict=True)),
        sizes,
        [number for stride in strides for number in (0, stride)],
    )


def emit_loop(
    state: ImportState,
    names: tuple[str, str],
    shape: Shape,
    sizes: Sequence[int],
    strides: Sequence[int],
) -> None:
    """Emit a Rearrange of these input and output names."""
    state.emit(
        Rearrange(
            input=names[0],
            output=names[1],
            shape=shape,
            sizes=tuple(sizes),
            strides=tuple(strides),
        )
    )


def blocks_of(state: ImportState, node: OnnxNode) -> tuple[str, Shape, int]:
    """Input, its shape (C, H, W), and the block size."""
    source, shape = state.activation(node)
    if len(shape) != 3 or node.attrs["blocksize"] < 1:
        raise node.refuse(f"input has shape {shape}, expected (channels, height, width)")
    return source, shape, node.attrs["blocksize"]


@reads("DepthToSpace")
def read_depth_to_space(state: ImportState, node: OnnxNode) -> None:
    """Channels to blocks of positions; of the channels, mode DCR has the block first, CRD last."""
    source, (channels, height, width), block = blocks_of(state, node)
    area = block * block
    if channels % area:
        raise node.refuse(f"has {channels} channels for blocks of {area}")
    plane, depth = height * width, channels // area
    first = str(node.attrs.get("mode", "DCR")) == "DCR"
    channel, step = (plane, depth * plane) if first else (area * plane, plane)
    emit_loop(
        state,
        (source, node.output),
        (depth, height * block, width * block),
        (depth, height, block, width, block),
        (channel, width, block * step, 1, step),
    )


@reads("SpaceToDepth")
def read_space_to_depth(state: ImportState, node: OnnxNode) -> None:
    """Blocks of positions to channels, the block first."""
    source, (channels, height, width), block = blocks_of(state, node)
    if height % block or width % block:
        raise node.refuse(f"blocks of {block} do not divide {height} x {width}")
    emit_loop(
        state,
        (source, node.output),
        (channels * block * block, height // block, width // block),
        (block, block, channels, height // block, width // block),
        (width, 1, height * width, block * width, block),
    )
