"""Int8 weights in place of float32 ones."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph, words

from bwn.errors import GraphError
from bwn.ir.checker import check
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.sign import Sign
from bwn.passes.quantize_weights import quantize_weights
from bwn.passes.separate_quantize import separate_quantize
from bwn.passes.set_activations import set_activations


def quantized(*nodes, shape, mode="int8", **tensors):
    graph = set_activations(quantize_weights(make_graph(*nodes, shape=shape, **tensors)), mode)
    check(graph)
    return graph


def test_rule_1_scales_join_those_of_the_layer():
    node = Conv(input="x", output="y", weight="w", kernel=(3, 3), scale="a")
    weight, scale = floats(4, 2, 3, 3), np.array([1, -2, 0.5, 3], np.float32)
    graph = quantized(node, shape=(2, 5, 5), w=weight, a=scale)
    (layer,) = graph.nodes
    integers = graph.tensors["w"]
    assert integers.dtype == np.int8
    assert (np.abs(integers.astype(int)).reshape(4, -1).max(axis=1) == 127).all()
    rounded = integers * graph.tensors[layer.scale].reshape(-1, 1, 1, 1)
    true = weight * scale.reshape(-1, 1, 1, 1)
    step = np.abs(true).reshape(4, -1).max(axis=1).reshape(-1, 1, 1, 1) / 127
    assert (np.abs(rounded - true) <= step * (0.5 + 1e-5)).all()


def test_rule_2_zeros_stay_zeros():
    weight = floats(3, 8)
    weight[1] = 0
    graph = quantized(Dense(input="x", output="y", weight="w"), shape=(8,), w=weight)
    (layer,) = graph.nodes
    assert not graph.tensors["w"][1].any()
    assert graph.tensors[layer.scale][1] == 1


@pytest.mark.parametrize(("depth", "kind"), [(2, "f"), (3, "i"), (2**15, "i"), (2**15 + 1, "f")])
def test_rule_3_short_and_long_sums_stay_float32(depth, kind):
    graph = quantized(Dense(input="x", output="y", weight="w"), shape=(depth,), w=floats(2, depth))
    assert graph.tensors["w"].dtype.kind == kind
    assert [node.activations for node in graph.nodes] == ["int8" if kind == "i" else "float32"]


def test_rule_4_shared_weights_stay_shared():
    nodes = (
        Dense(input="x", output="h", weight="w"),
        Dense(input="h", output="y", weight="w"),
    )
    graph = quantized(*nodes, shape=(8,), w=floats(8, 8))
    assert {node.weight for node in graph.nodes} == {"w"}
    assert len(graph.tensors) == 3


def test_one_bit_weights_stay_as_they_are():
    node = Dense(input="x", output="y", weight="w")
    before = make_graph(node, shape=(8,), w=words(8, 8))
    assert quantize_weights(before).tensors.keys() == before.tensors.keys()


@pytest.mark.parametrize("mode", ["auto", "float32", "int8", "binary"])
def test_they_read_8_bits_in_every_mode_and_signs_exactly(mode):
    nodes = (
        Dense(input="x", output="h", weight="w"),
        Sign(input="h", output="s"),
        Dense(input="s", output="y", weight="v"),
    )
    graph = quantized(*nodes, shape=(8,), mode=mode, w=floats(8, 8), v=floats(3, 8))
    layers = [node for node in graph.nodes if isinstance(node, Dense)]
    assert [(node.activations, node.input_scale) for node in layers] == [
        ("int8", None),
        ("int8", 1.0),
    ]


def test_integers_that_come_back_as_floats_become_the_same_integers():
    graph = quantized(
        Dense(input="x", output="y", weight="w", low=0.0), shape=(40,), w=floats(9, 40)
    )
    floating = separate_quantize(graph)
    check(floating)
    assert floating.tensors["w"].dtype == np.float32
    again = quantize_weights(floating)
    np.testing.assert_array_equal(again.tensors["w"], graph.tensors["w"])
    (layer,), (before,) = again.nodes, graph.nodes
    np.testing.assert_array_equal(again.tensors[layer.scale], graph.tensors[before.scale])


@pytest.mark.parametrize(
    ("weight", "activations", "message"),
    [
        (np.full((2, 4), -128, np.int8), "int8", "weights 'w' hold -128, expected -127 to 127"),
        (np.ones((2, 4), np.int8), "float32", "int8 weights need int8 or uint8 activations"),
        (np.ones((2, 5), np.int8), "int8", r"are int8 \(2, 5\), expected int8 \(2, 4\)"),
        (np.ones((2, 4), np.int16), "int8", r"are int16 \(2, 4\), expected float32 \(2, 4\)"),
    ],
)
def test_illegal_weights_are_refused(weight, activations, message):
    node = Dense(input="x", output="y", weight="w", activations=activations)
    with pytest.raises(GraphError, match=message):
        check(make_graph(node, shape=(4,), w=weight))


def test_sums_that_an_int32_might_not_hold_are_refused():
    node = Dense(input="x", output="y", weight="w", activations="int8")
    with pytest.raises(GraphError, match=r"sums 32,769 products; int8 weights allow at most"):
        check(make_graph(node, shape=(2**15 + 1,), w=np.ones((1, 2**15 + 1), np.int8)))


def test_outputs_that_float32_cannot_hold_are_refused():
    node = Dense(input="x", output="y", weight="w", scale="a", activations="int8", input_scale=1e30)
    tensors = {"w": np.ones((1, 4), np.int8), "a": np.full(1, 1e5, np.float32)}
    with pytest.raises(GraphError, match="which float32 cannot hold"):
        check(make_graph(node, shape=(4,), **tensors))
