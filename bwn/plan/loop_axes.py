"""Loops over the elements of two tensors, as rows that are as long as can be.

An operation says which element goes where by flat row-major indices of one example; nothing here
knows of buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Shape
from bwn.kernels.simd.widths import LANES, NARROW

Indices = npt.NDArray[np.int64]


class Axis(NamedTuple):
    """One axis of a loop over elements: its length, and its strides over both flat indices."""

    length: int
    x: int
    out: int

    @property
    def in_vectors(self) -> bool:
        """Whether its elements are moved as vectors."""
        return self.out == 1 and self.x in (0, 1, 2) and self.length >= NARROW

    @property
    def time(self) -> float:
        """Of one element, roughly, where this axis is the innermost."""
        return (1 / LANES if self.in_vectors else 1) + 2 / self.length


class Rows(NamedTuple):
    """Rows to copy.

    Attributes:
        x: Flat indices of the elements that they begin with.
        out: Where these go.
        axis: The axis that they all go along.
        planes: Whether each is a whole plane, of rows of one length.
    """

    x: Indices
    out: Indices
    axis: Axis
    planes: bool = False


def loop_axes(sizes: Sequence[int], strides: Sequence[int]) -> list[Axis]:
    """The axes of a loop that fills its output in order, as few as possible."""
    axes: list[Axis] = []
    step = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if axes and axes[-1].x * axes[-1].length == stride and size > 1:
            inner = axes.pop()
            axes.append(Axis(inner.length * size, inner.x, inner.out))
        elif size > 1:
            axes.append(Axis(size, stride, step))
        step *= size
    return axes[::-1] or [Axis(1, 0, 1)]


def part_axes(shape: Shape, whole: Shape, axis: int) -> list[Axis]:
    """The axes of a loop over a tensor that is a part of another along an axis."""
    inner = prod(shape[axis:])
    return [Axis(prod(shape[:axis]), inner, prod(whole[axis:])), Axis(inner, 1, 1)]


def split_axes(axes: Sequence[Axis], x_shape: Shape, out_shape: Shape) -> list[Axis]:
    """Axes that end where a row or a plane of either tensor ends, if that divides them."""
    for axis in (1, 2):
        for side, shape in (("x", x_shape), ("out", out_shape)):
            if len(shape) == 3:
                axes = _cut(axes, side, prod(shape[axis:]))
    return list(axes)


def _cut(axes: Sequence[Axis], side: str, bound: int) -> list[Axis]:
    """Axes of which none crosses a multiple of `bound` of one flat index, if that divides them."""
    parts: list[Axis] = []
    for axis in axes:
        stride = abs(getattr(axis, side))
        inner = gcd(axis.length, bound // stride) if 0 < stride < bound else axis.length
        if (axis.length - 1) * stride < bound or inner in (1, axis.length):
            parts.append(axis)
        else:
            outer = Axis(axis.length // inner, axis.x * inner, axis.out * inner)
            parts += [outer, Axis(inner, axis.x, axis.out)]
    return parts


def plane_axes(
    axes: Sequence[Axis], offset: int, x_shape: Shape, out_shape: Shape
) -> list[Axis] | None:
    """Axes of which the last goes over a whole plane, as in a channel shuffle; else None."""
    if len(x_shape) != 3 or x_shape[1:] != out_shape[1:]:
        return None
    plane = prod(x_shape[1:])
    *outer, inner = _cut(axes, "x", plane)
    starts = [offset, *(stride for axis in outer for stride in axis[1:])]
    whole = inner == Axis(plane, 1, 1) and not any(start % plane for start in starts)
    return [*outer, inner] if whole else None


def channel_range(
    sizes: Sequence[int], strides: Sequence[int], offset: int, x: Shape, out: Shape
) -> int | None:
    """The input channel that is the first of the output; None unless the output is such a range."""
    plane = prod(x[1:])
    same = len(x) == len(out) and x[1:] == out[1:] and offset % plane == 0
    (axis, *others) = loop_axes(sizes, strides)
    whole = not others and (axis.x == 1 or axis.length == 1)
    return offset // plane if same and whole else None


def rows_of(axes: Sequence[Axis], offset: int, *, planes: bool = False) -> Rows:
    """Rows along the axis that is moved fastest; with `planes`, along the last."""
    inner = axes[-1] if planes else min(axes, key=lambda axis: axis.time)
    x, out = np.full(1, offset), np.zeros(1, np.int64)
    for axis in axes:
        if axis is not inner:
            index = np.arange(axis.length)
            x = np.add.outer(x, index * axis.x).ravel()
            out = np.add.outer(out, index * axis.out).ravel()
    return Rows(x, out, inner, planes)


def gathered(lists: Sequence[Indices], x_shape: Shape) -> list[Rows]:
    """The rows that an index list for each axis picks; indices below 0 pick nothing."""
    flat_x, flat_out = np.zeros(1, np.int64), np.zeros(1, np.int64)
    out_shape = tuple(map(len, lists))
    for axis, indices in enumerate(lists[:-1]):
        index = np.flatnonzero(indices >= 0)
        x, out = indices[index] * prod(x_shape[axis + 1 :]), index * prod(out_shape[axis + 1 :])
        flat_x, flat_out = np.add.outer(flat_x, x).ravel(), np.add.outer(flat_out, out).ravel()
    return [
        Rows(np.add.outer(flat_x, x).ravel(), np.add.outer(flat_out, out).ravel(), axis)
        for x, out, axis in _runs(lists[-1], in_rows=len(lists) > 1)
    ]


Run = tuple[Indices, Indices, Axis]
"""First indices of evenly spaced parts of a list: what they pick, and their place in the list."""
MAX_PERIOD, MAX_RUNS = 8, 16


def _runs(indices: Indices, in_rows: bool) -> list[Run]:
    """A list as few evenly spaced runs, of every p-th index each; else one by one."""
    periods = range(1, min(MAX_PERIOD, len(indices)) + 1) if in_rows else ()
    best = min((_runs_of(indices, period) for period in periods), key=len, default=[])
    if 0 < len(best) <= MAX_RUNS:
        return best
    places = np.flatnonzero(indices >= 0)
    return [(indices[places], places, Axis(1, 0, 1))]


def _runs_of(indices: Indices, period: int) -> list[Run]:
    """The evenly spaced runs of each residue modulo the period."""
    runs: list[Run] = []
    for residue in range(period):
        part = indices[residue::period]
        start = 0
        while start < len(part):
            end = _run_end(part, start)
            if part[start] >= 0:
                step = int(part[start + 1] - part[start]) if end > start + 1 else 0
                place = np.array([residue + start * period])
                runs.append((part[start : start + 1], place, Axis(end - start, step, period)))
            start = end
    return runs


def _run_end(part: Indices, start: int) -> int:
    """Where the evenly spaced run from `start` on ends."""
    end = start + 1
    while part[start] >= 0 and end < len(part) and part[end] >= 0:
        if part[end] - part[end - 1] != part[start + 1] - part[start]:
            break
        end += 1
    return end
