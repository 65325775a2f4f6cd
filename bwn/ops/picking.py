"""Elements picked by index lists: a Rearrange where strides say which, else a Gather."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Array as AnyArray
from bwn.ir.node import Node, Shape
from bwn.ops.gather import Array, Gather
from bwn.ops.layouts import laid
from bwn.ops.onnx_reading import reads
from bwn.ops.rearrange import Rearrange

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


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
    state.emit(by_lists(source, shape, output, lists))


def by_lists(source: str, shape: Shape, output: str, lists: Sequence[Array]) -> Node:
    """The node that picks elements of (C, H, W) or (K,) by a list for each axis."""
    even = [progression(indices) for indices in lists]
    sizes = tuple(map(len, lists))
    if any(pair is None for pair in even):
        whole = [np.array_equal(i, np.arange(n)) for i, n in zip(lists, shape, strict=True)]
        indices = tuple(
            () if all_of_it else tuple(map(int, numbers))
            for numbers, all_of_it in zip(lists, whole, strict=True)
        )
        return Gather(input=source, output=output, indices=indices)
    pairs = [pair for pair in even if pair is not None]
    strides = flat_strides(shape)
    return Rearrange(
        input=source,
        output=output,
        shape=sizes,
        sizes=sizes,
        strides=tuple(step * stride for (_, step), stride in zip(pairs, strides, strict=True)),
        offset=sum(first * stride for (first, _), stride in zip(pairs, strides, strict=True)),
    )


def whole_lists(shape: Shape) -> list[Array]:
    """Index lists that pick everything."""
    return [np.arange(size) for size in shape]


def integers(array: AnyArray | None) -> list[int]:
    """The integers of a constant; none of one that is absent."""
    return [] if array is None else [int(number) for number in np.ravel(array)]


@reads("Tile")
def read_tile(state: ImportState, node: OnnxNode) -> None:
    """The whole tensor again and again on each axis but the batch."""
    inputs = laid(state, node)
    source, shape = inputs.names[0], inputs.shapes[0]
    sizes = list(shape)
    strides = [number for stride in flat_strides(shape) for number in (0, stride)]
    loop = [number for size in shape for number in (1, size)]
    for axis, count in enumerate(integers(state.constant(node, 1))):
        if count < 1:
            raise node.refuse(f"repeats axis {axis} {count} times")
        if count > 1:
            index = inputs.axis(axis)
            sizes[index], loop[2 * index] = sizes[index] * count, count
    tiled = Rearrange(
        input=source,
        output=node.output,
        shape=tuple(sizes),
        sizes=tuple(loop),
        strides=tuple(strides),
    )
    inputs.emit(state, tiled)
