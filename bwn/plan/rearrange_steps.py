"""Steps that move elements: rows of one tensor to rows of another, wherever they lie.

An operation says which element goes where by flat row-major indices of one example. Here these
become places in buffers, and rows that are as long as the layouts allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Shape
from bwn.kernels import registry
from bwn.kernels.simd.widths import LANES, NARROW
from bwn.plan.buffers import Buffer
from bwn.plan.state import PlanState, elementwise_time, slow_note
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.concat import Concat

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


def copy_rows(
    plan: PlanState, source: Buffer, out: Buffer, shapes: tuple[Shape, Shape], rows: Rows
) -> None:
    """Add a step that copies rows.

    Args:
        plan: The plan being built.
        source: Where rows come from.
        out: Where they go; what is not written stays.
        shapes: Shapes of both tensors.
        rows: The rows.
    """

    def call() -> Call:
        (x, length, x_step), (target, _, out_step) = _placed(rows, source, out, shapes)
        images, vectors = plan.batch, source.vectors and out.vectors
        if vectors:  # the batch is innermost on both sides
            x, target = _spread(x, length, x_step), _spread(target, length, out_step)
            images, length, x_step, out_step = 1, plan.batch, 1, 1
        params = {
            "x": plan.position_0(source),
            "x_image": 1 if source.vectors else source.image,
            "x_rows": plan.constant((id(rows), "x"), lambda: x),
            "x_step": x_step,
            "out": plan.position_0(out),
            "out_image": 1 if out.vectors else out.image,
            "out_rows": plan.constant((id(rows), "out"), lambda: target),
            "out_step": out_step,
            "rows": len(x),
            "length": length,
        }
        work = images * len(x) * length
        why = "" if Axis(length, x_step, out_step).in_vectors else slow_note(work)
        return Call(registry.REARRANGE, params, images * len(x), elementwise_time(work), why)

    plan.step((source, out), call)


Placed = tuple[Indices, int, int]
"""Where rows begin, their length and the stride within them."""


def _placed(
    rows: Rows, source: Buffer, out: Buffer, shapes: tuple[Shape, Shape]
) -> tuple[Placed, Placed]:
    """Rows as places in both buffers; rows of one element where a row is not evenly spaced."""
    ends = (rows.x, rows.axis.x, shapes[0], source), (rows.out, rows.axis.out, shapes[1], out)
    if rows.planes and source.row == out.row:
        length = (source.height - 1) * source.row + source.width
        x, y = (_place(first, shape, buffer) for first, _, shape, buffer in ends)
        return (x, length, 1), (y, length, 1)
    length, placed = rows.axis.length, list[Placed]()
    for first, stride, shape, buffer in ends:
        start = _place(first, shape, buffer)
        last = _place(first + (length - 1) * stride, shape, buffer)
        step = int(np.sign(stride)) * int(_place(np.array(abs(stride)), shape, buffer))
        if not np.array_equal(last, start + (length - 1) * step):
            x, y = (_place(_spread(f, length, s), shape, b) for f, s, shape, b in ends)
            return (x, 1, 0), (y, 1, 1)
        placed.append((start, length, step))
    return placed[0], placed[1]


def _place(flat: Indices, shape: Shape, buffer: Buffer) -> Indices:
    """Where elements of one example lie in a buffer, from its first."""
    if len(shape) == 1:
        return np.asarray(flat * buffer.plane)
    channel, position = np.divmod(flat, shape[1] * shape[2])
    row, column = np.divmod(position, shape[2])
    return np.asarray(channel * buffer.plane + row * buffer.row + column)


def _spread(first: Indices, length: int, stride: int) -> Indices:
    """All elements of rows."""
    return np.add.outer(first, np.arange(length) * stride).ravel()


def fill(plan: PlanState, out: Buffer, shape: Shape, value: float) -> None:
    """Add a step that sets every element of a tensor."""

    def call() -> Call:
        flat = np.arange(prod(shape[:2])) * prod(shape[2:])
        key = np.array([value], np.float32).tobytes()
        params = {
            "x": plan.constant(("fill", key), lambda: np.frombuffer(key, np.float32)),
            "x_image": 0,
            "x_rows": plan.constant(("zeros", len(flat)), lambda: np.zeros_like(flat)),
            "x_step": 0,
            "out": plan.position_0(out),
            "out_image": out.image,
            "out_rows": plan.constant(("fill", out.name), lambda: _place(flat, shape, out)),
            "out_step": 1,
            "rows": len(flat),
            "length": out.width,
        }
        work = out.images * len(flat) * out.width
        return Call(registry.REARRANGE, params, out.images * len(flat), elementwise_time(work))

    plan.step((out,), call)


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
            end = start + 1
            if part[start] >= 0:
                while (
                    end < len(part)
                    and part[end] >= 0
                    and (
                        end == start + 1
                        or part[end] - part[end - 1] == part[start + 1] - part[start]
                    )
                ):
                    end += 1
                step = int(part[start + 1] - part[start]) if end > start + 1 else 0
                place = np.array([residue + start * period])
                runs.append((part[start : start + 1], place, Axis(end - start, step, period)))
            start = end
    return runs


def channel_range(
    sizes: Sequence[int], strides: Sequence[int], offset: int, x: Shape, out: Shape
) -> int | None:
    """The input channel that is the first of the output; None unless the output is such a range."""
    plane = prod(x[1:])
    same = len(x) == len(out) and x[1:] == out[1:] and offset % plane == 0
    (axis, *others) = loop_axes(sizes, strides)
    whole = not others and (axis.x == 1 or axis.length == 1)
    return offset // plane if same and whole else None


def join(plan: PlanState, parts: Mapping[str, Buffer], node: Concat, out: Buffer) -> None:
    """Copy tensors one after another along the rows or columns of another."""
    whole, first = plan.shape(node.output), 0
    for name in node.inputs:
        shape = plan.shape(name)
        axes = split_axes(part_axes(shape, whole, node.axis), shape, whole)
        rows = rows_of(axes, 0)
        rows = rows._replace(out=rows.out + first * prod(whole[node.axis + 1 :]))
        copy_rows(plan, parts[name], out, (shape, whole), rows)
        first += shape[node.axis]
