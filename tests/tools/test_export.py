"""Packed models as ONNX, plain and QONNX: pack makes the same network of them again."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from golden_networks import MODELS, SHIPPED, inputs, network
from graphs import conv3x3, floats, make_graph, signs, words
from msgspec.structs import replace
from random_graphs import random_graph

import bwn
from bwn.cli.main import bwn as command
from bwn.format import read, write
from bwn.ir.checker import check
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.gather import Gather
from bwn.ops.quantize import Quantize
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from bwn.passes import pipeline
from bwn.passes.separate_quantize import separate_quantize
from bwn.passes.separate_scale import separate_scale
from bwn.passes.set_activations import set_activations

FORMS = pytest.mark.parametrize("qonnx", [False, True], ids=["plain", "qonnx"])


def assert_same(graph, expected):
    """Equal nodes, in order, and equal stored tensors; names may differ."""
    assert shape_of(graph) == shape_of(expected)
    for node, other in zip(graph.nodes, expected.nodes, strict=True):
        for name, former in zip(node.constants, other.constants, strict=True):
            array, known = graph.tensors[name], expected.tensors[former]
            assert array.dtype == known.dtype
            np.testing.assert_array_equal(array, known, err_msg=f"{name} of {node.output}")


def shape_of(graph):
    """The nodes with numbers for names, and the number of the output."""
    names = (graph.topology.input, *(node.output for node in graph.nodes))
    numbers = {name: index for index, name in enumerate(names)} | dict.fromkeys(graph.tensors, "")

    def numbered(value):
        if isinstance(value, (list, tuple)):
            return [numbered(item) for item in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    nodes = [
        (node.op, [numbered(getattr(node, field)) for field in node.__struct_fields__])
        for node in graph.nodes
    ]
    return nodes, numbers[graph.topology.output]


def through_files(spec, folder, qonnx, **options):
    """A network written, exported, and packed again."""
    write(folder / "a.bwn", spec)
    bwn.export(folder / "a.bwn", folder / "a.onnx", qonnx=qonnx)
    bwn.pack(folder / "a.onnx", folder / "b.bwn", **options)
    return read(folder / "b.bwn")


def through_bytes(graph, qonnx):
    """As `through_files` without files, preprocessing and comparison."""
    separate = separate_scale(separate_quantize(graph))
    check(separate)
    data = to_onnx_bytes(ModelSpec(graph=separate), qonnx=qonnx)
    return set_activations(pipeline.run(from_bytes(data).spec.graph), "auto")


def with_scales(name):
    """A shipped network with 8-bit activations of fixed scales."""
    spec = read(MODELS / f"{name}.bwn")
    scales = {
        node.input: float(np.float32(0.01 * (index + 1)))
        for index, node in enumerate(spec.graph.nodes)
        if isinstance(node, Weighted)
    }
    return replace(spec, graph=set_activations(spec.graph, "int8", scales))


@FORMS
@pytest.mark.parametrize("name", [*SHIPPED, "vgg-sign"])
def test_packing_an_export_gives_the_same_network(name, qonnx, tmp_path):
    spec = network(name).spec
    again = through_files(spec, tmp_path, qonnx)
    assert_same(again.graph, spec.graph)
    if spec.preprocess is not None:  # or pack assumes one
        assert (again.preprocess, again.classes) == (spec.preprocess, spec.classes)
    model = bwn.Model(spec, threads=1)
    x = inputs(model, 3)
    np.testing.assert_array_equal(bwn.Model(again, threads=1).run(x), model.run(x))


@FORMS
@pytest.mark.parametrize("name", SHIPPED)
def test_fixed_scales_of_8_bit_activations_come_back(name, qonnx, tmp_path):
    spec = with_scales(name)
    assert any(node.is_quantized for node in spec.graph.nodes)
    assert_same(through_files(spec, tmp_path, qonnx).graph, spec.graph)


@FORMS
def test_scales_of_each_image_come_back_with_int8_activations(qonnx, tmp_path):
    spec = network("mnist-lenet int8").spec
    assert_same(through_files(spec, tmp_path, qonnx, activations="int8").graph, spec.graph)
    report = bwn.export(tmp_path / "a.bwn", tmp_path / "a.onnx", qonnx=qonnx)
    assert report.size == (tmp_path / "a.onnx").stat().st_size
    (note,) = report.notes
    assert "8-bit activations that are scaled for each image read float32" in note


@FORMS
@pytest.mark.parametrize("seed", range(60))
def test_packed_random_graphs_come_back(seed, qonnx):
    graph, _ = random_graph(seed)
    packed = through_bytes(graph, qonnx=False)
    again = through_bytes(packed, qonnx)
    if not any(isinstance(node, Gather) for node in packed.nodes):  # may come back as other moves
        assert_same(again, packed)
    x = floats(2, *graph.topology.input_shape, seed=seed)
    scores, expected = (evaluate(each, x)[each.topology.output] for each in (again, packed))
    np.testing.assert_array_equal(scores, expected)


@FORMS
@pytest.mark.parametrize("kind", ["bits", "floats"])
@pytest.mark.parametrize("bounds", [{}, {"low": 0.0}, {"low": -1.0, "high": 6.0}])
def test_scales_of_both_signs_come_back(kind, bounds, qonnx):
    node = conv3x3("x", "y", scale="s", bias="t", **bounds)
    weight = words(5, 36) if kind == "bits" else floats(5, 4, 3, 3)
    tensors = {"y.w": weight, "s": floats(5, seed=1), "t": floats(5, seed=2)}
    assert (tensors["s"] < 0).any()
    graph = make_graph(node, shape=(4, 6, 5), **tensors)
    assert_same(through_bytes(graph, qonnx), graph)


def test_plain_onnx_runs_in_onnxruntime_and_rounds_alike(tmp_path):
    spec = with_scales("mnist-lenet")
    write(tmp_path / "a.bwn", spec)
    bwn.export(tmp_path / "a.bwn", tmp_path / "a.onnx")
    proto = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}
    assert "QuantizeLinear" in {node.op_type for node in proto.graph.node}
    model = bwn.Model(spec)
    x = inputs(model, 4)
    scores = Session(tmp_path / "a.onnx").run(x)
    np.testing.assert_allclose(scores, model.run(x), rtol=1e-4, atol=1e-4)


def test_qonnx_has_bipolar_weights_and_signs():
    graph = make_graph(
        Sign(input="x", output="a"),
        Flatten(input="a", output="b"),
        Dense(input="b", output="c", weight="fc.weight", scale="s"),
        Dense(input="c", output="d", weight="fc.weight", scale="s2"),
        Dense(input="d", output="e", weight="f"),
        shape=(2, 1, 2),
        **{"fc.weight": words(4, 4), "f": floats(3, 4)},
        s=np.array([0.5, 2, 1, 0.25], np.float32),
        s2=np.array([1, 2, 3, 4], np.float32),
    )
    proto = onnx.load_model_from_string(to_onnx_bytes(ModelSpec(graph=graph), qonnx=True))
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
    bipolar = [node for node in proto.graph.node if node.op_type == "BipolarQuant"]
    assert [node.output[0] for node in bipolar] == ["a", "fc.weight", "fc.weight'"]
    assert {node.domain for node in bipolar} == {"qonnx.custom_op.general"}
    assert {item.domain for item in proto.opset_import} == {"", "qonnx.custom_op.general"}
    np.testing.assert_array_equal(stored[bipolar[1].input[0]], signs(4, 4))
    np.testing.assert_array_equal(stored[bipolar[1].input[1]].ravel(), [0.5, 2, 1, 0.25])
    again = pipeline.run(from_bytes(proto.SerializeToString()).spec.graph)
    assert_same(again, graph)


@pytest.mark.parametrize(
    ("fields", "bits", "signed", "narrow"),
    [
        ({"low": -127, "high": 127}, 8, 1, 1),
        ({"low": -128, "high": 127}, 8, 1, 0),
        ({"low": 0, "high": 254}, 8, 0, 1),
        ({"low": 0, "high": 15, "rounding": "floor"}, 4, 0, 0),
        ({"low": 0, "high": 1, "zero": 1.0}, 1, 0, 0),
        ({"low": -2, "high": 1, "rounding": "ceil"}, 2, 1, 0),
        ({"low": -1, "high": 0}, None, 0, 0),  # one signed bit is -1 and +1 in QONNX
        ({"low": -100, "high": 100}, None, 0, 0),
    ],
)
def test_rounded_activations_are_quant_where_qonnx_has_the_range(fields, bits, signed, narrow):
    node = Quantize(input="x", output="y", scale=0.25, **fields)
    graph = make_graph(node, shape=(3,))
    data = to_onnx_bytes(ModelSpec(graph=graph), qonnx=True)
    proto = onnx.load_model_from_string(data)
    quant = [item for item in proto.graph.node if item.op_type == "Quant"]
    assert len(quant) == (bits is not None)
    if quant:
        stored = {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
        attributes = {item.name: item.i for item in quant[0].attribute}
        assert stored[quant[0].input[3]] == bits
        assert (attributes["signed"], attributes["narrow"]) == (signed, narrow)
    assert from_bytes(data).spec.graph.nodes == (node,)


def test_inner_names_of_an_export_avoid_those_of_the_graph():
    """As a graph has them that was exported and read before."""
    graph = make_graph(
        Sign(input="x", output="y.positive"),
        Sign(input="y.positive", output="y.positive'"),
        Sign(input="y.positive'", output="y"),
        shape=(5,),
    )
    x = floats(3, 5)
    scores = Session(to_onnx_bytes(ModelSpec(graph=graph))).run(x)
    np.testing.assert_array_equal(scores, np.sign(x))


def test_an_onnx_source_and_the_sources_own_name_are_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(to_onnx_bytes(read(MODELS / "mnist-mlp.bwn")))
    with pytest.raises(bwn.FileError, match="an ONNX model already; bwn export takes"):
        bwn.export(tmp_path / "a.onnx", tmp_path / "b.onnx")
    with pytest.raises(bwn.ArgumentError, match="source and output are the same file"):
        bwn.export(tmp_path / "a.onnx", tmp_path / "a.onnx")
    with pytest.raises(bwn.ArgumentError, match="an ONNX model cannot be named"):
        bwn.export(MODELS / "mnist-mlp.bwn", tmp_path / "b.bwn")
    (tmp_path / "damaged").write_bytes((MODELS / "mnist-mlp.bwn").read_bytes()[:-1])
    with pytest.raises(bwn.FormatError, match="damaged"):
        bwn.export(tmp_path / "damaged", tmp_path / "b.onnx")


def test_the_command_takes_a_packed_model_by_its_content(tmp_path):
    model = tmp_path / "model.net"
    model.write_bytes((MODELS / "mnist-mlp.bwn").read_bytes())
    result = CliRunner().invoke(command, ["export", str(model), "--qonnx", "--json"])
    assert result.exit_code == 0, result.output
    output = tmp_path / "model.onnx"
    expected = {"output": str(output), "bytes": output.stat().st_size, "notes": []}
    assert json.loads(result.stdout) == expected
    model = model.rename(tmp_path / "model.bwn")
    result = CliRunner().invoke(command, ["export", str(model)])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"Next: bwn verify {model} {output}\n")
