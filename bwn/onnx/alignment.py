"""Views brought into one order of axes, for operations of two operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bwn.ir.node import Shape
from bwn.onnx.views import BATCH, Axis, Factor, Part, Size, View, split


class Operand(NamedTuple):
    """How to copy a view so that it lies like another: shape of the copy, and its factors."""

    shape: Shape
    factors: tuple[Factor, ...]


def aligned(view: View, other: View) -> Operand | None:
    """`other` in the order of a whole view's source, with axes of 1 where it repeats.

    It may have fewer axes, which are the last then. None where it does not broadcast to the view,
    or only a copy of `view` could do.
    """
    if view.rank < other.rank or not view.is_whole:
        return None
    other = other.unsqueeze(range(view.rank - other.rank))
    parts: list[Part] = []
    for number, (ours, theirs) in enumerate(zip(view.axes, other.axes, strict=True)):
        pairs = (
            refined(ours, theirs)
            if theirs
            else [(factor, Factor(factor.size, 0)) for factor in ours]
        )
        if pairs is None or any(BATCH in pair and pair != (BATCH, BATCH) for pair in pairs):
            return None
        parts += [Part(number, *pair) for pair in pairs if pair[0] != BATCH]
    layout = split(parts, view.shape)
    if layout is None:
        return None
    repeated = [all(part.other.stride == 0 for part in dim) for dim in layout]
    shape = tuple(1 if once else size for once, size in zip(repeated, view.shape, strict=True))
    factors = tuple(
        part.other for once, dim in zip(repeated, layout, strict=True) if not once for part in dim
    )
    return Operand(shape, factors)


def widened(view: View, others: Sequence[Sequence[Size]]) -> View:
    """A view with as many axes as others have, of size 1 repeated as theirs are, but the batch."""
    rank = max(view.rank, *map(len, others))
    view = view.unsqueeze(range(rank - view.rank))
    for sizes in others:
        for axis, size in enumerate(sizes, rank - len(sizes)):
            if view.sizes[axis] == Size(1) and not size.batch:
                view = view.expand(axis, size.count)
    return view


def refined(first: Axis, second: Axis) -> list[tuple[Factor, Factor]] | None:
    """Two axes of one size, split so that their factors are of the same sizes; None: impossible."""
    pairs, ours, theirs = [], list(first), list(second)
    while ours or theirs:
        if not ours or not theirs:
            return None
        a, b = ours.pop(0), theirs.pop(0)
        if (a == BATCH) != (b == BATCH):
            return None
        for x, y, queue in ((a, b, ours), (b, a, theirs)):
            if x.size > y.size:
                if x.size % y.size:
                    return None
                inner = x.size // y.size
                queue.insert(0, Factor(inner, x.stride))
        size = min(a.size, b.size)
        pairs.append(
            (
                Factor(size, a.stride * (a.size // size)) if size else a,
                Factor(size, b.stride * (b.size // size)) if size else b,
            )
        )
    return pairs
