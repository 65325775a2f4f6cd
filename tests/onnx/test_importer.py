"""ONNX import: each operation equals ONNX Runtime's, before and after the passes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx import TensorProto, helper
from onnx_examples import SUPPORTED
from onnx_models import i64, model, op

from bwn.errors import FileError, GraphError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.protobuf import to_array
from bwn.onnx.session import Session
from bwn.passes import pipeline


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


def test_a_second_output_without_a_name_is_none():
    pool = op("MaxPool", "x", "p ", kernel_shape=[2, 2])
    nodes = from_bytes(model(pool, op("Relu", "p"))).spec.graph.nodes
    assert [node.output for node in nodes] == ["p", "y"]


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
    with pytest.raises(GraphError, match="tensor 'w': its data are in '/etc/passwd'"):
        from_bytes(data)


def test_data_in_another_file_are_not_read_in_a_constant_node():
    data = changed(
        SUPPORTED["weights of a constant node"],
        lambda proto: make_external(proto.graph.node[0].attribute[0].t),
    )
    with pytest.raises(FileError, match="its data are in '/etc/passwd'"):
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
    spec, margins, *_ = from_bytes(data)
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
