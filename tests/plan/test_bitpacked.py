"""Plans that keep signs bitpacked: their steps, and that results equal those of other plans."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph, words
from plan_checks import agree

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node, Shape
from bwn.kernels import bits
from bwn.ops.add import Add
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.plan.planner import make_plan

TO_FLOATS, TO_SIGNS = "b1_b1_f32_planes_xnor", "b1_b1_b1_signs_xnor"
PACK, FLOATS_TO_SIGNS = "f32_b1_sign", "f32_f32_b1_signs_multiply"


def graph_of(*nodes: Node, shape: Shape, **weights: tuple[int, int]) -> Graph:
    """A graph with packed weights, (outputs, K), and the scales and biases that nodes read."""
    read = {name for node in nodes for name in node.constants}
    tensors: dict[str, Array] = {}
    for name, (outputs, depth) in weights.items():
        tensors[name] = words(outputs, depth, seed=ord(name))
        for vector in {f"{name}.s", f"{name}.b"} & read:
            tensors[vector] = floats(outputs, seed=ord(vector[-1]))
    return legal_graph(*nodes, shape=shape, **tensors)


def conv(source: str, output: str, weight: str, **fields: object) -> Conv:
    """A binary convolution with scale and bias."""
    layer = {"scale": f"{weight}.s", "bias": f"{weight}.b", "activations": "binary"}
    return conv3x3(source, output, weight, **(layer | fields))


def sign(source: str, output: str) -> Sign:
    return Sign(input=source, output=output)


def kernels(graph: Graph, batch: int = 1, *, keep_all: bool = False) -> list[str]:
    """Names of the kernels between the copies of the input and the output."""
    return [step.kernel.name for step in make_plan(graph, batch, 1, keep_all=keep_all).steps[2:-1]]


def check_plans(graph: Graph, batch: int, odd: float | None = None) -> None:
    """As `agree`, with `odd` somewhere in the input; plans that keep all tensors fuse nothing."""
    assert not {TO_SIGNS, FLOATS_TO_SIGNS} & set(kernels(graph, batch, keep_all=True))
    x = floats(batch, *graph.topology.input_shape)
    if odd is not None:
        x[0].flat[3] = odd
    agree(graph, batch, (1, 2), x=x)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_chain_stays_bitpacked(batch: int) -> None:
    graph = graph_of(
        sign("x", "s"),
        conv("s", "a", "u", low=-1.0),
        sign("a", "t"),
        conv("t", "b", "v", stride=(2, 2)),
        Pool(input="b", output="p", kind="max", kernel=(2, 2), pads=(0, 1, 1, 0)),
        sign("p", "q"),
        Flatten(input="q", output="f"),
        Dense(input="f", output="y", weight="w", activations="binary"),
        shape=(64, 9, 8),
        u=(70, 576),
        v=(33, 630),
        w=(5, 33 * 5 * 4),
    )
    check_plans(graph, batch)
    assert kernels(graph, batch) == [PACK, TO_SIGNS, TO_SIGNS, "b1_b1_max_pool", TO_FLOATS]
    assert TO_SIGNS not in kernels(graph, batch, keep_all=True)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_become_signs(odd: float) -> None:
    graph = graph_of(
        Pool(input="x", output="p", kind="max", kernel=(2, 2)),
        sign("p", "s"),
        conv("s", "a", "u"),
        sign("a", "t"),
        conv("t", "y", "v"),
        shape=(64, 4, 4),
        u=(40, 576),
        v=(3, 360),
    )
    check_plans(graph, 2, odd)


def test_a_tensor_with_two_readers_is_made_for_both() -> None:
    """Residuals: sums, signs as numbers, and signs as bits of one tensor."""
    graph = graph_of(
        sign("x", "s"),
        conv("s", "a", "u"),
        Add(input="a", other="x", output="b"),
        sign("b", "t"),
        conv("t", "c", "v"),
        Add(input="c", other="t", output="d"),
        sign("d", "e"),
        conv("e", "g", "u"),
        Add(input="g", other="b", output="y"),
        shape=(64, 5, 6),
        u=(64, 576),
        v=(64, 576),
    )
    check_plans(graph, 2)
    names = kernels(graph, 2)
    assert names.count(TO_FLOATS) == 3
    assert names.count(PACK) == 3
    assert names.count("b1_f32_unpack") == 1


@pytest.mark.parametrize("pooled", [False, True])
def test_sums_that_other_nodes_read_are_made(pooled: bool) -> None:
    end = "p" if pooled else "a"
    graph = graph_of(
        sign("x", "s"),
        conv("s", "a", "u"),
        *([Pool(input="a", output="p", kind="max", kernel=(1, 1))] if pooled else []),
        sign(end, "t"),
        conv("t", "c", "v"),
        Add(input="c", other=end, output="y"),
        shape=(64, 4, 5),
        u=(64, 576),
        v=(64, 576),
    )
    check_plans(graph, 2)
    assert kernels(graph).count(TO_FLOATS) == 2


def test_an_output_of_signs_is_numbers() -> None:
    graph = graph_of(
        sign("x", "s"),
        conv("s", "a", "u"),
        sign("a", "t"),
        conv("t", "b", "v"),
        sign("t", "y"),
        shape=(40, 3, 3),
        u=(40, 360),
        v=(1, 360),
    )
    check_plans(graph, 3)


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_vectors(batch: int) -> None:
    binary = {"activations": "binary"}
    graph = graph_of(
        sign("x", "s"),
        Dense(input="s", output="a", weight="u", scale="u.s", bias="u.b", **binary),
        sign("a", "t"),
        Flatten(input="t", output="f"),
        Dense(input="f", output="b", weight="v", bias="v.b", **binary),
        sign("b", "y"),
        shape=(100,),
        u=(130, 100),
        v=(9, 130),
    )
    check_plans(graph, batch)
    assert kernels(graph, batch) == [PACK, TO_SIGNS, TO_SIGNS, "b1_f32_unpack"]


def test_all_kinds_of_readers_of_a_flattened_tensor() -> None:
    """As bits; as numbers in the order of the planes; flattened again; and as a sign again."""
    graph = graph_of(
        sign("x", "s"),
        Flatten(input="s", output="f"),
        Flatten(input="f", output="g"),
        sign("g", "h"),
        Dense(input="h", output="a", weight="u", activations="binary"),
        Dense(input="g", output="b", weight="u"),
        Add(input="a", other="b", output="y"),
        shape=(48, 3, 2),
        u=(7, 288),
    )
    check_plans(graph, 3)


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "kernel"),
    [
        (128, 128, 2, TO_FLOATS),
        (96, 128, 2, "s1_b1_f32_planes_lookup"),
        (128, 96, 2, "s1_b1_f32_planes_lookup"),
        (20, 20, 1, "s1_b1_f32_planes_lookup"),
        (26, 26, 1, TO_FLOATS),
    ],
)
def test_signs_that_do_not_fill_words_stay_in_planes(channels, outputs, groups, kernel) -> None:
    nodes = (sign("x", "s"), conv("s", "y", "u", groups=groups))
    graph = graph_of(*nodes, shape=(channels, 6, 6), u=(outputs, channels // groups * 9))
    check_plans(graph, 2)
    assert kernel in kernels(graph)


@pytest.mark.parametrize("channels", [30, 64, 130])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 33])
def test_planes_become_bits_and_bits_become_planes(channels: int, width: int) -> None:
    graph = graph_of(
        sign("x", "s"),
        conv("s", "a", "u", kernel=(1, 1), pads=(0, 0, 0, 0)),
        Add(input="s", other="a", output="y"),
        shape=(channels, 2, width),
        u=(channels, channels),
    )
    check_plans(graph, 2)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (3, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((3, 2), (1, 3), (0, 1, 2, 0)),
    ],
)
def test_a_maximum_of_bits(size: tuple[int, int], kernel, stride, pads) -> None:
    pool = Pool(input="s", output="p", kind="max", kernel=kernel, stride=stride, pads=pads)
    graph = graph_of(sign("x", "s"), pool, conv("p", "y", "u"), shape=(130, *size), u=(2, 1170))
    check_plans(graph, 2)
    assert "b1_b1_max_pool" in kernels(graph)


WINDOWS = [
    {},
    {"stride": (2, 2)},
    {"stride": (1, 3), "kernel": (2, 5), "pads": (0, 4, 1, 2)},
    {"pads": (2, 2, 2, 2)},
    {"dilation": (2, 1), "pads": (1, 2, 3, 0)},
]


@pytest.mark.parametrize("outputs", [26, 32, 64, 67, 130])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("odd", [None, np.nan])
def test_a_float_convolution_writes_signs(outputs: int, window: dict, odd: float | None) -> None:
    first = conv3x3("x", "a", scale="a.s", bias="a.b", low=-0.5, high=0.5, **window)
    vectors = {"a.s": floats(outputs), "a.b": floats(outputs, seed=1)}
    weights = {"a.w": floats(outputs, 3, *first.kernel), "y.w": words(3, outputs * 9)}
    nodes = (first, sign("a", "s"), conv3x3("s", "y", activations="binary"))
    graph = legal_graph(*nodes, shape=(3, 9, 11), **weights, **vectors)
    check_plans(graph, 3, odd)
    assert kernels(graph)[-2:] == [FLOATS_TO_SIGNS, TO_FLOATS]


def test_thresholds_reach_as_far_as_sums() -> None:
    """More taps than channels, and biases up to the longest sum and past it."""
    outputs, depth = 64, 26 * 7 * 7
    bias = np.linspace(-1.1 * depth, 1.1 * depth, outputs, dtype=np.float32)
    nodes = (
        sign("x", "s"),
        Conv(input="s", output="a", weight="u", bias="b", kernel=(7, 7), activations="binary"),
        sign("a", "t"),
        Conv(input="t", output="y", weight="v", kernel=(1, 1), activations="binary"),
    )
    ones = bits.pack(np.ones((outputs, depth), np.int8))
    graph = legal_graph(*nodes, shape=(26, 7, 7), u=ones, v=words(3, outputs), b=bias)
    assert TO_SIGNS in kernels(graph, 2)
    for value in (1, -1):
        agree(graph, 2, (1,), x=np.full((2, 26, 7, 7), value, np.float32))
