"""ONNX import of QuantizeLinear, Clip and DequantizeLinear."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, save_onnx, signs
from msgspec.structs import replace
from onnx_models import FLAT, f32, i64, model, op

from bwn import format
from bwn.errors import BwnError, FileError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops.add import Add
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.quantize import Quantize
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner
from bwn.tools.pack import pack
from bwn.tools.verify import verify


def quantization(source="x", output="d", zero="z", scale="s", clip="low high"):
    """The nodes that quantize `source`; they make `output`."""
    q = f"q{output}"
    nodes = [op("QuantizeLinear", f"{source} {scale} {zero}".strip(), q)]
    if clip:
        nodes.append(op("Clip", f"{q} {clip}", f"c{output}"))
        q = f"c{output}"
    return [*nodes, op("DequantizeLinear", f"{q} {scale} {zero}".strip(), output)]


INT8 = {"s": f32(0.02), "z": np.int8(0), "low": np.int8(-127), "high": np.int8(127)}
UINT8 = {"s": f32(0.03), "z": np.uint8(0), "low": np.uint8(0), "high": np.uint8(254)}


def gemm(*before, weights=None, **stored):
    stored = {"w": signs(6, 3) if weights is None else weights, **stored}
    return model(*before, op("Gemm", "d w"), shape=FLAT, **stored)


READ = {
    "int8 as bwn writes it": (quantization(), INT8, ("int8", 0.02)),
    "uint8 as bwn writes it": (quantization(), UINT8, ("uint8", 0.03)),
    "a clip from above": (quantization(clip=" high"), UINT8, ("uint8", 0.03)),
    "one scale in a vector": (quantization(), {**INT8, "s": f32([0.02])}, ("int8", 0.02)),
    "4 bits": (
        quantization(),
        {**UINT8, "high": np.uint8(15)},
        ("int8", 0.03),
    ),
    "few values around a zero point": (
        quantization(),
        {**UINT8, "z": np.uint8(9), "high": np.uint8(20)},
        ("int8", 0.03),
    ),
    "256 values": (quantization(clip=""), {"s": f32(0.5), "z": np.int8(0)}, None),
    "a clip to all of 256": (quantization(), {**UINT8, "high": np.uint8(255)}, None),
    "no zero point": (quantization(zero="", clip=""), {"s": f32(0.5)}, None),
    "a zero point": (quantization(clip=""), {"s": f32(0.03), "z": np.uint8(100)}, None),
    "symmetric around 128": (quantization(clip=""), {"s": f32(0.03), "z": np.uint8(128)}, None),
}
"""Nodes, stored tensors, and the type and scale with which a one-bit layer reads integers."""


@pytest.mark.parametrize("weights", [signs(6, 3), floats(6, 3)], ids=["signs", "floats"])
@pytest.mark.parametrize("name", READ)
def test_quantization_is_exact(name, weights, tmp_path):
    nodes, stored, expected = READ[name]
    data = gemm(*nodes, weights=weights, **stored)
    (tmp_path / "m.onnx").write_bytes(data)
    pack(tmp_path / "m.onnx", tmp_path / "m.bwn")
    graph = format.read(tmp_path / "m.bwn").graph
    layer = graph.nodes[-1]
    assert isinstance(layer, Dense)
    if expected is None or not layer.is_packed(graph.tensors):
        assert layer.activations == "float32"
        assert isinstance(graph.nodes[0], Quantize)
    else:
        assert (layer.activations, layer.input_scale) == (
            expected[0],
            float(np.float32(expected[1])),
        )
        assert not any(isinstance(node, Quantize) for node in graph.nodes)
    x = floats(40, 6, seed=2) * np.float32(3)
    np.testing.assert_allclose(
        evaluate(graph, x)[graph.topology.output], Session(data).run(x), rtol=1e-6, atol=1e-6
    )
    assert verify(tmp_path / "m.bwn", tmp_path / "m.onnx", threads=1).agrees


@pytest.mark.parametrize("stored", [INT8, UINT8])
def test_a_packed_network_quantizes_as_its_source(stored, tmp_path):
    (tmp_path / "m.onnx").write_bytes(
        model(
            *quantization(),
            op("Conv", "d w", "a"),
            op("Relu", "a", "b"),
            op("MaxPool", "b", "p", kernel_shape=[2, 2]),
            *quantization("p", "e", scale="t"),
            op("Conv", "e v"),
            **stored,
            t=f32(0.11),
            w=signs(5, 4, 2, 2),
            v=signs(3, 5, 1, 1, seed=1) * f32(0.25),
        )
    )
    for mode in ("auto", "int8"):
        pack(tmp_path / "m.onnx", tmp_path / "m.bwn", activations=mode)
        nodes = format.read(tmp_path / "m.bwn").graph.nodes
        kind = "int8" if stored is INT8 else "uint8"
        assert [
            (node.activations, node.input_scale) for node in nodes if isinstance(node, Conv)
        ] == [(kind, float(np.float32(stored["s"]))), (kind, float(np.float32(0.11)))]
        report = verify(tmp_path / "m.bwn", tmp_path / "m.onnx", threads=1, samples=30)
        assert report.agrees, report.verdict
        assert all(layer.judged for layer in report.layers)


def test_a_wrong_scale_differs_from_a_quantized_reference(tmp_path):
    (tmp_path / "m.onnx").write_bytes(gemm(*quantization(), **INT8))
    pack(tmp_path / "m.onnx", tmp_path / "m.bwn")
    spec = format.read(tmp_path / "m.bwn")
    (node,) = spec.graph.nodes
    wrong = spec.graph.replace(nodes=(replace(node, input_scale=0.021),))
    format.write(tmp_path / "wrong.bwn", replace(spec, graph=wrong))
    report = verify(tmp_path / "wrong.bwn", tmp_path / "m.onnx", threads=1)
    assert report.verdict.startswith("differs in layer 'dense1' (")
    assert report.verdict.endswith(f" packed from {tmp_path / 'm.onnx'}?")


def test_float32_activations_keep_the_rounding_of_the_source(tmp_path):
    (tmp_path / "m.onnx").write_bytes(gemm(*quantization(), **INT8))
    pack(tmp_path / "m.onnx", tmp_path / "m.bwn", activations="float32")
    quantize, layer = format.read(tmp_path / "m.bwn").graph.nodes
    assert isinstance(quantize, Quantize)
    assert layer.activations == "float32"
    assert verify(tmp_path / "m.bwn", tmp_path / "m.onnx", threads=1).agrees


def test_notes_say_what_8_bits_may_cost(tmp_path):
    (tmp_path / "whole.onnx").write_bytes(gemm(*quantization(clip=""), s=f32(0.5), z=np.int8(0)))
    notes = pack(tmp_path / "whole.onnx", tmp_path / "m.bwn", activations="int8").notes
    assert any(
        note.startswith("the source uses all 256 values of 8 bits in 1 layer, bwn 255")
        for note in notes
    )
    assert any(
        note.startswith("1 layer of the source read all 256 values of 8 bits")
        for note in pack(tmp_path / "whole.onnx", tmp_path / "m.bwn").notes
    )
    (tmp_path / "float.onnx").write_bytes(model(op("Gemm", "x w"), shape=FLAT, w=signs(6, 3)))
    report = pack(tmp_path / "float.onnx", tmp_path / "m.bwn", activations="int8")
    assert any(note.startswith("8-bit activations cost some accuracy") for note in report.notes)
    report = pack(tmp_path / "float.onnx", tmp_path / "m.bwn")
    assert not any("8-bit" in note for note in report.notes)


def test_equal_quantizations_are_made_once():
    nodes = [*quantization(), *quantization(output="e"), op("Add", "d e")]
    graph = from_bytes(model(*nodes, **INT8)).spec.graph
    assert [type(node) for node in graph.nodes] == [Quantize, Add]


def test_weights_may_be_quantized_constants(tmp_path):
    w = signs(3, 4, 2, 2)
    scale = f32([0.5, 2.0, 0.25])
    data = model(
        op("DequantizeLinear", "i s z", "w", axis=0),
        op("DequantizeLinear", "j t", "b"),
        op("Conv", "x w b"),
        i=(w * 3 + 1).astype(np.int8),
        s=scale,
        z=np.ones(3, np.int8),
        j=np.int32([5, 6, 7]),
        t=f32(0.125),
    )
    graph = from_bytes(data).spec.graph
    (node,) = graph.nodes
    np.testing.assert_array_equal(graph.tensors[node.weight], w * 3 * scale.reshape(3, 1, 1, 1))
    np.testing.assert_array_equal(graph.tensors[node.bias], f32([0.625, 0.75, 0.875]))
    x = floats(2, 4, 7, 6)
    save_onnx(from_bytes(data).spec, tmp_path / "m.onnx")
    np.testing.assert_allclose(
        Session(data).run(x), Session(str(tmp_path / "m.onnx")).run(x), rtol=1e-5, atol=1e-5
    )


SAME = {
    "quantized in two ways": model(
        *quantization(),
        *quantization(output="e", scale="t"),
        op("MatMul", "d w", "a"),
        op("MatMul", "e w", "b"),
        op("Add", "a b"),
        shape=FLAT,
        w=signs(6, 3),
        t=f32(0.5),
        **INT8,
    ),
    "another scale in DequantizeLinear": model(
        op("QuantizeLinear", "x s z", "q"),
        op("DequantizeLinear", "q t v"),
        s=f32(0.03),
        z=np.uint8(100),
        t=f32(0.05),
        v=np.uint8(90),
    ),
    "quantization before a pool": model(
        *quantization(), op("MaxPool", "d", kernel_shape=[2, 2]), **INT8
    ),
    "an activation function": model(*quantization(), op("Relu", "d"), **INT8),
    "a quantized output": model(*quantization(output="y"), **INT8),
    "integers that are moved and pooled": model(
        op("QuantizeLinear", "x s z", "q"),
        op("MaxPool", "q", "p", kernel_shape=[2, 2]),
        op("Transpose", "p", "t", perm=[0, 2, 3, 1]),
        op("Flatten", "t", "f"),
        op("DequantizeLinear", "f s z"),
        s=f32(0.03),
        z=np.uint8(77),
    ),
    "integers that are padded and resized": model(
        op("QuantizeLinear", "x s z", "q"),
        op("Pad", "q p v", "b"),
        op("Pad", "b p", "c"),
        op("Resize", "c  t", "r", mode="nearest", coordinate_transformation_mode="asymmetric"),
        op("Tile", "r n", "m"),
        op("DequantizeLinear", "m s z"),
        s=f32(0.03),
        z=np.uint8(77),
        v=np.uint8(90),
        p=i64(0, 0, 1, 2, 0, 0, 0, 3),
        t=f32(1, 1, 2, 2),
        n=i64(1, 1, 2, 1),
    ),
    "16 bits": model(*quantization(clip="", output="y"), opset=21, s=f32(0.001), z=np.int16(5)),
}


@pytest.mark.parametrize("name", SAME)
def test_as_onnxruntime(name):
    graph = from_bytes(SAME[name]).spec.graph
    x = floats(9, *graph.topology.input_shape) * np.float32(3)
    actual = Runner(make_plan(graph, 9, 2)).run(x)
    np.testing.assert_allclose(actual, Session(SAME[name]).run(x), rtol=1e-6, atol=1e-5)


REFUSED = {
    "bounds out of order": (
        gemm(*quantization(), **{**UINT8, "high": np.uint8(3), "low": np.uint8(9)}),
        "clips integers to 9 to 3, which leaves none",
    ),
    "integers read by another operation": (
        model(op("QuantizeLinear", "x s z", "q"), op("Cast", "q", to=1), **INT8),
        "its integers stand for numbers; put DequantizeLinear before it",
    ),
    "moved integers read by another operation": (
        model(
            op("QuantizeLinear", "x s z", "q"),
            op("Flatten", "q", "f"),
            op("Cast", "f", to=1),
            **INT8,
        ),
        "reads integers of a quantized activation; put DequantizeLinear first",
    ),
    "integers that are interpolated": (
        model(
            op("QuantizeLinear", "x s z", "q"),
            op("Resize", "q  t", "r", mode="linear"),
            op("DequantizeLinear", "r s z"),
            t=f32(1, 1, 2, 2),
            **INT8,
        ),
        "its integers stand for numbers; put DequantizeLinear before it",
    ),
    "a scale for each channel": (
        gemm(*quantization(), **{**INT8, "s": f32([0.1] * 6), "z": np.zeros(6, np.int8)}),
        "has 6 scales; activations need one scale a tensor",
    ),
    "a scale of 0": (
        gemm(*quantization(), **{**INT8, "s": f32(0.0)}),
        "has the scale 0.0, expected a finite number",
    ),
    "an empty bound": (
        gemm(*quantization(), **{**UINT8, "high": np.zeros(0, np.uint8)}),
        "uint8 (0,), expected one integer",
    ),
    "constants with scales that do not fit": (
        model(
            op("DequantizeLinear", "i s", "w", axis=0),
            op("Conv", "x w"),
            i=np.ones((1, 4), np.int8),
            s=floats(9),
        ),
        "cannot be computed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    data, message = REFUSED[name]
    with pytest.raises(FileError) as caught:
        from_bytes(data)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_pack_compares_the_layers_of_a_quantized_network(tmp_path, monkeypatch):
    bias = f32(1, 2, 3)
    stored = {"w": signs(6, 3) * f32(0.5), "b": bias, **INT8}
    data = model(*quantization(), op("Gemm", "d w b"), shape=FLAT, **stored)
    (tmp_path / "a.onnx").write_bytes(data)
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert report.layers[0].activations == "int8"
    assert report.compared > 0
    exact = pack(tmp_path / "a.onnx", tmp_path / "a.bwn", activations="float32")
    assert exact.compared > 0
    (tmp_path / "a.bwn").unlink()
    genuine = pipeline.run

    def wrong(graph, tolerance):
        node = graph.nodes[-1]
        return genuine(graph.replace(graph.nodes, graph.tensors | {node.bias: -bias}))

    monkeypatch.setattr(pipeline, "run", wrong)
    with pytest.raises(BwnError, match="layer 'dense1' differs"):
        pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert not (tmp_path / "a.bwn").exists()
