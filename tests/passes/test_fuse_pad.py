"""fuse_pad: each case, and that the network computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.node import FLOAT32_MAX
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.pad import Pad
from bwn.ops.pool import Pool
from bwn.passes.fuse_pad import fuse_pad

SHAPE = (2, 5, 6)
PAD = Pad(input="x", output="p", pads=(0, 1, 0, 0, 2, 1))
CONV = Conv(input="p", output="y", weight="w", kernel=(3, 3), pads=(1, 0, 0, 1))
POOL = {"input": "p", "output": "y", "kernel": (3, 3), "stride": (2, 1)}


def make(*nodes, output="y") -> Graph:
    return make_graph(*nodes, shape=SHAPE, output=output, w=floats(3, 2, 3, 3))


def pads_of(graph: Graph) -> tuple[int, ...]:
    assert not any(isinstance(node, Pad) for node in graph.nodes)
    return graph.nodes[-1].pads


def test_case_1_zeros_before_a_convolution():
    assert pads_of(fuse_pad(make(PAD, CONV))) == (2, 0, 2, 2)


def test_case_2_zeros_before_an_average():
    counted = fuse_pad(make(PAD, Pool(kind="average", **POOL)))
    assert pads_of(counted) == (1, 0, 2, 1)
    assert counted.nodes[-1].count_pads
    counts = Pool(kind="average", pads=(1, 1, 0, 0), count_pads=True, **POOL)
    assert pads_of(fuse_pad(make(PAD, counts))) == (2, 1, 2, 1)
    leaves_out = Pool(kind="average", pads=(1, 1, 0, 0), **POOL)
    assert fuse_pad(make(PAD, leaves_out)).nodes == (PAD, leaves_out)


def test_case_3_zeros_before_a_maximum_of_numbers_from_0_on():
    pool = Pool(kind="max", **POOL)
    relu = Clamp(input="x", output="r", low=0.0)
    pad = Pad(input="r", output="p", pads=PAD.pads)
    assert pads_of(fuse_pad(make(relu, pad, pool))) == (1, 0, 2, 1)
    assert fuse_pad(make(PAD, pool)).nodes == (PAD, pool)


def test_case_4_the_lowest_number_before_a_maximum():
    pad = Pad(input="x", output="p", pads=PAD.pads, value=-FLOAT32_MAX)
    assert pads_of(fuse_pad(make(pad, Pool(kind="max", **POOL)))) == (1, 0, 2, 1)


@pytest.mark.parametrize(
    ("pad", "more"),
    [
        (PAD, {"output": "p"}),
        (Pad(input="x", output="p", pads=(0, 3, 0, 0, 0, 0)), {}),
        (Pad(input="x", output="p", pads=PAD.pads, value=1.0), {}),
        (Pad(input="x", output="p", pads=PAD.pads, mode="edge"), {}),
    ],
)
def test_case_5_it_stays(pad, more):
    graph = make(pad, CONV, **more)
    assert fuse_pad(graph).nodes == graph.nodes


def test_case_5_channels_are_no_padding_of_a_window():
    pad = Pad(input="x", output="p", pads=(1, 1, 0, 0, 0, 0))
    graph = make_graph(pad, CONV, shape=SHAPE, w=floats(3, 3, 3, 3))
    assert fuse_pad(graph).nodes == graph.nodes


ends = st.tuples(*[st.integers(0, 3)] * 4)


@settings(max_examples=200, deadline=None)
@given(
    ends,
    ends,
    st.sampled_from(["conv", "max", "average"]),
    st.sampled_from([0.0, 0.0, -FLOAT32_MAX, 1.0]),
    st.sampled_from(["constant", "constant", "reflect"]),
    st.booleans(),
    st.booleans(),
)
def test_the_network_computes_the_same(added, own, kind, value, mode, relu, counts):
    value = value if mode == "constant" and kind != "conv" else 0.0
    own = tuple(min(pad, 2) for pad in own)
    pad = Pad(input="r", output="p", pads=(0, *added[:2], 0, *added[2:]), mode=mode, value=value)
    window = {"input": "p", "output": "y", "kernel": (3, 3), "pads": own}
    node = (
        Conv(weight="w", **window)
        if kind == "conv"
        else Pool(kind=kind, count_pads=counts, **window)
    )
    clamp = Clamp(input="x", output="r", low=0.0 if relu else -9.0)
    weights = {"w": floats(3, 2, 3, 3)} if kind == "conv" else {}
    graph = make_graph(clamp, pad, node, shape=SHAPE, **weights)
    check(graph)
    fused = fuse_pad(graph)
    check(fused)
    x = floats(2, *SHAPE)
    np.testing.assert_allclose(
        evaluate(fused, x)["y"], evaluate(graph, x)["y"], rtol=1e-12, atol=1e-12
    )
