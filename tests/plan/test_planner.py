"""Plans against the reference: operations without weights, small networks, and memory."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph, words
from plan_checks import agree

from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.mul import Mul
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.softmax import Softmax
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner
from bwn.tools.random_networks import NETWORKS


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 7, 9), (1, 3, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((3, 2), (1, 3), (0, 1, 2, 0)),
        ((3, 3), (1, 1), (0, 0, 0, 0)),
    ],
)
@pytest.mark.parametrize("count_pads", [False, True])
def test_pooling(kind, shape, kernel, stride, pads, count_pads) -> None:
    window = {"kernel": kernel, "stride": stride, "pads": pads, "count_pads": count_pads}
    agree(legal_graph(Pool(input="x", output="y", kind=kind, **window), shape=shape), 2)


@pytest.mark.parametrize(
    "window", [[np.nan, 1, 2, 3], [1, np.nan, 2, 3], [3, 2, 1, np.nan], [-np.inf] * 4]
)
def test_a_maximum_keeps_nan_and_infinity(window) -> None:
    pool = Pool(input="x", output="y", kind="max", kernel=(2, 2))
    x = np.array(window, np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(
        Runner(make_plan(legal_graph(pool, shape=(1, 2, 2)), 1, 1)).run(x),
        np.max(x, axis=(2, 3), keepdims=True),
    )


@pytest.mark.parametrize("shape", [(5, 4, 7), (33,)])
@pytest.mark.parametrize("batch", [1, 4, 17])
def test_elementwise_chain(shape, batch) -> None:
    nodes = (
        Affine(input="x", output="a", scale="s", bias="b"),
        Clamp(input="a", output="c", low=0.25, high=1.5),
        Add(input="c", other="x", output="d"),
        Sign(input="d", output="e"),
        Add(input="e", other="a", output="f"),
    )
    vectors = {"s": floats(shape[0]), "b": floats(shape[0], seed=1)}
    agree(legal_graph(*nodes, shape=shape, **vectors), batch)


@pytest.mark.parametrize("size", [(6, 5), (2, 9), (9, 2), (1, 2), (1, 1)])
def test_a_number_a_channel_is_repeated_over_the_plane(size) -> None:
    gate = Pool(input="x", output="g", kind="average", kernel=size)
    graph = legal_graph(gate, Mul(input="x", other="g", output="y"), shape=(3, *size))
    agree(graph, 2)
    assert make_plan(graph, 2, 1).tensors["g"].row == 1, "its rows need not be as long"


@pytest.mark.parametrize("batch", [1, 20])
def test_softmax(batch) -> None:
    agree(legal_graph(Softmax(input="x", output="y"), shape=(11,)), batch)


def test_softmax_of_scores_that_overflow_exp() -> None:
    graph = legal_graph(Softmax(input="x", output="y"), shape=(3,))
    x = np.array([[-2000, -2001, -1e30], [2000, 1999, -5]], np.float32)
    e = np.exp(-1)
    expected = [[1 / (1 + e), e / (1 + e), 0]] * 2
    np.testing.assert_allclose(Runner(make_plan(graph, 2, 1)).run(x), expected, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 20])
def test_signs_pass_through_pooling_and_flattening(batch: int) -> None:
    graph = legal_graph(
        Sign(input="x", output="s"),
        Pool(input="s", output="p", kind="max", kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),
        conv3x3("p", "c", activations="binary"),
        Sign(input="c", output="t"),
        Flatten(input="t", output="f"),
        Dense(input="f", output="y", weight="y.w", activations="binary"),
        shape=(5, 8, 8),
        **{"c.w": words(6, 45), "y.w": words(3, 96)},
    )
    agree(graph, batch)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_residual_network_with_padding_and_strides(batch: int) -> None:
    conv5x5 = {"weight": "v", "kernel": (5, 5), "pads": (2, 2, 2, 2)}
    graph = legal_graph(
        conv3x3("x", "a", low=0.0),
        Conv(input="a", output="b", **conv5x5),
        Add(input="b", other="a", output="c"),
        Conv(input="c", output="d", stride=(2, 2), **conv5x5),
        Conv(input="c", output="e", weight="e.w", kernel=(1, 1), stride=(2, 2)),
        Add(input="d", other="e", output="f"),
        shape=(3, 10, 9),
        v=words(6, 150),
        **{"a.w": words(6, 27), "e.w": floats(6, 6, 1, 1)},
    )
    agree(graph, batch)


@pytest.mark.parametrize("name", ["mlp", "vgg", "vgg-sign"])
def test_built_in_networks(name: str) -> None:
    agree(NETWORKS[name](0).graph, 2, (2,))


def test_memory_is_reused() -> None:
    graph = NETWORKS["vgg"](0).graph
    assert make_plan(graph, 1, 1).bytes * 2 < make_plan(graph, 1, 1, keep_all=True).bytes


@pytest.mark.parametrize(
    ("shape", "batch", "threads", "examples"),
    [
        ((1, 64, 64), 1000, 1, 80),  # 2.5 MiB of 32 KiB each
        ((4, 64, 64), 1000, 1, 16),  # of 20, a multiple of the lanes
        ((16, 64, 64), 1000, 1, 5),
        ((16, 64, 64), 4, 1, 4),
        ((64, 64, 64), 1000, 1, 1),
        ((64, 64, 64), 1000, 3, 3),  # one for each thread
        ((64, 64, 64), 4, 3, 3),
        ((64, 256, 256), 4, 1, 1),  # one is too many already
        ((64, 256, 256), 3, 3, 3),
        ((20_000,), 1000, 1, 16),
        ((200,), 1000, 1, 1000),
    ],
)
def test_passes_have_as_many_examples_as_the_caches_hold(shape, batch, threads, examples) -> None:
    graph = legal_graph(Clamp(input="x", output="y", low=0.0), shape=shape)
    assert make_plan(graph, batch, threads, passes=True).batch == examples
    assert make_plan(graph, batch, threads).batch == batch
