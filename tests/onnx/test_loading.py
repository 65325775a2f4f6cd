"""From bytes to a clean model: order, outputs, sizes, functions, opsets, hostile files."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from graphs import floats
from onnx import TensorProto, helper
from onnx_models import BN, FLAT, changed, f32, model, one_function_each, op

from bwn.errors import FileError, GraphError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.loading import load
from bwn.onnx.session import Session


def outputs(data, *names):
    """The model with these outputs."""

    def change(proto):
        del proto.graph.output[:]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        proto.graph.output.extend(values)

    return changed(data, change)


def calls(name, times=1):
    """A body that calls a function some times in a row."""
    names = ["a", *(f"c{index}" for index in range(times - 1)), "b"]
    return [op(name, *pair, domain="f") for pair in pairwise(names)]


def test_nodes_out_of_order_are_sorted_and_the_rest_keeps_its_order():
    nodes = (
        op("Relu", "x", "a"),
        op("Add", "c b", "y"),
        op("Neg", "x", "b"),
        op("Mul", "a b", "c"),
    )
    data = model(*nodes, shape=FLAT)
    kept = [node.output[0] for node in load(data).model.graph.node]
    assert kept == ["a", "b", "c", "y"]
    data = model(*(nodes[index] for index in (0, 2, 3, 1)), shape=FLAT)
    assert [node.output[0] for node in load(data).model.graph.node] == kept
    x = floats(3, 6)
    np.testing.assert_array_equal(Session(data).run(x), np.maximum(x, 0) * -x - x)


def test_the_order_of_a_random_graph_is_legal_and_its_answer_the_same():
    rng = np.random.default_rng(5)
    for _ in range(20):
        names, nodes = ["x"], []
        for index in range(30):
            reads = " ".join(rng.choice(names, 2))
            nodes.append(op("Add" if index % 2 else "Max", reads, f"v{index}"))
            names.append(f"v{index}")
        data = model(*nodes, shape=FLAT, output="v29")
        mixed = model(*(nodes[i] for i in rng.permutation(30)), shape=FLAT, output="v29")
        known = {"x"}
        for node in load(mixed).model.graph.node:
            assert known.issuperset(node.input)
            known.update(node.output)
        x = floats(2, 6)
        np.testing.assert_array_equal(Session(mixed).run(x), Session(data).run(x))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            model(op("Add", "c x", "a"), op("Relu", "a", "b"), op("Neg", "b", "c"), op("Exp", "c")),
            "nodes read each other's outputs in a cycle: 'Add of a', 'Neg of c', 'Relu of b'",
        ),
        (model(op("Add", "y x")), "in a cycle: 'Add of y'"),
        (model(op("Relu", "x"), op("Neg", "x")), "makes 'y', which is the name of another tensor"),
        (model(op("Relu", "y", "x")), "makes 'x', which is the name of another tensor"),
        (model(op("Relu", "x", "w"), w=f32(1.0)), "makes 'w', which is the name of another tensor"),
        (model(op("Relu", "nothing")), "reads 'nothing', which nothing in the file makes"),
        (model(op("Relu", "x", "z")), "no node makes the output 'y'"),
        (
            changed(
                model(op("Add", "x w"), w=f32(1.0)),
                lambda proto: proto.graph.initializer.append(proto.graph.initializer[0]),
            ),
            "two stored tensors are named 'w'",
        ),
        (
            changed(
                model(op("Relu", "x")), lambda proto: proto.graph.input.append(proto.graph.input[0])
            ),
            "two inputs have the same name",
        ),
        (changed(model(op("Relu", "x")), lambda proto: proto.graph.ClearField("output")), "no out"),
    ],
)
def test_a_graph_that_is_none_is_one_error(data, message):
    with pytest.raises(FileError, match=message) as caught:
        load(data)
    assert str(caught.value).isprintable()


def test_names_with_control_characters_are_escaped():
    data = model(op("Relu", "no\n\x1b[31mthing"))
    with pytest.raises(GraphError) as caught:
        load(data)
    assert str(caught.value) == (
        r"Relu node 'Relu of y': reads 'no \x1b[31mthing', which nothing in the file makes"
    )


@pytest.mark.parametrize("name", [b"zqzq", b"nothing"])
def test_names_that_are_not_utf8_are_one_error(name):
    data = model(op("Add", "x zqzq", "nothing"), op("Relu", "nothing"), zqzq=f32(1.0))
    with pytest.raises(FileError, match=r"not UTF-8|nothing in the file makes") as caught:
        load(data.replace(name, b"\xff\xfe" + name[2:]))
    assert str(caught.value).isprintable()


def test_several_outputs_are_a_choice():
    nodes = op("Relu", "x", "a"), op("Unknown", "a", "b"), op("Neg", "a", "c")
    data = outputs(model(*nodes, shape=FLAT, output="b"), "b", "c")
    with pytest.raises(GraphError, match="has 2 outputs, 'b', 'c'; choose one with output_name"):
        load(data)
    with pytest.raises(GraphError, match="no output 'd'; the outputs are 'b', 'c'"):
        load(data, output="d")
    for name, expected in (("c", lambda x: -np.maximum(x, 0)), ("a", lambda x: np.maximum(x, 0))):
        session, x = Session(data, output=name), floats(2, 6)
        np.testing.assert_array_equal(session.run(x), expected(x))
    assert Session(data, fallback="c").output == "c"


def test_many_outputs_are_listed_in_part():
    data = outputs(model(op("Relu", "x"), shape=FLAT), *(f"o{index}" for index in range(1000)))
    with pytest.raises(GraphError, match=r"1000 outputs, 'o0', 'o1', .*'o4' and 995 more; choose"):
        load(data)


def test_only_the_inputs_that_are_read_count():
    more = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 6]) for name in "zw"]
    extend = lambda proto: proto.graph.input.extend(more)  # noqa: E731
    assert Session(changed(model(op("Relu", "x"), shape=FLAT), extend)).input == "x"
    with pytest.raises(GraphError, match="the network reads 2 inputs, expected one: 'x', 'z'"):
        load(changed(model(op("Add", "x z"), shape=FLAT), extend))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((3, "height", "width"), (8, 6), (3, 8, 6)),
        ((3, None, None), (8, 6), (3, 8, 6)),
        ((3, 8, "W"), (9, 6), (3, 8, 6)),
        ((3, "H", 6), (8, 9), (3, 8, 6)),
        ((3, 8, 6), (1, 1), (3, 8, 6)),
    ],
)
def test_a_size_fills_what_the_file_leaves_open(shape, size, expected):
    data = model(op("Conv", "x w"), shape=shape, w=floats(2, 3, 3, 3))
    graph = from_bytes(data, size=size).spec.graph
    assert tuple(graph.topology.input_shape) == expected
    x = floats(2, *expected)
    actual = evaluate(graph, x)[graph.topology.output]
    np.testing.assert_allclose(actual, Session(data).run(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        (
            (3, "height", "width"),
            None,
            r"not fixed, \(N, 3, height, width\).*choose height and width with size",
        ),
        (("C", "H", "W"), (8, 6), r"not fixed, \(N, C, 8, 6\)"),
        (("features",), (8, 6), r"not fixed, \(N, features\); only the batch may be dynamic$"),
    ],
)
def test_other_open_sizes_are_refused(shape, size, message):
    with pytest.raises(GraphError, match=message):
        from_bytes(model(op("Relu", "x"), shape=shape), size=size)


def test_functions_are_inlined():
    body = [op("Mul", "a a", "c"), op("Neg", "c", "b")]
    data = one_function_each(body, calls("f0", 2), calls("f1", 2))
    assert [node.op_type for node in load(data).model.graph.node] == ["Mul", "Neg"] * 4
    x = floats(2, 6)
    expected = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    np.testing.assert_array_equal(Session(data).run(x), expected)


@pytest.mark.parametrize(
    ("bodies", "message"),
    [
        ([calls("f0")], "function 'f0' calls itself"),
        ([calls("f1"), calls("f0")], "calls itself"),
        (
            [[op("Relu", "a", "b")], *(calls(f"f{index}", 2) for index in range(40))],
            "its functions become more than 262,144 nodes",
        ),
        (
            [[op("Relu", "a", "b")], *(calls(f"f{index}") for index in range(1000))],
            "functions call one another more than 64 deep",
        ),
        (
            [
                *(calls(f"f{index + 1}") for index in range(1000)),
                [op("Relu", "a", "b")],
                calls("f0"),
            ],
            "functions call one another more than 64 deep",
        ),
    ],
)
def test_functions_without_end_are_refused(bodies, message):
    with pytest.raises(GraphError, match=message):
        load(one_function_each(*bodies))


def test_two_functions_of_one_name_are_refused():
    data = changed(
        one_function_each([op("Relu", "a", "b")]),
        lambda proto: proto.functions.append(proto.functions[0]),
    )
    with pytest.raises(GraphError, match="two functions are named 'f0'"):
        load(data)


def old_network(opset):
    """Operations that had other forms before opset 11."""
    nodes = (
        op("BatchNormalization", "x g b m v", "n"),
        op("Clip", "n", "c", min=-0.5, max=1.0),
        op("Pad", "c", "p", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        op("Conv", "p w", "f", kernel_shape=[3, 3]),
        op("MaxPool", "f", "q", kernel_shape=[2, 2]),
        op("Flatten", "q", "r"),
        op("Gemm", "r k z", transB=1),
    )
    stored = {**BN, "w": floats(5, 4, 3, 3), "k": floats(3, 5 * 6 * 5), "z": floats(3)}
    return model(*nodes, opset=opset, **stored)


@pytest.mark.parametrize("opset", [7, 8, 9, 10])
def test_old_opsets_are_converted(opset):
    data, x = old_network(opset), floats(2, 4, 7, 6)
    expected = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    assert load(data).model.opset_import[0].version == 11
    np.testing.assert_array_equal(Session(data).run(x), expected)


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_other_opsets_are_refused(opset):
    data = model(op("Relu", "x"), opset=opset)
    with pytest.raises(FileError, match=f"opset {opset}; opsets 11 to |the ONNX checker refuses"):
        from_bytes(data)


def test_a_newer_ir_version_is_no_obstacle():
    data = changed(model(op("Relu", "x")), lambda proto: setattr(proto, "ir_version", 99))
    assert from_bytes(data).spec.graph.nodes


def test_training_information_is_left_out():
    def change(proto):
        proto.training_info.add().algorithm.node.append(op("Unknown", "a", "b"))

    assert not load(changed(model(op("Relu", "x")), change)).model.training_info
