"""pack_weights, case by case, and the function that stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate
from bwn.kernels import bits
from bwn.ops import Conv, Dense, Flatten
from bwn.passes.pack_weights import pack_weights


def make(*nodes, shape, **tensors) -> Graph:
    return Graph(
        topology=Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes),
        tensors=tensors,
    )


def signs(*shape, seed=0):
    return np.where(np.random.default_rng(seed).random(shape) < 0.5, -1, 1).astype(np.float32)


def dense(weight, **changes) -> Graph:
    scale = (
        {"s": np.linspace(-2, 2, len(weight)).astype(np.float32)} if changes.get("scale") else {}
    )
    return make(
        Dense(input="x", output="y", weight="w", **changes),
        shape=weight.shape[1:],
        w=weight,
        **scale,
    )


def agree(before: Graph, after: Graph) -> None:
    check(after)
    x = (
        np.random.default_rng(3)
        .standard_normal((3, *before.topology.input_shape))
        .astype(np.float32)
    )
    name = before.topology.output
    np.testing.assert_allclose(
        evaluate(after, x)[name], evaluate(before, x)[name], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("scale", [None, "s"])
def test_case_1_alpha_goes_into_the_scale(scale):
    alpha = np.array([0.1, 3.0, 1e-20], np.float32)
    graph = dense(signs(3, 70) * alpha[:, None], scale=scale)
    spec = pack_weights(graph)
    (node,) = spec.nodes
    assert spec.tensors["w"].dtype == np.uint64
    assert spec.tensors["w"].shape == (3, 2)
    assert set(spec.tensors) == {"w", "y.scale"}
    if scale is None:
        np.testing.assert_array_equal(spec.tensors[node.scale], alpha)
    agree(graph, spec)


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        2.0,
        np.nextafter(np.float32(1), np.float32(2)),
        -np.nextafter(np.float32(1), np.float32(0)),
    ],
    ids=["zero", "minus zero", "two", "one bit up", "minus one bit down"],
)
def test_case_2_any_other_magnitude_keeps_the_layer_float(value):
    weight = signs(3, 70)
    weight[1, 40] = value
    graph = dense(weight)
    assert pack_weights(graph).nodes == graph.nodes
    assert pack_weights(graph).tensors["w"].dtype == np.float32


def test_case_2_a_channel_of_zeros_keeps_the_layer_float():
    weight = signs(3, 70)
    weight[1] = 0
    assert pack_weights(dense(weight)).tensors["w"].dtype == np.float32


@pytest.mark.parametrize("groups", [1, 2])
def test_case_3_convolution_weights_are_put_in_order(groups):
    weight = signs(4, 6 // groups, 2, 3)
    graph = make(
        Conv(input="x", output="y", weight="w", kernel=(2, 3), groups=groups),
        shape=(6, 5, 5),
        w=weight,
    )
    spec = pack_weights(graph)
    found = bits.unpack(spec.tensors["w"], weight[0].size)
    channels = 6 // groups
    for ky in range(2):
        for kx in range(3):
            for c in range(channels):
                np.testing.assert_array_equal(
                    found[:, (ky * 3 + kx) * channels + c], weight[:, c, ky, kx]
                )
    agree(graph, spec)


@pytest.mark.parametrize("scale", [None, "s"])
def test_case_4_alpha_1_leaves_the_scale(scale):
    graph = dense(signs(3, 70), scale=scale)
    spec = pack_weights(graph)
    assert spec.nodes == graph.nodes
    assert spec.tensors["w"].dtype == np.uint64


def test_case_5_shared_weights_stay_one_tensor():
    nodes = (Dense(input="x", output="a", weight="w"), Dense(input="a", output="b", weight="w"))
    graph = make(*nodes, shape=(8,), w=signs(8, 8) * np.float32(0.3))
    spec = pack_weights(graph)
    assert set(spec.tensors) == {"w", "a.scale", "b.scale"}
    agree(graph, spec)


@pytest.mark.parametrize(("count", "dtype"), [(1, np.float32), (2, np.float32), (3, np.uint64)])
def test_case_6_short_rows_stay_float(count, dtype):
    graph = dense(signs(4, count) * np.float32(0.7))
    assert pack_weights(graph).tensors["w"].dtype == dtype


def test_packing_twice_changes_nothing():
    once = pack_weights(dense(signs(3, 70) * np.float32(0.5)))
    twice = pack_weights(once)
    assert twice.nodes == once.nodes
    assert twice.tensors == once.tensors


@given(st.integers(1, 5), st.integers(3, 200), st.integers(0, 2**32 - 1))
def test_words_hold_the_signs(rows, count, seed):
    weight = signs(rows, count, seed=seed)
    spec = pack_weights(
        make(
            Flatten(input="x", output="f"),
            Dense(input="f", output="y", weight="w"),
            shape=(count, 1, 1),
            w=weight,
        )
    )
    check(spec)
    np.testing.assert_array_equal(bits.unpack(spec.tensors["w"], count), weight)
