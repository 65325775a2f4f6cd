"""ONNX files that are huge, deep or illegal: one clear error each, or a result in seconds."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx import TensorProto, helper, numpy_helper
from onnx_models import FLAT, changed, f32, i64, model, one_function_each, op

from bwn.errors import FileError, GraphError
from bwn.onnx import loading, wire
from bwn.onnx.importer import from_bytes
from bwn.onnx.loading import load

MANY = 100_000
SECONDS = 30
"""Some ten times what the largest files take on a slow core; a quadratic walk takes hours."""


def chain(*kinds, count=MANY):
    """Nodes that each read the one before, from x to y."""
    names = ["x", *(f"v{index}" for index in range(count - 1)), "y"]
    return [
        helper.make_node(kinds[index % len(kinds)], [names[index]], [names[index + 1]])
        for index in range(count)
    ]


def many(kind):
    """A file of 100,000 nodes."""
    if kind == "sorted":
        return model(*chain("Relu", "Neg"), shape=FLAT)
    if kind == "reversed":
        return model(*chain("Relu", "Neg")[::-1], shape=FLAT)
    if kind == "wide":
        nodes = [helper.make_node("Neg", ["x"], [f"v{index}"]) for index in range(MANY)]
        last = helper.make_node("Concat", [f"v{index}" for index in range(MANY)], ["y"], axis=1)
        return model(last, *nodes, shape=FLAT)
    if kind == "weights":
        nodes = chain("Mul")
        for index, node in enumerate(nodes):
            node.input.append(f"w{index}")
        return model(*nodes, shape=FLAT, **{f"w{index}": f32(1.0) for index in range(MANY)})

    def change(proto):
        del proto.graph.node[:]
        nodes = chain("f0")
        for node in nodes:
            node.domain = "f"
        proto.graph.node.extend(nodes)

    return changed(one_function_each([op("Relu", "a", "b")]), change)


@pytest.mark.parametrize("kind", ["sorted", "reversed", "wide", "weights", "calls"])
def test_100_000_nodes_take_seconds(kind):
    data = many(kind)
    start = time.perf_counter()
    count = len(load(data).model.graph.node)
    assert time.perf_counter() - start < SECONDS
    assert count in (MANY, MANY + 1)


def test_a_cycle_of_100_000_nodes_is_found():
    nodes = chain("Relu")
    nodes[0].input[0] = "y"
    with pytest.raises(GraphError, match=r"in a cycle: '.*' and 99,995 more"):
        load(model(*nodes, shape=FLAT))


def test_more_nodes_than_networks_have_are_refused(monkeypatch):
    monkeypatch.setattr(loading, "MAX_NODES", 10)
    assert load(model(*chain("Relu", count=10), shape=FLAT))
    with pytest.raises(GraphError, match="the graph has 11 nodes; at most 10 are read"):
        load(model(*chain("Relu", count=11), shape=FLAT))


def nested(depth):
    """If nodes in If nodes."""
    end = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    inner = [op("Relu", "x", "r")] if not depth else [if_node("r", depth - 1)]
    return helper.make_graph(inner, "branch", [], [end])


def if_node(output, depth):
    branches = {"then_branch": nested(depth), "else_branch": nested(0)}
    return helper.make_node("If", ["c"], [output], **branches)


def test_deep_branches_are_read_with_short_names():
    data = model(if_node("y", 25), shape=FLAT, c=np.asarray(True))
    graph = from_bytes(data).spec.graph
    assert max(map(len, graph.shapes)) < 20


def test_a_subgraph_reads_tensors_from_outside():
    branch = helper.make_graph(
        [op("Neg", "late", "r")], "b", [], [helper.make_tensor_value_info("r", 1, None)]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    data = model(node, op("Relu", "x", "late"), shape=FLAT, c=np.asarray(True))
    assert [node.op_type for node in load(data).model.graph.node] == ["Relu", "If"]
    data = model(node, op("Relu", "x", "other"), shape=FLAT, c=np.asarray(True))
    with pytest.raises(GraphError, match="If node 'y': reads 'late', which nothing"):
        load(data)


FLOAT = TensorProto.FLOAT
TENSORS = {
    "more than memory": ({"dims": [2**62, 4], "raw_data": b"abcd"}, "illegal shape"),
    "many axes of many": ({"dims": [2**31 - 1] * 4, "raw_data": b""}, "takes .* but 0 are stored"),
    "a negative size": ({"dims": [-1], "raw_data": b""}, "illegal shape"),
    "too short": ({"dims": [2], "raw_data": bytes(7)}, "takes 8 bytes, but 7 are stored"),
    "too long": ({"dims": [2], "raw_data": bytes(9)}, "takes 8 bytes, but 9 are stored"),
    "too few": ({"dims": [2], "float_data": [1.0]}, "takes 2 numbers, but 1 are stored"),
    "text": ({"data_type": TensorProto.STRING, "string_data": [b"a"]}, "holds text"),
    "complex": ({"data_type": TensorProto.COMPLEX64, "raw_data": bytes(8)}, "complex numbers"),
    "no type": ({"data_type": 0, "raw_data": b""}, "the unknown type 0"),
    "an unknown type": ({"data_type": 99, "raw_data": b""}, "the unknown type 99"),
    "many axes": ({"dims": [1] * 33, "float_data": [1.0]}, "33 axes; at most 32"),
    "segments": ({"float_data": [1.0], "segment": {"begin": 0, "end": 1}}, "stored in segments"),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("place", ["initializer", "constant"])
def test_hostile_tensors_are_one_error(name, place):
    fields, message = TENSORS[name]
    tensor = TensorProto(**{"name": "w", "data_type": FLOAT, **fields})
    if place == "initializer":
        data = changed(
            model(op("Add", "x w"), w=f32(1.0)),
            lambda proto: proto.graph.initializer[0].CopyFrom(tensor),
        )
    else:
        node = onnx.NodeProto(op_type="Constant", output=["w"])
        node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
        data = model(node, op("Add", "x w"))
    with pytest.raises(GraphError, match=message) as caught:
        load(data)
    assert "tensor 'w'" in str(caught.value)


def test_sparse_tensors_are_refused():
    values = numpy_helper.from_array(f32(1.0, 2.0), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(i64(0, 3), "i"), [6])
    data = changed(
        model(op("Add", "x w"), shape=FLAT),
        lambda proto: proto.graph.sparse_initializer.append(sparse),
    )
    with pytest.raises(GraphError, match="tensor 'w' is sparse"):
        load(data)
    node = helper.make_node("Constant", [], ["w"], sparse_value=sparse)
    with pytest.raises(GraphError, match="tensor 'w' is sparse"):
        load(model(node, op("Add", "x w"), shape=FLAT))


@pytest.mark.parametrize("shape", [(3, 2**40, 2**40), (2**62,), (3, 2**31, 8)])
def test_absurd_shapes_of_the_input_are_refused(shape):
    with pytest.raises(FileError) as caught:
        from_bytes(model(op("Relu", "x"), shape=shape))
    assert str(caught.value).isprintable()


def message(number, content):
    """A protobuf field that is a message, or text."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


