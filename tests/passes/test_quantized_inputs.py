"""Layers that read whole multiples of a number read integers: rule 5 of set_activations."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, make_graph, words
from plan_checks import agree

from bwn.ir.checker import check
from bwn.ir.interpreter import evaluate
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.quantize import Quantize
from bwn.ops.sign import Sign
from bwn.passes.push_scale import push_scale
from bwn.passes.quantized_inputs import Grid, grids
from bwn.passes.set_activations import set_activations

SHAPE = (4, 6, 5)
HALF = floats(1)[0] * 0 + np.float32(0.3)


def quantize(low, high, source="x", output="q", **fields):
    return Quantize(input=source, output=output, scale=0.3, low=low, high=high, **fields)


def network(*before, source="q", weights=None):
    weights = words(5, 36) if weights is None else weights
    layer = conv3x3(source, "y", activations="float32")
    return make_graph(*before, layer, shape=SHAPE, **{"y.w": weights})


def same(graph, mode="auto"):
    """The graph with activations chosen, after checks that it computes the same."""
    chosen = set_activations(graph, mode)
    check(chosen)
    x = floats(3, *SHAPE) * np.float32(4)
    expected = evaluate(graph, x)["y"]
    np.testing.assert_allclose(evaluate(chosen, x)["y"], expected, rtol=1e-6, atol=1e-5)
    agree(chosen, 2)
    return chosen


@pytest.mark.parametrize(
    ("low", "high", "kind", "ops"),
    [
        (-127, 127, "int8", ["conv"]),
        (0, 254, "uint8", ["conv"]),
        (0, 15, "int8", ["clamp", "conv"]),
        (-8, 7, "int8", ["clamp", "conv"]),
        (0, 128, "uint8", ["clamp", "conv"]),
        (-128, 127, "float32", ["quantize", "conv"]),
        (0, 255, "float32", ["quantize", "conv"]),
        (-100, 100, "int8", ["clamp", "conv"]),
        (-100, 155, "float32", ["quantize", "conv"]),
    ],
)
def test_few_integers_are_read_as_8_bits(low, high, kind, ops):
    chosen = same(network(quantize(low, high)))
    assert [node.op for node in chosen.nodes] == ops
    assert chosen.nodes[-1].activations == kind
    assert chosen.nodes[-1].input_scale == (None if kind == "float32" else float(HALF))


def test_float_weights_read_floats():
    chosen = same(network(quantize(0, 15), weights=floats(5, 4, 3, 3)))
    assert [node.op for node in chosen.nodes] == ["quantize", "conv"]


def test_mode_float32_reads_floats_and_keeps_the_rounding():
    chosen = same(network(quantize(0, 15)), "float32")
    assert [node.op for node in chosen.nodes] == ["quantize", "conv"]


def test_mode_int8_takes_256_values():
    chosen = set_activations(network(quantize(0, 255)), "int8")
    assert chosen.nodes[-1].activations == "uint8"
    assert chosen.nodes[-1].input_scale == float(HALF)


def test_behind_a_max_pool_and_a_flattening():
    pool = Pool(input="q", output="p", kind="max", kernel=(2, 2), stride=(2, 2))
    nodes = [quantize(0, 15), pool, Flatten(input="p", output="f")]
    layer = Dense(input="f", output="y", weight="w")
    chosen = same(make_graph(*nodes, layer, shape=SHAPE, w=words(5, 24)))
    assert [node.op for node in chosen.nodes] == ["clamp", "pool", "flatten", "dense"]
    assert chosen.nodes[-1].activations == "int8"
    assert not {"q", "p", "f"} & {node.output for node in chosen.nodes}


def test_the_rounding_stays_where_something_else_reads_it():
    layer = Conv(input="q", output="l", weight="w", kernel=(1, 1))
    nodes = [quantize(0, 15), layer, Add(input="l", other="q", output="y")]
    chosen = same(make_graph(*nodes, shape=SHAPE, w=words(4, 4)))
    assert [node.op for node in chosen.nodes] == ["quantize", "conv", "add"]
    assert chosen.nodes[1].activations == "int8"


@pytest.mark.parametrize("fields", [{"zero": 3.0}, {"rounding": "floor"}])
def test_other_roundings_stay_and_layers_read_integers(fields):
    chosen = same(network(quantize(0, 15, **fields)))
    assert [node.op for node in chosen.nodes] == ["quantize", "conv"]
    assert chosen.nodes[-1].activations == "int8"


def test_what_is_known_of_tensors():
    nodes = [
        quantize(-8, 7),
        Clamp(input="q", output="r", low=0.0),
        Clamp(input="q", output="t", low=-0.5),
        Affine(input="r", output="a", scale="s", bias="b"),
        Concat(input="q", others=("r",), output="c"),
        quantize(-100, 100, "r", "n"),
        quantize(0, 9, "n", "o", zero=0.5),
        Quantize(input="x", output="d"),
        Sign(input="c", output="y"),
    ]
    stored = {"s": np.full(4, 0.5, np.float32), "b": np.zeros(4, np.float32)}
    known = grids(make_graph(*nodes, shape=SHAPE, **stored))
    step = float(HALF)
    assert known["q"] == Grid(step, -8, 7)
    assert known["r"] == Grid(step, 0, 7)
    assert known["t"].step is None
    assert known["a"] == Grid(float(np.float32(step * 0.5)), 0, 7)
    assert known["c"] == Grid(step, -8, 7)
    assert known["n"] == Grid(step, 0, 100)
    assert known["o"].step is None
    assert known["d"].step is None


def scaled_signs(bias=0.0, scale=0.4):
    nodes = [
        Sign(input="x", output="s"),
        Affine(input="s", output="a", scale="scale", bias="bias"),
        Pool(input="a", output="q", kind="max", kernel=(2, 2)),
    ]
    graph = network(*nodes)
    vectors = {"scale": np.full(4, scale, np.float32), "bias": np.full(4, bias, np.float32)}
    return make_graph(*graph.nodes, shape=SHAPE, **graph.tensors, **vectors)


def test_a_factor_goes_into_the_scales_of_layers():
    chosen = same(push_scale(scaled_signs()))
    assert [node.op for node in chosen.nodes] == ["sign", "pool", "conv"]
    assert chosen.nodes[-1].activations == "binary"
    np.testing.assert_array_equal(chosen.tensors[chosen.nodes[-1].scale], np.full(5, 0.4, "f4"))


@pytest.mark.parametrize("fields", [{"bias": 1.0}, {"scale": -0.4}, {"scale": 0.0}])
def test_other_maps_stay(fields):
    graph = scaled_signs(**fields)
    assert push_scale(graph).nodes == graph.nodes
