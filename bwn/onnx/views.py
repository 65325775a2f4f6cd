"""Logical ONNX tensors as strided views of the tensors of the graph.

The graph holds tensors of (C, H, W) or (K,) an example. An ONNX tensor may have other axes, in
another order: Transpose, Reshape, Slice and their like make a new view of the same tensor, and
nothing is computed until an operation needs the elements in order. So the transposes around the
layers of a channels-last network cancel.

An axis is a tuple of factors, outermost first; a factor is a size and a stride over the row-major
elements of one example. The batch is a factor of its own: a view never mixes examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from bwn.ir.node import Shape, elements


class Factor(NamedTuple):
    """`size` elements, `stride` apart; the batch has the size 0."""

    size: int
    stride: int


BATCH = Factor(0, 0)
Axis = tuple[Factor, ...]


@dataclass(frozen=True)
class Size:
    """Size of an axis: `count` elements, for every example of the batch if `batch`."""

    count: int
    batch: bool = False

    def __str__(self) -> str:
        return ("N" if self.count == 1 else f"N * {self.count}") if self.batch else str(self.count)


def merged(factors: Sequence[Factor]) -> Axis:
    """The same elements by the fewest factors."""
    result: list[Factor] = []
    for factor in factors:
        if factor.size == 1:
            continue
        last = result[-1] if result else BATCH
        if BATCH not in (last, factor) and last.stride == factor.size * factor.stride:
            result[-1] = Factor(last.size * factor.size, factor.stride)
        else:
            result.append(factor)
    return tuple(result)


def row_major(sizes: Sequence[int]) -> tuple[Factor, ...]:
    """A factor for each axis of a tensor of these sizes."""
    return tuple(Factor(size, prod(sizes[axis + 1 :])) for axis, size in enumerate(sizes))


class View(NamedTuple):
    """An ONNX tensor as elements of a tensor of the graph.

    Attributes:
        source: Name of the graph's tensor.
        shape: Shape of one example of it.
        axes: The logical axes, the batch among them.
        offset: Element of an example that is the view's first.
    """

    source: str
    shape: Shape
    axes: tuple[Axis, ...]
    offset: int = 0

    @classmethod
    def of(cls, source: str, shape: Shape, kept: Sequence[int] | None = None) -> View:
        """The tensor as it is, (N, *shape), or with only the axes `kept` of its shape."""
        factors = row_major(shape)
        chosen = range(len(shape)) if kept is None else kept
        return cls(source, shape, ((BATCH,), *(merged((factors[axis],)) for axis in chosen)))

    @classmethod
    def over(cls, source: str, shape: Shape, axes: Sequence[Axis], order: Sequence[int]) -> View:
        """Axes of a new tensor that holds them in this order, one after another."""
        sizes = [f.size for number in order for f in axes[number] if f != BATCH]
        factors = iter(row_major(sizes))
        placed = {
            number: merged([f if f == BATCH else next(factors) for f in axes[number]])
            for number in order
        }
        return cls(source, shape, tuple(placed[number] for number in range(len(axes))))

    @property
    def rank(self) -> int:
        """Number of its axes, with the batch."""
        return len(self.axes)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Size of each axis."""
        return tuple(map(size_of, self.axes))

    @property
    def factors(self) -> tuple[Factor, ...]:
        """All factors in logical order, without the batch."""
        return tuple(factor for axis in self.axes for factor in axis if factor != BATCH)

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.sizes))})"

    def axis(self, number: int) -> int:
        """An ONNX axis, which may be negative. Raises ValueError where there is none."""
        if not -self.rank <= number < self.rank:
            raise ValueError(f"has no axis {number}")
        return number % self.rank

    def place(self, number: int) -> tuple[int, int | None]:
        """Size of an axis, and how many elements of it are before the batch in order."""
        factors, before = self.axes[number], None
        if BATCH in factors:
            before = prod(factor.size for factor in factors[: factors.index(BATCH)])
        return self.sizes[number].count, before

    @property
    def is_plain(self) -> bool:
        """Whether it is its source in order: (N, C, H, W), (N, C, L) of (C, 1, L), or (N, K)."""
        kept = (0, 2) if self.rank == 3 and len(self.shape) == 3 and self.shape[1] == 1 else None
        return self.offset == 0 and self.axes == View.of(self.source, self.shape, kept).axes

    @property
    def is_ordinary(self) -> bool:
        """Whether it is (N, C, H, W), (N, C, L) or (N, K) in any order of its elements."""
        return self.rank in (2, 3, 4) and self.axes[0] == (BATCH,)

    # Views of the view

    def transpose(self, order: Sequence[int]) -> View:
        """The axes in another order."""
        if sorted(order) != list(range(self.rank)):
            raise ValueError(f"cannot order axes by {list(order)}")
        return self._replace(axes=tuple(self.axes[axis] for axis in order))

    def squeeze(self, axes: Sequence[int] | None) -> View:
        """Without these axes of size 1; None: without all of them."""
        if axes is None:
            chosen = {axis for axis, size in enumerate(self.sizes) if size == Size(1)}
        else:
            chosen = {self.axis(axis) for axis in axes}
        if any(self.sizes[axis] != Size(1) for axis in chosen):
            raise ValueError("removes an axis whose size is not 1")
        return self._replace(
            axes=tuple(axis for number, axis in enumerate(self.axes) if number not in chosen)
        )

    def unsqueeze(self, axes: Sequence[int]) -> View:
        """With axes of size 1 at these positions of the result."""
        rank = self.rank + len(axes)
        chosen = {axis % rank for axis in axes if -rank <= axis < rank}
        if len(chosen) < len(axes):
            raise ValueError(f"cannot add axes {list(axes)}")
        rest = iter(self.axes)
        return self._replace(axes=tuple(() if n in chosen else next(rest) for n in range(rank)))

    def without_batch(self) -> View:
        """For a batch of 1: the same elements, the batch no factor of any axis."""
        axes = (tuple(factor for factor in axis if factor != BATCH) for axis in self.axes)
        return self._replace(axes=tuple(axes))

    def with_batch(self) -> View:
        """For a batch of 1: the batch on the first axis of size 1, or outermost on the first axis.

        Raises:
            ValueError: There are no axes.
        """
        if not self.axes:
            raise ValueError("leaves no axes")
        chosen = self.axes.index(()) if () in self.axes else 0
        return self._with_axis(chosen, (BATCH, *self.axes[chosen]))

    def joined(self, groups: Sequence[Sequence[int]]) -> View:
        """Axes joined in groups, outermost first."""
        axes = (merged([f for axis in group for f in self.axes[axis]]) for group in groups)
        return self._replace(axes=tuple(axes))

    def slice(self, axis: int, start: int, step: int, count: int) -> View | None:
        """`count` elements of an axis; None where only a copy can be sliced so."""
        factors = self.axes[axis]
        if len(factors) > 1:
            return None
        stride = factors[0].stride if factors else 0
        chosen = merged((Factor(count, stride * step),))
        return self._with_axis(axis, chosen)._replace(offset=self.offset + start * stride)

    def expand(self, axis: int, size: int) -> View:
        """An axis of size 1 repeated."""
        return self._with_axis(axis, merged((Factor(size, 0),)))

    def repeated(self, axis: int, like: Axis) -> View:
        """An axis of size 1 repeated as another view's, for each example of the batch too."""
        factors = (factor if factor == BATCH else Factor(factor.size, 0) for factor in like)
        return self._with_axis(axis, tuple(factors))

    def _with_axis(self, number: int, axis: Axis) -> View:
        return self._replace(axes=(*self.axes[:number], axis, *self.axes[number + 1 :]))

    def reshape(self, sizes: Sequence[Size]) -> View | None:
        """The same elements in order by other axes; None where only a copy has such axes.

        Raises:
            ValueError: The number of elements differs.
        """
        if prod(size.count for size in sizes) != prod(factor.size for factor in self.factors):
            raise ValueError(f"cannot turn {self} into ({', '.join(map(str, sizes))})")
        rest = list(merged([factor for axis in self.axes for factor in axis]))
        axes = []
        for size in sizes:
            axis = take(rest, size)
            if axis is None:
                return None
            axes.append(axis)
        return None if rest else self._replace(axes=tuple(axes))

    def split_axis(self, number: int, sizes: Sequence[int]) -> View | None:
        """An axis as axes of these sizes; None where only a copy has such axes."""
        rest, axes = list(self.axes[number]), []
        for size in sizes:
            axis = take(rest, Size(size))
            if axis is None:
                return None
            axes.append(axis)
        return self._replace(axes=(*self.axes[:number], *axes, *self.axes[number + 1 :]))

    # How it lies in its source

    @property
    def is_whole(self) -> bool:
        """Whether it has every element of its source once."""
        inner = 1
        for factor in sorted(self.factors, key=lambda factor: factor.stride):
            if factor.stride != inner:
                return False
            inner *= factor.size
        return self.offset == 0 and inner == elements(self.shape)

    @property
    def layout(self) -> Layout | None:
        """For each axis of the source, the parts of it, each with the logical axis that it is of.

        None where the view is not whole, or a factor cannot be split where an axis ends.
        """
        if not self.is_whole:
            return None
        parts = [
            Part(number, factor, factor)
            for number, axis in enumerate(self.axes)
            for factor in axis
            if factor != BATCH
        ]
        return split(parts, self.shape)

    def resized(self, number: int, shape: Shape) -> View:
        """Its axes in order in a tensor (before, axis, after), of which `axis` has a new size."""
        axes = (*self.axes[:number], (Factor(shape[1], 0),), *self.axes[number + 1 :])
        return View.over(self.source, shape, axes, range(self.rank))

    def with_channels(self, count: int, axis: int) -> View:
        """The same view of a source of `count` channels, which the axis holds."""
        shape = (count, *self.shape[1:])
        channels = merged(row_major(shape)[:1])
        return self._replace(shape=shape)._with_axis(axis % self.rank, channels)


