"""Views against numpy: random chains of views have the elements that numpy's operations give."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwn.ir.node import elements
from bwn.onnx.alignment import aligned
from bwn.onnx.views import BATCH, Factor, Size, View, arranged, merged

N = 2
Pair = tuple[View, np.ndarray]
"""A view, and what it is for a batch of N."""
SHAPES = st.one_of(
    st.tuples(*[st.sampled_from([1, 2, 3, 4, 6])] * 3), st.tuples(st.sampled_from([1, 2, 6, 12]))
)


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    """A batch of distinct numbers."""
    return np.arange(N * elements(shape)).reshape(N, *shape)


def flat_index(factors, example: int, offset: int = 0) -> np.ndarray:
    """Elements of a batch that these factors take, an axis for each of them."""
    index = np.full((), offset)
    for factor in factors:
        steps = (
            np.arange(N) * example if factor == BATCH else np.arange(factor.size) * factor.stride
        )
        index = index[..., None] + steps
    return index


def seen(view: View, x: np.ndarray) -> np.ndarray:
    """The view of a batch of its source."""
    assert x.shape == (N, *view.shape)
    factors = [factor for axis in view.axes for factor in axis]
    index = flat_index(factors, elements(view.shape), view.offset)
    return x.reshape(-1)[index].reshape(concrete(view.sizes))


def concrete(sizes) -> list[int]:
    return [size.count * (N if size.batch else 1) for size in sizes]


def same(view: View, array: np.ndarray) -> None:
    np.testing.assert_array_equal(seen(view, numbers(view.shape)), array)


# A step each: a view and an array to another view and array, or to None where only a copy can do.


def transpose(draw, view: View, array: np.ndarray) -> Pair:
    order = draw(st.permutations(range(view.rank)))
    return view.transpose(order), array.transpose(order)


def squeeze(draw, view: View, array: np.ndarray) -> Pair:
    ones = [axis for axis, size in enumerate(view.sizes) if size == Size(1)]
    if draw(st.booleans()):
        return view.squeeze(None), array.squeeze(tuple(ones))
    axes = draw(st.sets(st.sampled_from(ones))) if ones else set()
    shown = [axis - view.rank * draw(st.booleans()) for axis in axes]
    return view.squeeze(shown), array.squeeze(tuple(axes))


def unsqueeze(draw, view: View, array: np.ndarray) -> Pair:
    axes = draw(st.sets(st.integers(0, view.rank), max_size=2))
    rank = view.rank + len(axes)
    shown = [axis - rank * draw(st.booleans()) for axis in axes]
    return view.unsqueeze(shown), np.expand_dims(array, tuple(axes))


def slice_axis(draw, view: View, array: np.ndarray) -> Pair | None:
    axis = draw(st.integers(0, view.rank - 1))
    if view.sizes[axis].batch:
        return view, array
    limit = st.none() | st.integers(-7, 7)
    step = draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))
    part = slice(draw(limit), draw(limit), step)
    chosen = range(view.sizes[axis].count)[part]
    if not chosen:
        return view, array
    result = view.slice(axis, chosen.start, chosen.step, len(chosen))
    whole = (slice(None),) * axis
    return None if result is None else (result, array[(*whole, part)])


def expand(draw, view: View, array: np.ndarray) -> Pair:
    ones = [axis for axis, size in enumerate(view.sizes) if size == Size(1)]
    if not ones or array.size > 2000:
        return view, array
    axis, size = draw(st.sampled_from(ones)), draw(st.integers(1, 3))
    return view.expand(axis, size), array.repeat(size, axis)


def joined(draw, view: View, array: np.ndarray) -> Pair:
    order = draw(st.permutations(range(view.rank)))
    cuts = sorted(draw(st.sets(st.integers(1, view.rank - 1)))) if view.rank > 1 else []
    groups = [order[a:b] for a, b in zip([0, *cuts], [*cuts, view.rank], strict=True)]
    sizes = [prod(array.shape[axis] for axis in group) for group in groups]
    return view.joined(groups), array.transpose(order).reshape(sizes)


def reshape(draw, view: View, array: np.ndarray) -> Pair | None:
    rest, sizes = prod(size.count for size in view.sizes), []
    while rest > 1 and len(sizes) < 4:
        sizes.append(draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0])))
        rest //= sizes[-1]
    sizes.append(rest)
    batch = draw(st.sampled_from([0, draw(st.integers(0, len(sizes)))]))
    wanted = [Size(size) for size in sizes]
    if draw(st.booleans()) or batch == len(sizes):
        wanted.insert(batch, Size(1, True))
    else:
        wanted[batch] = Size(sizes[batch], True)
    result = view.reshape(wanted)
    return None if result is None else (result, array.reshape(concrete(wanted)))


STEPS = [transpose, squeeze, unsqueeze, slice_axis, expand, joined, reshape]
MOVES = [transpose, squeeze, unsqueeze, joined, reshape]
"""Steps after which the view still has every element once."""


@st.composite
def chains(draw, steps=STEPS, shapes=SHAPES) -> list[Pair]:
    shape = draw(shapes)
    result = [(View.of("x", shape), numbers(shape))]
    for step in draw(st.lists(st.sampled_from(steps), max_size=6)):
        following = step(draw, *result[-1])
        if following is not None:
            result.append(following)
    return result


@given(chains())
def test_views_have_the_elements_that_numpy_gives(chain: list[Pair]) -> None:
    for view, array in chain:
        same(view, array)
        assert concrete(view.sizes) == list(array.shape)
        assert [merged(axis) for axis in view.axes] == list(view.axes), "in the fewest factors"
        if view.is_plain:
            np.testing.assert_array_equal(array.ravel(), numbers(view.shape).ravel())


@given(chains())
def test_a_whole_view_has_every_element_once(chain: list[Pair]) -> None:
    view, array = chain[-1]
    once = np.array_equal(np.sort(array, None), np.arange(N * elements(view.shape)))
    assert view.is_whole <= once
    if all(factor.stride > 0 for factor in view.factors):
        assert view.is_whole == once


@given(chains(MOVES))
def test_moves_keep_a_view_whole(chain: list[Pair]) -> None:
    view, _ = chain[-1]
    assert view.is_whole


@given(chains(MOVES))
def test_a_layout_names_the_axis_of_each_part_of_the_source(chain: list[Pair]) -> None:
    view, _ = chain[-1]
    layout = view.layout
    if layout is None:
        return
    assert [prod(part.factor.size for part in dim) for dim in layout] == list(view.shape)
    parts = [part for dim in layout for part in dim]
    index = flat_index([part.factor for part in parts], 0)
    np.testing.assert_array_equal(index.ravel(), np.arange(elements(view.shape)))
    for number in range(view.rank):
        factors = sorted((part.factor for part in parts if part.axis == number), reverse=True)
        taken = np.sort(flat_index(factors, 0), None)
        own = [factor for factor in view.axes[number] if factor != BATCH]
        np.testing.assert_array_equal(taken, np.sort(flat_index(own, 0), None))


@given(chains(MOVES), st.data())
def test_an_arranged_constant_broadcasts_as_on_the_logical_axes(
    chain: list[Pair], data: st.DataObject
) -> None:
    view, array = chain[-1]
    layout = view.layout
    if layout is None:
        return
    sizes = [
        1 if size.batch else data.draw(st.sampled_from([1, size.count])) for size in view.sizes
    ]
    constant = np.arange(prod(sizes)).reshape(sizes) * 10_000
    actual = numbers(view.shape) + arranged(constant, view, layout)
    np.testing.assert_array_equal(seen(view, actual), array + constant)


def copied(view: View, factors, shape) -> np.ndarray:
    """What a node that copies a view's source by these factors gives."""
    index = flat_index([BATCH, *factors], elements(view.shape), view.offset)
    return numbers(view.shape).reshape(-1)[index].reshape(N, *shape)


