"""Steps that move elements: rows of one tensor to rows of another, wherever they lie.

`loop_axes.py` makes the rows, by flat indices of one example; here these become places in buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Shape
from bwn.kernels import registry
from bwn.plan.buffers import Buffer
from bwn.plan.loop_axes import Axis, Indices, Rows, part_axes, rows_of, split_axes
from bwn.plan.state import PlanState, elementwise_time, slow_note
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.concat import Concat


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
        params = {
            "x": plan.floats(value),
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
