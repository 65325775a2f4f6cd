"""float16, bfloat16 and float64 graphs: float32 afterwards, with ONNX Runtime as the truth."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import floats
from onnx import TensorProto, helper, numpy_helper
from onnx_models import f32, model, op

import bwn
from bwn.errors import GraphError
from bwn.onnx.loading import load
from bwn.onnx.session import Session

KINDS = {
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16), 2e-3),
    "float64": (TensorProto.DOUBLE, np.dtype(np.float64), 1e-6),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16), None),
}
"""Type, its numpy type, and its rounding over the layers below; ONNX Runtime lacks bfloat16."""


def network(name):
    """A network in which everything is of a type, weights in an initializer and a Constant node."""
    proto_type, dtype, _ = KINDS[name]
    weight = np.sign(floats(5, 6)) / 4
    half = numpy_helper.from_array(f32(0.5).astype(dtype), "half")
    nodes = (
        op("Gemm", "x w", "c", transB=1),
        helper.make_node("Constant", [], ["h"], value=half),
        op("Mul", "c h", "m"),
        op("Cast", "m", "t", to=TensorProto.FLOAT),
        op("Relu", "t", "r"),
        op("Cast", "r", "y", to=proto_type),
    )
    data = model(*nodes, shape=(6,), kind=proto_type, w=weight.astype(dtype))
    proto = onnx.load_model_from_string(data)
    proto.graph.output[0].type.tensor_type.elem_type = proto_type
    return proto.SerializeToString()


@pytest.mark.parametrize("name", KINDS)
def test_all_of_the_graph_becomes_float32(name):
    clean, notes, _ = load(network(name))
    assert notes == (f"converted from {name} to float32",)
    onnx.shape_inference.infer_shapes(clean, check_type=True, strict_mode=True)
    targets = [node.attribute[0].i for node in clean.graph.node if node.op_type == "Cast"]
    assert targets == [TensorProto.FLOAT] * 2
    ends = (*clean.graph.input, *clean.graph.output)
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}


@pytest.mark.parametrize("name", ["float16", "float64"])
def test_it_agrees_to_the_rounding_of_the_type(name):
    _, dtype, rounding = KINDS[name]
    data, x = network(name), floats(4, 6).astype(dtype)
    expected = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    assert expected.dtype == dtype
    actual = Session(data).run(x.astype(np.float32))
    assert actual.dtype == np.float32
    largest = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rounding * float(largest))


@pytest.mark.parametrize("name", KINDS)
def test_pack_says_so_and_verify_agrees(name, tmp_path):
    source, target = tmp_path / "a.onnx", tmp_path / "a.bwn"
    source.write_bytes(network(name))
    report = bwn.pack(source, target)
    assert f"converted from {name} to float32" in report.notes
    assert [layer.stored for layer in report.layers] == ["1 bit"]
    assert bwn.verify(target, source, samples=3).agrees


def test_float32_is_left_alone():
    data = model(op("Conv", "x w"), w=floats(5, 4, 3, 3))
    clean, notes, _ = load(data)
    assert not notes
    np.testing.assert_array_equal(
        numpy_helper.to_array(clean.graph.initializer[0]), floats(5, 4, 3, 3)
    )


def test_a_number_too_large_for_float32_is_refused_by_name():
    with pytest.raises(GraphError, match=r"^tensor 'w' holds -1e\+39, which float32 cannot hold$"):
        load(model(op("Mul", "x w"), kind=TensorProto.DOUBLE, w=np.asarray([[[-1e39]]])))
    data = model(op("Max", "x w"), kind=TensorProto.DOUBLE, w=np.asarray([[[-np.inf]]]))
    assert numpy_helper.to_array(load(data).model.graph.initializer[0]) == -np.inf


def test_integers_are_left_alone():
    data = model(op("Cast", "x", "f", to=TensorProto.FLOAT16), kind=TensorProto.INT32, output="f")
    proto = onnx.load_model_from_string(data)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    clean, notes, _ = load(proto.SerializeToString())
    assert clean.graph.input[0].type.tensor_type.elem_type == TensorProto.INT32
    assert clean.graph.node[0].attribute[0].i == TensorProto.FLOAT
    assert notes == ("converted from float16 to float32",)


def test_attributes_of_foreign_operations_are_left_alone():
    data = model(op("Thing", "x", domain="other", to=TensorProto.FLOAT16))
    clean, notes, _ = load(data)
    assert clean.graph.node[0].attribute[0].i == TensorProto.FLOAT16
    assert not notes


def test_two_types_are_both_named():
    nodes = op("Cast", "x", "h", to=TensorProto.FLOAT16), op("Mul", "h w", "m")
    data = model(*nodes, op("Cast", "m", to=1), kind=TensorProto.DOUBLE, w=np.ones(1, np.float16))
    assert load(data).notes == ("converted from float16 and float64 to float32",)