@given(chains(MOVES), chains(), st.booleans(), st.data())
def test_an_aligned_operand_broadcasts_as_on_the_logical_axes(
    first: list[Pair], second: list[Pair], same_chain: bool, data: st.DataObject
) -> None:
    view, array = first[-1]
    other, theirs = second[-1]
    if same_chain:  # views that fit each other: the same axes, some of size 1 in the other
        other, theirs = data.draw(st.sampled_from(first))
        if sorted(array.shape) == sorted(theirs.shape) and view.rank == other.rank:
            orders = np.argsort(theirs.shape, kind="stable"), np.argsort(array.shape, kind="stable")
            order = np.empty(view.rank, int)
            order[orders[1]] = orders[0]
            other, theirs = other.transpose(order.tolist()), theirs.transpose(order)
        for axis in range(other.rank):
            if not other.sizes[axis].batch and data.draw(st.booleans()):
                part = other.slice(axis, other.sizes[axis].count - 1, 1, 1)
                if part is not None:
                    other, theirs = part, theirs[(slice(None),) * axis + (slice(-1, None),)]
    operand = aligned(view, other)
    if operand is None:
        return
    assert np.broadcast_shapes(array.shape, theirs.shape) == array.shape
    total = numbers(view.shape) + 10_000 * copied(other, operand.factors, operand.shape)
    np.testing.assert_array_equal(seen(view, total), array + 10_000 * theirs)


@given(SHAPES.filter(lambda shape: len(shape) == 3), st.integers(1, 5))
def test_channels_are_replaced_on_the_last_axis(shape: tuple[int, ...], count: int) -> None:
    wider = View.of("x", shape).transpose((0, 2, 3, 1)).with_channels(count, -1)
    assert wider.shape == (count, *shape[1:])
    same(wider, numbers(wider.shape).transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda view: view.axis(4),
        lambda view: view.axis(-5),
        lambda view: view.transpose((0, 1, 1, 2)),
        lambda view: view.squeeze([1]),
        lambda view: view.squeeze([0]),
        lambda view: view.unsqueeze([6]),
        lambda view: view.unsqueeze([1, 1]),
        lambda view: view.unsqueeze([1, -5]),
        lambda view: view.reshape([Size(1, True), Size(7)]),
    ],
)
def test_what_does_not_fit_is_a_value_error(make) -> None:
    with pytest.raises(ValueError, match=r"axis|axes|turn"):
        make(View.of("x", (2, 3, 4)))


def test_the_batch_is_not_divided() -> None:
    view = View.of("x", (4,))
    assert view.reshape([Size(2), Size(2, True)]) is None, "the batch is outside of the elements"
    assert view.transpose((1, 0)).reshape([Size(4, True)]) == View(
        "x", (4,), ((Factor(4, 1), BATCH),)
    )
    assert str(view.reshape([Size(4, True)])) == "(N * 4)"
