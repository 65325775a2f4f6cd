"""split_offsets: each rule, and that the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph, save_onnx, signs
from hypothesis import given
from hypothesis import strategies as st
from onnx_models import f32, model, op

from bwn import format
from bwn.ir.checker import check
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec
from bwn.ir.tolerance import chain_tolerance
from bwn.model import Model
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.sign import Sign
from bwn.passes import pipeline
from bwn.passes.set_activations import set_activations
from bwn.passes.split_offsets import split_offsets
from bwn.tools.pack import pack
from bwn.tools.verify import verify


def two(*shape, low, high, seed=0):
    """Weights that are one of two numbers in each output channel."""
    return np.where(signs(*shape, seed=seed) < 0, f32(low), f32(high)).astype(np.float32)


def agree(before, after):
    check(after)
    x = floats(3, *before.topology.input_shape)
    name = before.topology.output
    expected, actual = (evaluate(graph, x)[name] for graph in (before, after))
    allowed = chain_tolerance(after, after.shapes) * max(1, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=allowed)


@pytest.mark.parametrize("bounds", [{}, {"low": 0.0, "high": 6.0}])
@pytest.mark.parametrize("scale", [None, "s"])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_rules_1_and_4_a_convolution(groups, scale, bounds):
    weight = two(6, 6 // groups, 3, 3, low=0.0, high=0.7)
    conv = Conv(
        input="x",
        output="y",
        weight="w",
        kernel=(3, 3),
        pads=(1, 0, 2, 1),
        stride=(2, 1),
        dilation=(1, 2),
        groups=groups,
        scale=scale,
        bias="b",
        **bounds,
    )
    tensors = {"w": weight, "b": floats(6)} | ({} if scale is None else {scale: floats(6)})
    graph = make_graph(conv, shape=(6, 9, 8), **tensors)
    after = split_offsets(graph)
    kinds = [Conv, Conv, Conv, Add] + [Clamp] * bool(bounds)
    assert [type(node) for node in after.nodes] == kinds
    agree(graph, after)
    packed = pipeline.run(graph)
    assert [packed.tensors[node.weight].dtype.name for node in packed.nodes[:3]] == [
        "uint64",
        "float32",
        "uint64",
    ]
    agree(graph, packed)
    x = floats(2, 6, 9, 8)
    expected = evaluate(packed, x)["y"]
    np.testing.assert_allclose(
        Model(ModelSpec(graph=packed), threads=1).run(x), expected, atol=1e-4
    )


@given(
    st.integers(2, 9),
    st.integers(20, 200),
    st.floats(-8, 8, width=32),
    st.floats(-8, 8, width=32),
    st.integers(0, 2**32 - 1),
)
def test_rule_1_a_dense_layer_of_any_two_values(rows, count, low, high, seed):
    graph = make_graph(
        Dense(input="x", output="y", weight="w"),
        shape=(count,),
        w=two(rows, count, low=low, high=high, seed=seed),
    )
    agree(graph, split_offsets(graph))
    agree(graph, pipeline.run(graph))


def test_channels_may_have_other_values():
    """+-a, one value only, and zeros among them."""
    weight = np.concatenate(
        [
            two(1, 90, low=0, high=2),
            two(1, 90, low=-1.5, high=1.5),
            two(1, 90, low=-0.25, high=-4),
            np.full((1, 90), 3, np.float32),
            np.zeros((1, 90), np.float32),
        ]
    )
    graph = make_graph(Dense(input="x", output="y", weight="w"), shape=(90,), w=weight)
    packed = pipeline.run(graph)
    assert packed.tensors["w"].dtype == np.uint64
    agree(graph, packed)


@pytest.mark.parametrize(
    "weight",
    [
        signs(8, 40),
        signs(8, 40) * f32(1.00001) ** (signs(8, 40) > 0),
        np.zeros((8, 40), np.float32),
    ],
    ids=["binary", "binary up to rounding", "zeros"],
)
def test_rule_2_binary_layers_stay(weight):
    graph = make_graph(
        Dense(input="x", output="y", weight="w"), shape=(40,), w=weight.astype(np.float32)
    )
    after = split_offsets(graph)
    assert sum(isinstance(node, Add) for node in after.nodes) == 0


def test_layers_of_more_values_stay():
    weight = two(8, 40, low=0, high=1)
    weight[3, 7] = 0.5
    graph = make_graph(Dense(input="x", output="y", weight="w"), shape=(40,), w=weight)
    assert split_offsets(graph).nodes == graph.nodes


@pytest.mark.parametrize(("count", "nodes"), [(4, 1), (5, 4)])
def test_rule_3_a_layer_that_would_grow_stays(count, nodes):
    weight = two(64, count, low=0, high=1)
    graph = make_graph(Dense(input="x", output="y", weight="w"), shape=(count,), w=weight)
    after = pipeline.run(graph)
    assert len(after.nodes) == nodes
    size = sum(array.nbytes for array in after.tensors.values())
    assert size <= weight.nbytes


def test_shared_weights_stay_shared():
    nodes = (Dense(input="x", output="a", weight="w"), Dense(input="a", output="b", weight="w"))
    graph = make_graph(*nodes, shape=(40,), w=two(40, 40, low=0, high=0.1))
    packed = pipeline.run(graph)
    assert {"w", "w.ones"} < set(packed.tensors)
    agree(graph, packed)


def test_a_layer_fed_by_signs():
    nodes = (
        Sign(input="x", output="s"),
        Conv(input="s", output="c", weight="w", kernel=(3, 3), pads=(1, 1, 1, 1)),
        Sign(input="c", output="y"),
    )
    graph = make_graph(*nodes, shape=(8, 5, 5), w=two(6, 8, 3, 3, low=0.0, high=1.0))
    packed = set_activations(pipeline.run(graph), "auto")
    check(packed)
    layers = [node for node in packed.nodes if isinstance(node, Conv)]
    assert [node.activations for node in layers] == ["binary", "float32", "binary"]
    x = floats(4, 8, 5, 5)
    actual = Model(ModelSpec(graph=packed), threads=1).run(x)
    np.testing.assert_array_equal(actual, evaluate(graph, x)["y"])


@pytest.mark.parametrize("activations", ["auto", "int8"])
def test_it_is_packed_and_verified(tmp_path, activations):
    conv = Conv(input="x", output="y", weight="w", kernel=(3, 3), bias="b", low=0.0)
    weight = two(4, 3, 3, 3, low=0.0, high=0.5)
    graph = make_graph(conv, shape=(3, 6, 6), w=weight, b=floats(4))
    save_onnx(ModelSpec(graph=graph), tmp_path / "a.onnx")
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn", activations=activations)
    assert report.compared > 0
    assert sorted(row.stored for row in report.layers) == ["1 bit", "1 bit", "float32"]
    assert any(note.startswith("1 layer with two values in each") for note in report.notes)
    result = verify(tmp_path / "a.bwn", tmp_path / "a.onnx", min_agreement=0.9)
    assert result.agrees, result.verdict


def test_both_packed_layers_quantize_as_the_source_says(tmp_path):
    stored = {"w": two(6, 30, low=0.0, high=0.5).T.copy(), "s": f32(0.02), "z": np.int8(0)}
    nodes = [
        op("QuantizeLinear", "x s z", "q"),
        op("Clip", "q low high", "c"),
        op("DequantizeLinear", "c s z", "d"),
        op("Gemm", "d w"),
    ]
    data = model(*nodes, shape=(30,), low=np.int8(-127), high=np.int8(127), **stored)
    (tmp_path / "a.onnx").write_bytes(data)
    pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    layers = [node for node in format.read(tmp_path / "a.bwn").graph.nodes if node.op == "dense"]
    assert [(node.activations, node.input_scale) for node in layers] == [
        ("int8", pytest.approx(0.02)),
        ("float32", None),
        ("int8", pytest.approx(0.02)),
    ]
