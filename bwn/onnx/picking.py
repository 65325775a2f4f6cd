"""Elements picked by index lists: a Rearrange where strides say which, else a Gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bwn.ir.node import Node, Shape
from bwn.onnx.views import row_major
from bwn.ops.gather import Gather, Indices
from bwn.ops.rearrange import Rearrange


def progression(indices: Indices) -> tuple[int, int] | None:
    """First index and step of indices that are evenly spaced; None where they are not."""
    steps = np.diff(indices)
    if len(steps) and (steps != steps[0]).any():
        return None
    return int(indices[0]), int(steps[0]) if len(steps) else 0


def by_lists(source: str, shape: Shape, output: str, lists: Sequence[Indices]) -> Node:
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
    strides = [factor.stride for factor in row_major(shape)]
    return Rearrange(
        input=source,
        output=output,
        shape=sizes,
        sizes=sizes,
        strides=tuple(step * stride for (_, step), stride in zip(pairs, strides, strict=True)),
        offset=sum(first * stride for (first, _), stride in zip(pairs, strides, strict=True)),
    )


def whole_lists(shape: Shape) -> list[Indices]:
    """Index lists that pick everything."""
    return [np.arange(size) for size in shape]