NODE, INITIALIZER, ATTRIBUTE, NAME = 1, 5, 5, 1


@pytest.mark.parametrize(
    "graph",
    [
        message(NODE, b"") * 999,
        message(INITIALIZER, b"") * 999,
        message(NODE, message(ATTRIBUTE, b"") * 999),
        message(NODE, message(NAME, b"") * 999),
    ],
    ids=["nodes", "initializers", "attributes", "names"],
)
def test_a_file_of_empty_messages_is_refused_before_it_fills_the_memory(graph, monkeypatch):
    monkeypatch.setattr(wire, "MAX_FIELDS", 900)
    with pytest.raises(GraphError, match="more than 900 fields"):
        load(b"\x08\x08" + message(7, graph))


def test_fields_are_counted_in_messages_in_messages():
    data = model(op("Conv", "x w"), w=floats(2, 4, 3, 3))
    proto, count = onnx.load_model_from_string(data), 0
    waiting = [proto]
    while waiting:
        for field, value in waiting.pop().ListFields():
            values = value if field.is_repeated else [value]
            packed = field.is_repeated and field.is_packed
            count += 1 if packed else len(values)
            waiting += [inner for inner in values if field.message_type is not None]
    assert wire.count_fields(data) == count
    deep = b""
    for _ in range(200):
        deep = message(NODE, message(ATTRIBUTE, message(6, deep)))
    assert wire.count_fields(message(7, deep)) < 200