class Part(NamedTuple):
    """Elements of the logical axis `axis`: where they lie in its view, and in another one."""

    axis: int
    factor: Factor
    other: Factor


Layout = tuple[tuple[Part, ...], ...]


def split(parts: Sequence[Part], shape: Shape) -> Layout | None:
    """Parts grouped by the axes of a source, which they cover; None where one cannot be split."""
    flat = sorted(parts, key=lambda part: -part.factor.stride)
    dims = []
    for size in shape:
        dim: list[Part] = []
        while size > 1:
            part = flat.pop(0)
            taken = min(part.factor.size, size)
            if size % taken or part.factor.size % taken:
                return None
            inner = part.factor.size // taken
            if inner > 1:
                flat.insert(0, Part(part.axis, *(Factor(inner, f.stride) for f in part[1:])))
            dim.append(Part(part.axis, *(Factor(taken, f.stride * inner) for f in part[1:])))
            size //= taken
        dims.append(tuple(dim))
    return tuple(dims)


def arranged(array: np.ndarray[Any, Any], view: View, layout: Layout) -> np.ndarray[Any, Any]:
    """A constant on the axes of a whole view, in the order of the view's source.

    Args:
        array: As many axes as the view; each of the size there, or 1.
        view: The view.
        layout: Its layout.

    Returns:
        An array that broadcasts to the source's shape.
    """
    source = [part for dim in layout for part in dim]
    logical = [
        part
        for number, axis in enumerate(view.axes)
        for factor in axis
        for part in source
        if part.axis == number and factor.stride <= part.factor.stride < factor.stride * factor.size
    ]
    array = array.reshape(
        [part.factor.size if array.shape[part.axis] > 1 else 1 for part in logical]
    )
    array = array.transpose([logical.index(part) for part in source])
    sizes: list[int] = []
    shape = []
    for dim in layout:
        full = [part.factor.size for part in dim]
        repeated = all(size == 1 for size in array.shape[len(sizes) : len(sizes) + len(dim)])
        sizes += [1] * len(dim) if repeated else full
        shape.append(1 if repeated else prod(full))
    return np.broadcast_to(array, sizes).reshape(shape)


def size_of(axis: Axis) -> Size:
    """Size of an axis."""
    return Size(prod(factor.size for factor in axis if factor != BATCH), BATCH in axis)


def take(rest: list[Factor], size: Size) -> Axis | None:
    """Take the factors of an axis of this size from the front of `rest`; None where they do not
    divide so."""
    axis: list[Factor] = []
    count, batch = size.count, size.batch
    while batch or count > 1:
        if not rest:
            return None
        factor = rest.pop(0)
        if factor == BATCH:
            if not batch:
                return None
            batch = False
        elif count % factor.size == 0:
            count //= factor.size
        elif count > 1 and factor.size % count == 0:
            inner = factor.size // count
            rest.insert(0, Factor(inner, factor.stride))
            factor, count = Factor(count, factor.stride * inner), 1
        else:
            return None
        axis.append(factor)
    return merged(axis)
