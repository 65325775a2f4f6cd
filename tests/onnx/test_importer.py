"""ONNX import: each operation equals ONNX Runtime's, before and after the passes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx import TensorProto, helper, numpy_helper
from onnx_models import BN, FLAT, SIGN, f32, i64, model, op

from bwn.errors import FileError, GraphError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.protobuf import to_array
from bwn.onnx.session import Session
from bwn.passes import pipeline

WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
SUPPORTED = {
    "conv": model(op("Conv", "x w"), w=floats(5, 4, 3, 3)),
    "conv bias": model(op("Conv", "x w b", kernel_shape=[3, 2]), w=floats(5, 4, 3, 2), b=floats(5)),
    "conv stride pads": model(
        op("Conv", "x w", strides=[2, 1], pads=[1, 0, 2, 1]), w=floats(5, 4, 3, 3)
    ),
    "conv dilation": model(
        op("Conv", "x w", dilations=[2, 1], pads=[2, 1, 2, 1]), w=floats(5, 4, 3, 3)
    ),
    "conv groups": model(op("Conv", "x w", group=2), w=floats(6, 2, 3, 3)),
    "conv depthwise": model(op("Conv", "x w", group=4), w=floats(8, 1, 3, 3)),
    "conv same upper": model(
        op("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 3]), w=floats(5, 4, 3, 4)
    ),
    "conv same lower": model(
        op("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2]), w=floats(5, 4, 3, 4)
    ),
    "conv valid": model(op("Conv", "x w", auto_pad="VALID"), w=floats(5, 4, 3, 4)),
    "gemm": model(op("Gemm", "x w b"), shape=FLAT, w=floats(6, 3), b=floats(3)),
    "gemm no bias": model(op("Gemm", "x w", transB=1), shape=FLAT, w=floats(3, 6)),
    "gemm alpha beta": model(
        op("Gemm", "x w b", transB=1, alpha=0.5, beta=3.0), shape=FLAT, w=floats(3, 6), b=floats(3)
    ),
    "gemm scalar bias": model(
        op("Gemm", "x w b", transB=1), shape=FLAT, w=floats(3, 6), b=f32(2.0)
    ),
    "gemm bias of two axes": model(
        op("Gemm", "x w b", transB=1), shape=FLAT, w=floats(3, 6), b=floats(1, 3)
    ),
    "matmul add": model(
        op("MatMul", "x w", "a"), op("Add", "a b"), shape=FLAT, w=floats(6, 3), b=floats(3)
    ),
    "weights used both ways": model(
        op("Gemm", "x w", "a", transB=1), op("Gemm", "a w"), shape=FLAT, w=floats(6, 6)
    ),
    "batch norm": model(op("BatchNormalization", "x g b m v", epsilon=0.01), **BN),
    "batch norm opset 11": model(op("BatchNormalization", "x g b m v"), opset=11, **BN),
    "batch norm of features": model(op("BatchNormalization", "x g b m v"), shape=(4,), **BN),
    "mul": model(op("Mul", "x c"), c=floats(4, 1, 1)),
    "mul scalar first": model(op("Mul", "c x"), c=f32(-3.0)),
    "mul of features": model(op("Mul", "x c"), shape=FLAT, c=floats(6)),
    "add per channel": model(op("Add", "c x"), c=floats(1, 4, 1, 1)),
    "sub": model(op("Sub", "x c"), c=floats(4, 1, 1)),
    "sub from": model(op("Sub", "c x"), c=floats(4, 1, 1)),
    "div": model(op("Div", "x c"), c=f32([[[2.0]], [[-4.0]], [[0.5]], [[3.0]]])),
    "relu": model(op("Relu", "x")),
    "clip": model(op("Clip", "x l h"), l=f32(-0.5), h=f32(0.25)),
    "clip low": model(op("Clip", "x l"), l=f32(-0.5)),
    "clip high": model(helper.make_node("Clip", ["x", "", "h"], ["y"]), h=f32(0.5)),
    "clip wide": model(op("Clip", "x l h"), l=np.finfo(np.float32).min, h=f32(0.5)),
    "clip nothing": model(op("Clip", "x")),
    "sign greater or equal": model(op("GreaterOrEqual", "x z", "c"), op("Where", "c p n"), **SIGN),
    "sign less": model(op("Less", "x z", "c"), op("Where", "c n p"), **SIGN),
    "sign mirrored": model(op("LessOrEqual", "z x", "c"), op("Where", "c p n"), **SIGN),
    "sign mirrored greater": model(op("Greater", "z x", "c"), op("Where", "c n p"), **SIGN),
    "sign opset 11": model(
        op("Less", "x z", "l"), op("Not", "l", "c"), op("Where", "c p n"), opset=11, **SIGN
    ),
    "sign of larq": model(op("Sign", "x", "s"), op("Add", "s c", "a"), op("Sign", "a"), c=f32(0.1)),
    "add": model(op("Relu", "x", "r"), op("Add", "r x")),
    "max pool": model(op("MaxPool", "x", **WINDOW)),
    "max pool ceil": model(op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    "max pool ceil pads": model(
        op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    ),
    "max pool ceil stride": model(
        op("MaxPool", "x", kernel_shape=[1, 2], strides=[3, 4], ceil_mode=1)
    ),
    "max pool same": model(
        op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    ),
    "average pool": model(op("AveragePool", "x", **WINDOW)),
    "average pool counted": model(op("AveragePool", "x", **WINDOW, count_include_pad=1)),
    "average pool ceil that fits": model(
        op("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)
    ),
    "global average": model(op("GlobalAveragePool", "x")),
    "global max": model(op("GlobalMaxPool", "x")),
    "mean": model(op("ReduceMean", "x", axes=[2, 3])),
    "mean negative axes": model(op("ReduceMean", "x", axes=[-1, -2], keepdims=0)),
    "mean opset 18": model(op("ReduceMean", "x a", keepdims=0), opset=18, a=i64(2, 3)),
    "squeeze": model(op("GlobalAveragePool", "x", "g"), op("Squeeze", "g a"), a=i64(2, 3)),
    "squeeze opset 11": model(
        op("GlobalAveragePool", "x", "g"), op("Squeeze", "g", axes=[-1, -2]), opset=11
    ),
    "flatten": model(op("Flatten", "x")),
    "flatten flat": model(op("Flatten", "x", "f"), op("Flatten", "f", "g"), op("Relu", "g")),
    "reshape -1": model(op("Reshape", "x s"), s=i64(0, -1)),
    "reshape sizes": model(op("Reshape", "x s"), s=i64(-1, 168)),
    "reshape to the same": model(op("Reshape", "x s", "r"), op("Relu", "r"), s=i64(0, 4, 7, 6)),
    "reshape by shape": model(
        op("Shape", "x", "s"),
        op("Gather", "s i", "n"),
        op("Unsqueeze", "n a", "u"),
        op("Concat", "u m", "t", axis=0),
        op("Reshape", "x t"),
        i=np.int64(0),
        a=i64(0),
        m=i64(-1),
    ),
    "softmax": model(op("Softmax", "x"), shape=FLAT),
    "softmax opset 11": model(op("Softmax", "x"), shape=FLAT, opset=11),
    "identities": model(
        op("Identity", "x", "a"),
        op("Dropout", "a", "b"),
        op("Cast", "b", "c", to=TensorProto.FLOAT),
        op("Relu", "c"),
    ),
    "identity last": model(op("Relu", "x", "a"), op("Identity", "a")),
    "weights through nodes": model(
        op("Identity", "w", "w1"),
        op("Transpose", "w1", "w2", perm=[1, 0]),
        op("Sign", "w2", "w3"),
        op("Mul", "w3 a", "w4"),
        op("Gemm", "x w4", transB=1),
        shape=FLAT,
        w=floats(6, 3),
        a=floats(3, 1),
    ),
    "weights by comparison": model(
        op("GreaterOrEqual", "w z", "c"),
        op("Where", "c p n", "v"),
        op("Conv", "x v"),
        w=floats(5, 4, 2, 2),
        **SIGN,
    ),
    "weights of a constant node": model(
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(floats(6, 3))),
        op("MatMul", "x w"),
        shape=FLAT,
    ),
    "clip by constant nodes": model(
        helper.make_node("Constant", [], ["l"], value_float=0.25), op("Clip", "x l")
    ),
    "opset newest": model(op("Relu", "x"), opset=onnx.defs.onnx_opset_version() - 4),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_computes_what_onnx_runtime_does(name):
    data = SUPPORTED[name]
    graph = from_bytes(data)[0].graph
    x = floats(3, *graph.topology.input_shape)
    x.reshape(3, -1)[:, 1] = 0  # signs and clamps at zero
    session = Session(data)
    scores = session.run(x)
    for imported in (graph, pipeline.run(graph)):
        tensors = evaluate(imported, x)
        np.testing.assert_allclose(tensors[imported.topology.output], scores, rtol=1e-5, atol=1e-5)
        inner = session.tensors(x, [node.output for node in imported.nodes])
        for tensor, array in inner.items():
            np.testing.assert_allclose(tensors[tensor], array, rtol=1e-5, atol=1e-5, err_msg=tensor)


def changed(data: bytes, change) -> bytes:
    proto = onnx.load_model_from_string(data)
    change(proto)
    return proto.SerializeToString()


def make_external(tensor):
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


def test_data_in_another_file_are_not_read():
    data = changed(SUPPORTED["conv"], lambda proto: make_external(proto.graph.initializer[0]))
    with pytest.raises(GraphError, match="tensor 'w': its data are in another file"):
        from_bytes(data)


def test_data_in_another_file_are_not_read_in_a_constant_node():
    data = changed(
        SUPPORTED["weights of a constant node"],
        lambda proto: make_external(proto.graph.node[0].attribute[0].t),
    )
    with pytest.raises(FileError):
        from_bytes(data)
    tensor = onnx.TensorProto(name="t", data_location=TensorProto.EXTERNAL)
    with pytest.raises(GraphError, match="in another file"):
        to_array(tensor)


def test_two_inputs_and_two_outputs_are_refused():
    more = helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 4, 7, 6])
    for change in (
        lambda proto: proto.graph.input.append(more),
        lambda proto: proto.graph.output.append(more),
    ):
        data = changed(model(op("Relu", "x", "r"), op("Relu", "r")), change)
        with pytest.raises(FileError):
            from_bytes(data)


def test_initializers_listed_as_inputs_are_not_counted_as_inputs():
    entry = helper.make_tensor_value_info("w", TensorProto.FLOAT, [5, 4, 3, 3])
    data = changed(SUPPORTED["conv"], lambda proto: proto.graph.input.insert(0, entry))
    assert from_bytes(data)[0].graph.topology.input == "x"


def test_truncated_and_flipped_files_never_crash():
    data = bytearray(SUPPORTED["conv bias"])
    for length in range(0, len(data), 7):
        with pytest.raises(FileError):
            from_bytes(bytes(data[:length]))
    random = np.random.default_rng(0)
    for bit in random.integers(0, len(data) * 8, 600):
        data[bit // 8] ^= 1 << int(bit) % 8
        try:
            from_bytes(bytes(data))  # a flipped weight is another legal model
        except FileError as error:
            assert str(error).isprintable(), bit  # noqa: PT017
        data[bit // 8] ^= 1 << int(bit) % 8


def test_metadata_are_read():
    notes = {
        "bwn.preprocess": '{"size":[7,6],"color":"RGB","mean":[0,0.5,0],"std":[1,1,1]}',
        "bwn.classes": '["a","b"]',
        "bwn.margins": '{"w":0.25}',
    }
    nodes = (
        op("GlobalAveragePool", "x", "g"),
        op("Flatten", "g", "f"),
        op("Gemm", "f w", transB=1),
    )
    data = model(*nodes, shape=(3, 7, 6), notes=notes, w=floats(2, 3))
    spec, margins, _ = from_bytes(data)
    assert spec.preprocess is not None
    assert spec.preprocess.mean == (0.0, 0.5, 0.0)
    assert spec.classes == ("a", "b")
    assert margins == {"w": 0.25}


@pytest.mark.parametrize("sizes", [(1, -1), (1, 336), (-1, 336)])
def test_a_model_for_a_batch_of_one_is_read_for_any_batch(sizes):
    shape = (4, 7, 12)
    nodes = (op("Relu", "x", "a"), op("Reshape", "a s", "b"), op("MatMul", "b w"))
    data = model(*nodes, shape=shape, batch=1, s=i64(*sizes), w=floats(336, 3))
    graph = from_bytes(data).spec.graph
    x = floats(5, *shape)
    session = Session(data)
    expected = np.concatenate([session.run(image[None]) for image in x])
    np.testing.assert_allclose(
        evaluate(graph, x)[graph.topology.output], expected, rtol=1e-5, atol=1e-5
    )
