"""pack_weights: each rule, and that the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph, signs
from hypothesis import given
from hypothesis import strategies as st

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import bits
from bwn.model import Model
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.sign import Sign
from bwn.passes.pack_weights import departures, pack_weights
from bwn.passes.set_activations import set_activations


def dense(weight, scale=None) -> Graph:
    node = Dense(input="x", output="y", weight="w", scale=scale)
    tensors = {} if scale is None else {scale: floats(len(weight))}
    return make_graph(node, shape=weight.shape[1:], w=weight, **tensors)


def agree(before: Graph, after: Graph) -> None:
    check(after)
    x = floats(3, *before.topology.input_shape)
    name = before.topology.output
    np.testing.assert_allclose(
        evaluate(after, x)[name], evaluate(before, x)[name], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("scale", [None, "s"])
def test_rule_1_alpha_goes_into_the_scale(scale):
    alpha = np.array([0.1, 3.0, 1e-20], np.float32)
    graph = dense(signs(3, 70) * alpha[:, None], scale)
    packed = pack_weights(graph)
    (node,) = packed.nodes
    assert packed.tensors["w"].dtype == np.uint64
    assert packed.tensors["w"].shape == (3, 2)
    assert set(packed.tensors) == {"w", "y.scale"}
    if scale is None:
        np.testing.assert_array_equal(packed.tensors[node.scale], alpha)
    agree(graph, packed)


def test_rule_1_equal_magnitudes_stay_exact():
    alpha = floats(40)
    weight = signs(40, 1013) * np.abs(alpha)[:, None]
    packed = pack_weights(dense(weight))
    np.testing.assert_array_equal(packed.tensors["y.scale"], np.abs(alpha))
    assert departures(dense(weight), packed) == {}


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
def test_rule_2_without_tolerance_any_other_magnitude_keeps_the_layer_float(value):
    weight = signs(3, 70)
    weight[1, 40] = value
    graph = dense(weight)
    packed = pack_weights(graph, tolerance=0)
    assert packed.nodes == graph.nodes
    assert packed.tensors["w"].dtype == np.float32


@given(
    st.integers(1, 4),
    st.integers(3, 90),
    st.sampled_from([1e-6, 1e-4, 3e-3]),
    st.floats(0, 2),
    st.integers(0, 2**32 - 1),
)
def test_rule_2_magnitudes_near_their_middle_are_rounded_to_it(
    rows, count, tolerance, spread, seed
):
    """Packed exactly where no magnitude is farther from the middle; then within that of the floats."""
    rng = np.random.default_rng(seed)
    alpha = np.exp(rng.uniform(-20, 20, (rows, 1)))
    noise = 1 + spread * tolerance * rng.uniform(-1, 1, (rows, count))
    weight = (signs(rows, count, seed=seed) * alpha * noise).astype(np.float32)
    size = np.abs(weight.astype(np.float64))
    low, high = size.min(axis=1, keepdims=True), size.max(axis=1, keepdims=True)
    middle = np.float64(np.float32((low + high) / 2))
    largest = (np.abs(size - middle) / middle).max()
    graph = dense(weight)
    packed = pack_weights(graph, tolerance)
    if largest > tolerance:
        assert packed.tensors["w"].dtype == np.float32
        return
    (node,) = packed.nodes
    rounded = node.float_weights(packed.tensors, (count,))
    np.testing.assert_allclose(rounded, weight, rtol=tolerance * 1.001)
    np.testing.assert_array_equal(np.sign(rounded), np.sign(weight))
    assert departures(graph, packed).get("w", 0) == pytest.approx(largest, abs=1e-12)


def test_rule_2_departures_are_only_told_of_weights_with_the_same_signs():
    noisy = signs(3, 70) * (1 + 1e-5 * floats(3, 70))
    packed = pack_weights(dense(noisy))
    assert 0 < departures(dense(noisy), packed)["w"] < 1e-4
    assert departures(dense(-noisy), packed) == {}
    assert departures(dense(noisy[:2]), packed) == {}
    assert departures(dense(signs(3, 70) * np.abs(floats(3, 70))), packed) == {}


def test_rule_7_a_channel_of_zeros_has_alpha_0():
    weight = signs(4, 70) * np.float32(0.25)
    weight[1], weight[3] = 0.0, -0.0
    graph = dense(weight)
    packed = pack_weights(graph, tolerance=0)
    np.testing.assert_array_equal(packed.tensors["y.scale"], np.float32([0.25, 0, 0.25, 0]))
    np.testing.assert_array_equal(bits.unpack(packed.tensors["w"], 70)[[1, 3]], 1)
    x = np.abs(floats(2, 70)) * np.float32(1e30)
    assert (evaluate(packed, x)["y"][:, [1, 3]] == 0).all()
    agree(graph, packed)


def test_rule_7_a_layer_of_zeros_stays_float():
    assert pack_weights(dense(np.zeros((3, 70), np.float32))).tensors["w"].dtype == np.float32


@pytest.mark.parametrize("sign", [False, True])
def test_rule_7_a_scale_of_0_runs(sign):
    """Also where sums are compared with a threshold, that is -bias / scale elsewhere."""
    weight = signs(6, 8, 3, 3)
    weight[::2] = 0
    nodes = (
        Sign(input="x", output="s"),
        Conv(input="s", output="c", weight="w", kernel=(3, 3), bias="b"),
        *([Sign(input="c", output="y")] if sign else []),
    )
    bias = np.float32([-1, 1, 1, -1, 0, 0])
    graph = make_graph(*nodes, shape=(8, 5, 5), w=weight, b=bias)
    packed = set_activations(pack_weights(graph), "auto")
    check(packed)
    assert packed.nodes[1].activations == "binary"
    x = floats(2, 8, 5, 5)
    expected = evaluate(graph, x)[graph.topology.output]
    actual = Model(ModelSpec(graph=packed), threads=1).run(x)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_depthwise_layers_are_packed():
    weight = signs(6, 1, 3, 3) * np.abs(floats(6, 1, 1, 1))
    conv = Conv(input="x", output="y", weight="w", kernel=(3, 3), groups=6)
    graph = make_graph(conv, shape=(6, 5, 5), w=weight)
    packed = pack_weights(graph)
    assert packed.tensors["w"].shape == (6, 1)
    agree(graph, packed)


@pytest.mark.parametrize("groups", [1, 2])
def test_rule_3_convolution_weights_are_put_in_order(groups):
    weight = signs(4, 6 // groups, 2, 3)
    conv = Conv(input="x", output="y", weight="w", kernel=(2, 3), groups=groups)
    graph = make_graph(conv, shape=(6, 5, 5), w=weight)
    packed = pack_weights(graph)
    rows = bits.unpack(packed.tensors["w"], weight[0].size)
    channels = 6 // groups
    for ky, kx, c in np.ndindex(2, 3, channels):
        k = (ky * 3 + kx) * channels + c
        np.testing.assert_array_equal(rows[:, k], weight[:, c, ky, kx])
    agree(graph, packed)


@pytest.mark.parametrize("scale", [None, "s"])
def test_rule_4_alpha_1_leaves_the_scale(scale):
    graph = dense(signs(3, 70), scale)
    packed = pack_weights(graph)
    assert packed.nodes == graph.nodes
    assert packed.tensors["w"].dtype == np.uint64


def test_rule_5_shared_weights_stay_one_tensor():
    nodes = (Dense(input="x", output="a", weight="w"), Dense(input="a", output="b", weight="w"))
    graph = make_graph(*nodes, shape=(8,), w=signs(8, 8) * np.float32(0.3))
    packed = pack_weights(graph)
    assert set(packed.tensors) == {"w", "a.scale", "b.scale"}
    agree(graph, packed)


@pytest.mark.parametrize(("count", "dtype"), [(1, np.float32), (2, np.float32), (3, np.uint64)])
def test_rule_6_short_rows_stay_float(count, dtype):
    graph = dense(signs(4, count) * np.float32(0.7))
    assert pack_weights(graph).tensors["w"].dtype == dtype


def test_packing_twice_changes_nothing():
    once = pack_weights(dense(signs(3, 70) * np.float32(0.5)))
    twice = pack_weights(once)
    assert twice.nodes == once.nodes
    assert twice.tensors == once.tensors


def test_packed_weights_stay_as_they_are():
    """Also where all words of a row are the same number."""
    node = Dense(input="x", output="y", weight="w")
    graph = make_graph(node, shape=(192,), w=bits.pack(np.ones((2, 192), np.int8)))
    packed = pack_weights(graph)
    assert packed.nodes == graph.nodes
    assert packed.tensors["w"] is graph.tensors["w"]


@given(st.integers(1, 5), st.integers(3, 200), st.integers(0, 2**32 - 1))
def test_words_hold_the_signs(rows, count, seed):
    weight = signs(rows, count, seed=seed)
    nodes = (Flatten(input="x", output="f"), Dense(input="f", output="y", weight="w"))
    packed = pack_weights(make_graph(*nodes, shape=(count, 1, 1), w=weight))
    check(packed)
    np.testing.assert_array_equal(bits.unpack(packed.tensors["w"], count), weight)
