"""Rearrange and Gather as planned: any legal strides and lists, between planes and vectors."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from graphs import make_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_checks import agree

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.kernels import registry
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.gather import Gather
from bwn.ops.rearrange import Rearrange
from bwn.plan.loop_axes import Axis, loop_axes, split_axes
from bwn.plan.planner import make_plan

shapes = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 18)),
    st.tuples(st.integers(1, 40)),
)


@st.composite
def rearranged(draw) -> Graph:
    """A loop of up to four axes whose strides stay within the input, and a shape of its size."""
    shape = draw(shapes)
    count, left, sizes, strides, offset = prod(shape), prod(shape) - 1, [], [], 0
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 9))
        most = left // max(1, size - 1)
        stride = draw(st.sampled_from([0, 1, 2, shape[-1], prod(shape[1:])]))
        stride = min(stride, most) if draw(st.booleans()) else draw(st.integers(0, most))
        left -= (size - 1) * stride
        if draw(st.booleans()):
            offset, stride = offset + (size - 1) * stride, -stride
        sizes.append(size)
        strides.append(stride)
    offset += draw(st.integers(0, left))
    assert 0 <= offset < count
    total = prod(sizes)
    channels = draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
    rest = total // channels
    height = draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0]))
    out = (total,) if draw(st.booleans()) else (channels, height, rest // height)
    node = Rearrange(
        input="a", output="y", shape=out, sizes=tuple(sizes), strides=tuple(strides), offset=offset
    )
    return make_graph(Clamp(input="x", output="a", low=-1.0), node, shape=shape)


@settings(max_examples=150, deadline=None)
@given(rearranged(), st.sampled_from([1, 2, 5, 17]))
def test_any_strides(graph: Graph, batch: int) -> None:
    check(graph)
    agree(graph, batch, (1, 2))


@settings(max_examples=100, deadline=None)
@given(st.data(), shapes, st.sampled_from([1, 2, 17]), st.sampled_from([0.0, -1.5]))
def test_any_lists(data, shape, batch: int, value: float) -> None:
    lists = tuple(
        tuple(data.draw(st.lists(st.integers(-1, size - 1), max_size=20))) for size in shape
    )
    graph = make_graph(Gather(input="x", output="y", indices=lists, value=value), shape=shape)
    check(graph)
    agree(graph, batch, (1, 2))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_range_of_channels_is_no_copy(batch: int) -> None:
    part = Rearrange(input="a", output="p", shape=(2, 5, 6), sizes=(60,), strides=(1,), offset=60)
    nodes = (
        Clamp(input="x", output="a", low=-1.0),
        part,
        Affine(input="p", output="s", scale="v", bias="v"),
        Concat(input="s", others=("p",), output="y"),
    )
    graph = make_graph(*nodes, shape=(6, 5, 6), v=np.ones(2, np.float32))
    kernels = [step.kernel for step in make_plan(graph, batch, 1).steps]
    assert registry.REARRANGE not in kernels
    agree(graph, batch, (1, 2))


def test_a_channel_shuffle_copies_whole_planes() -> None:
    node = Rearrange(input="x", output="y", shape=(6, 4, 5), sizes=(3, 2, 20), strides=(20, 60, 1))
    plan = make_plan(make_graph(node, shape=(6, 4, 5)), 1, 1)
    (step,) = (step for step in plan.steps if step.kernel is registry.REARRANGE)
    assert step.units == 6


def test_axes_are_merged_and_split_where_rows_end() -> None:
    assert loop_axes((2, 3, 1, 4), (12, 4, 9, 1)) == [Axis(24, 1, 1)]
    assert loop_axes((2, 3), (1, 2)) == [Axis(2, 1, 3), Axis(3, 2, 1)]
    axes = split_axes([Axis(24, 1, 1)], (2, 3, 4), (4, 6, 1))
    assert prod(axis.length for axis in axes) == 24
    assert axes[-1].length <= 4
