"""ONNX import of QuantizeLinear, Clip and DequantizeLinear before a layer with weights."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from graphs import floats, save_onnx, signs
from msgspec.structs import replace
from onnx_models import FLAT, f32, model, op

from bwn import format
from bwn.cli.main import bwn
from bwn.errors import BwnError, FileError, GraphError
from bwn.ir.quantization import Quantization
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops import Conv, Dense
from bwn.passes import pipeline
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
    "int8 as bwn writes it": (gemm(*quantization(), **INT8), Quantization("int8", 0.02)),
    "uint8 as bwn writes it": (gemm(*quantization(), **UINT8), Quantization("uint8", 0.03)),
    "256 values": (
        gemm(*quantization(clip=""), s=f32(0.5), z=np.int8(0)),
        Quantization("int8", 0.5, whole=True),
    ),
    "a clip to all of 256": (
        gemm(*quantization(), s=f32(0.5), z=np.uint8(0), low=np.uint8(0), high=np.uint8(255)),
        Quantization("uint8", 0.5, whole=True),
    ),
    "a clip from above": (gemm(*quantization(clip=" high"), **UINT8), Quantization("uint8", 0.03)),
    "no zero point": (
        gemm(*quantization(zero="", clip=""), s=f32(0.5)),
        Quantization("uint8", 0.5, whole=True),
    ),
    "one scale in a vector": (
        gemm(*quantization(), **{**INT8, "s": f32([0.02])}),
        Quantization("int8", 0.02),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_quantization_is_read(name):
    data, expected = READ[name]
    spec, _, quantizations, _ = from_bytes(data)
    (node,) = spec.graph.nodes
    assert isinstance(node, Dense)
    assert (node.input, node.activations) == ("x", "float32")
    assert quantizations == {
        ("x", node.weight): replace(expected, scale=float(np.float32(expected.scale)))
    }


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


def test_float32_activations_leave_quantization_out_as_float_weights_need(tmp_path):
    (tmp_path / "m.onnx").write_bytes(gemm(*quantization(), **INT8))
    options = ["pack", str(tmp_path / "m.onnx"), "--activations", "float32"]
    output = CliRunner().invoke(bwn, options).output
    assert "note: the source rounds activations to 8 bits and the file does not" in output
    assert output.endswith(f"\nNext: bwn evaluate {tmp_path / 'm.bwn'} --data DATA\n")
    assert not verify(tmp_path / "m.bwn", tmp_path / "m.onnx", threads=1).agrees
    assert [node.activations for node in format.read(tmp_path / "m.bwn").graph.nodes] == ["float32"]
    (tmp_path / "f.onnx").write_bytes(gemm(*quantization(), weights=floats(6, 3), **INT8))
    with pytest.raises(
        GraphError,
        match=r"^layer 'dense1' has float32 weights, but the source quantizes its input to 8",
    ):
        pack(tmp_path / "f.onnx", tmp_path / "f.bwn")
    pack(tmp_path / "f.onnx", tmp_path / "f.bwn", activations="float32")


def test_notes_say_what_8_bits_may_cost(tmp_path):
    (tmp_path / "whole.onnx").write_bytes(gemm(*quantization(clip=""), s=f32(0.5), z=np.int8(0)))
    assert any(
        note.startswith("the source uses all 256 values of 8 bits in 1 layer, bwn 255")
        for note in pack(tmp_path / "whole.onnx", tmp_path / "m.bwn").notes
    )
    (tmp_path / "float.onnx").write_bytes(model(op("Gemm", "x w"), shape=FLAT, w=signs(6, 3)))
    report = pack(tmp_path / "float.onnx", tmp_path / "m.bwn", activations="int8")
    assert any(note.startswith("8-bit activations cost some accuracy") for note in report.notes)
    report = pack(tmp_path / "float.onnx", tmp_path / "m.bwn")
    assert not any("8-bit" in note for note in report.notes)


def test_layers_of_the_same_weights_may_quantize_alike():
    data = model(*TWICE, shape=FLAT, w=signs(6, 3), t=INT8["s"], **INT8)
    (quantization,) = from_bytes(data).quantizations.values()
    assert quantization == Quantization("int8", float(INT8["s"]))


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


TWICE = (
    *quantization(),
    *quantization(output="e", scale="t"),
    op("MatMul", "d w", "a"),
    op("MatMul", "e w", "b"),
    op("Add", "a b"),
)
RESCALED = (op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "q t z", "d"))
REFUSED = {
    "a zero point": (
        gemm(*quantization(), **{**UINT8, "z": np.uint8(3)}),
        "has the zero point 3; only 0 is supported",
    ),
    "16 bits": (
        model(
            *quantization(clip=""),
            op("Gemm", "d w"),
            shape=FLAT,
            opset=21,
            w=signs(6, 3),
            s=f32(1.0),
            z=np.int16(0),
        ),
        "quantizes to int16, expected int8 or uint8",
    ),
    "a scale for each channel": (
        gemm(*quantization(), **{**INT8, "s": f32([0.1] * 6), "z": np.zeros(6, np.int8)}),
        "has 6 scales; activations need one scale a tensor",
    ),
    "a scale of 0": (
        gemm(*quantization(), **{**INT8, "s": f32(0.0)}),
        "has the scale 0.0, expected a finite number",
    ),
    "7 bits": (
        gemm(*quantization(), **{**UINT8, "high": np.uint8(127)}),
        "clips 8-bit integers to 0 to 127, expected 0 to 254",
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
    "another scale in DequantizeLinear": (
        gemm(*RESCALED, **INT8, t=f32(0.03)),
        "has another scale than its QuantizeLinear",
    ),
    "integers read by another operation": (
        model(op("QuantizeLinear", "x s z", "q"), op("Flatten", "q"), **INT8),
        "reads 'q': 8-bit integers are read only by DequantizeLinear",
    ),
    "quantization before a pool": (
        model(*quantization(), op("MaxPool", "d", kernel_shape=[2, 2]), **INT8),
        "reads 'd', which is quantized to 8 bits; only Conv, Gemm and MatMul can read that",
    ),
    "a quantized output": (
        model(*quantization(output="y"), **INT8),
        "output 'y', which is quantized to 8 bits",
    ),
    "quantized in two ways": (
        model(*TWICE, shape=FLAT, w=signs(6, 3), t=f32(0.5), **INT8),
        "quantizes 'x' differently from another layer with the same weights",
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
    # float32 activations differ from the source's in any case
    exact = pack(tmp_path / "a.onnx", tmp_path / "a.bwn", activations="float32")
    assert exact.compared == 0
    (tmp_path / "a.bwn").unlink()
    genuine = pipeline.run

    def wrong(graph, tolerance):
        (node,) = graph.nodes
        return genuine(graph.replace(graph.nodes, graph.tensors | {node.bias: -bias}))

    monkeypatch.setattr(pipeline, "run", wrong)
    with pytest.raises(BwnError, match="layer 'dense1' differs"):
        pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert not (tmp_path / "a.bwn").exists()
