"""cancel_straight_through and fold_sign_values: each rule, and that the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph, signs
from onnx_models import f32, model, op

from bwn.ir.checker import check
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.mul import Mul
from bwn.ops.pad import Pad
from bwn.ops.sign import Sign
from bwn.passes import pipeline
from bwn.passes.cancel_straight_through import cancel_straight_through
from bwn.passes.fold_sign_values import fold_sign_values
from bwn.passes.remove_unused import remove_unused
from bwn.passes.set_activations import set_activations

SIGN = Sign(input="x", output="s")
AFFINE = Affine(input="s", output="a", scale="c", bias="b")
IMAGE = (4, 6, 5)


def agree(before, after):
    check(after)
    x = floats(7, *before.topology.input_shape)
    expected = evaluate(before, x)[before.topology.output]
    actual = evaluate(after, x)[after.topology.output]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def difference(first, second):
    return Arithmetic(input=first, other=second, output="d", function="sub")


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_difference_that_is_added_again_is_cancelled(swapped, scaled):
    a = "a" if scaled else "s"
    pair = ("x", "d") if swapped else ("d", "x")
    end = Add(input=pair[0], other=pair[1], output="y")
    vectors = {"c": floats(4), "b": floats(4, seed=1)} if scaled else {}
    nodes = (SIGN, *([AFFINE] if scaled else []), difference(a, "x"), end)
    graph = make_graph(*nodes, shape=IMAGE, **vectors)
    after = remove_unused(cancel_straight_through(graph))
    assert [type(node) for node in after.nodes] == [Sign, Affine][: 1 + scaled]
    agree(graph, after)


@pytest.mark.parametrize(
    "nodes",
    [
        (Clamp(input="x", output="s", low=0.0), difference("s", "x")),
        (SIGN, difference("x", "s")),
        (SIGN, Mul(input="s", other="x", output="d")),
        (SIGN, Clamp(input="x", output="e", low=0.5), difference("s", "e")),
    ],
)
def test_other_sums_stay(nodes):
    graph = make_graph(*nodes, Add(input="d", other="x", output="y"), shape=IMAGE)
    assert cancel_straight_through(graph).nodes == graph.nodes


LAYERS = {
    "dense": (Dense(input="a", output="y", weight="w"), (9,), (5, 9)),
    "conv": (Conv(input="a", output="y", weight="w", kernel=(3, 2)), IMAGE, (5, 4, 3, 2)),
    "groups": (
        Conv(input="a", output="y", weight="w", kernel=(3, 3), groups=2, bias="q"),
        IMAGE,
        (6, 2, 3, 3),
    ),
    "padded": (
        Conv(input="a", output="y", weight="w", kernel=(3, 3), pads=(1, 0, 2, 1), scale="p"),
        IMAGE,
        (5, 4, 3, 3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("scale", "bias"), [((0.5,), 0.5), ((0.5,), -0.5), ((-1.0,), 0.0), ((2.0, -2.0, 2.0), 0.0), ((0.25,), 0.75)]
)  # fmt: skip
def test_maps_of_signs_go_into_the_layers_that_read_them(name, scale, bias):
    layer, shape, weight = LAYERS[name]
    channels = shape[0]
    own = {key: floats(weight[0], seed=3) for key in (layer.scale, layer.bias) if key}
    vectors = {
        "c": np.resize(np.float32(scale), channels),
        "b": np.full(channels, bias, np.float32),
    }
    graph = make_graph(SIGN, AFFINE, layer, shape=shape, w=signs(*weight), **vectors, **own)
    after = fold_sign_values(graph)
    agree(graph, after)
    if name == "padded" and bias == 0.75:  # padding would be a sign of -3
        assert after.nodes == graph.nodes
        return
    kinds = [Sign, Pad, type(layer)] if name == "padded" and bias else [Sign, type(layer)]
    assert [type(node) for node in after.nodes] == kinds


@pytest.mark.parametrize("values", [(0.5, 0.25, 0.5, 0.5), (0.0, 0.0, 0.0, 0.0)])
def test_maps_of_several_magnitudes_stay(values):
    layer, _, weight = LAYERS["conv"]
    vectors = {"c": np.float32(values), "b": floats(4)}
    graph = make_graph(SIGN, AFFINE, layer, shape=IMAGE, w=signs(*weight), **vectors)
    assert fold_sign_values(graph).nodes == graph.nodes


def test_steps_and_straight_through_signs_read_bits():
    nodes = (
        op("Greater", "x z", "b"),
        op("Where", "b one z", "h"),
        op("Conv", "h w", "c", pads=[1, 1, 1, 1]),
        op("GreaterOrEqual", "c z", "d"),
        op("Where", "d one minus", "s"),
        op("Sub", "s c", "e"),
        op("Add", "e c", "f"),
        op("Conv", "f v"),
    )
    weights = {"w": signs(6, 4, 3, 3), "v": signs(3, 6, 3, 3)}
    data = model(*nodes, **weights, z=f32(0.0), one=f32(1.0), minus=f32(-1.0))
    graph = set_activations(pipeline.run(from_bytes(data).spec.graph), "auto")
    layers = [node for node in graph.nodes if isinstance(node, Conv)]
    assert [layer.activations for layer in layers] == ["binary", "binary"]
