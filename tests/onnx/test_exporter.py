"""ONNX export: graphs run in ONNX Runtime as in the reference, layer by layer, and load again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import floats, make_graph, save_onnx, words
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from bwn.errors import FileError
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.softmax import Softmax
from bwn.passes import pipeline
from bwn.passes.set_activations import set_activations


def make_spec(*nodes, shape, **tensors) -> ModelSpec:
    return ModelSpec(graph=make_graph(*nodes, shape=shape, **tensors))


def network() -> ModelSpec:
    """Many operations; names that collide with what the exporter adds; scales of both signs."""
    float_conv = {"kernel": (3, 2), "pads": (1, 0, 2, 1), "scale": "s", "bias": "t", "low": 0.0}
    binary_conv = {
        "kernel": (3, 3), "stride": (1, 2), "pads": (2, 1, 2, 1), "dilation": (2, 1), "groups": 2,
        "scale": "s", "bias": "t", "low": -1.5, "high": 0.0, "activations": "binary",
    }  # fmt: skip
    counted = {"pads": (1, 0, 1, 0), "count_pads": True}
    return make_spec(
        Conv(input="x", output="0", weight="w", **float_conv),
        Affine(input="0", output="1", scale="s", bias="t"),
        Sign(input="1", output="c"),
        Pool(input="c", output="d", kind="max", kernel=(2, 2), stride=(2, 1), pads=(1, 0, 0, 1)),
        Conv(input="d", output="e", weight="p", **binary_conv),
        Pool(input="e", output="f", kind="average", kernel=(3, 2), pads=(1, 1, 0, 0)),
        Pool(input="f", output="g", kind="average", kernel=(2, 2), **counted),
        Clamp(input="g", output="h", high=0.5),
        Add(input="h", other="g", output="i"),
        Flatten(input="i", output="j"),
        Dense(input="j", output="k", weight="q", activations="int8", bias="t"),
        Softmax(input="k", output="scores"),
        shape=(3, 6, 5),
        w=floats(4, 3, 3, 2),
        s=floats(4, seed=1),
        t=floats(4, seed=2),
        p=words(4, 18),
        q=words(4, 4 * 4 * 2),
    )


def reference(spec: ModelSpec, x):
    """All tensors of the float function: int8 layers read float32."""
    return evaluate(set_activations(spec.graph, "float32"), x)


def test_a_network_as_a_whole_and_layer_by_layer():
    spec = network()
    x = floats(5, 3, 6, 5)
    expected = reference(spec, x)
    session = Session(to_onnx_bytes(spec))
    np.testing.assert_allclose(session.run(x), expected["scores"], rtol=1e-5, atol=1e-5)
    inner = session.tensors(x, [*expected, "no such tensor"])
    assert set(inner) == {node.output for node in spec.graph.nodes}
    assert session.tensors(x, ["no such tensor"]) == {}
    for node in spec.graph.nodes:
        np.testing.assert_allclose(
            inner[node.output], expected[node.output], rtol=1e-4, atol=1e-4, err_msg=node.output
        )
        inputs = {name: inner.get(name, x) for name in node.inputs}
        np.testing.assert_allclose(
            session.layer(inputs, node.output), inner[node.output], rtol=1e-6, atol=1e-6
        )


def test_it_loads_again_and_packs_to_the_same_function():
    spec = network()
    x = floats(5, 3, 6, 5)
    graph = pipeline.run(from_bytes(to_onnx_bytes(spec))[0].graph)
    assert [node.output for node in graph.nodes] == [node.output for node in spec.graph.nodes]
    assert [node.is_packed(graph.tensors) for node in graph.nodes] == [
        node.is_packed(spec.graph.tensors) for node in spec.graph.nodes
    ]
    np.testing.assert_allclose(
        evaluate(graph, x)["scores"], reference(spec, x)["scores"], rtol=1e-5, atol=1e-5
    )


@given(
    groups=st.sampled_from([1, 2, 3]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pad=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_packed_convolutions_of_any_shape(groups, kernel, stride, dilation, pad, seed):
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    pads = tuple(min(pad, reach[axis % 2] - 1) for axis in range(4))
    window = {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads}
    spec = make_spec(
        Conv(input="x", output="y", weight="w", scale="s", bias="s", groups=groups, **window),
        shape=(6, 9, 8),
        w=words(6, kernel[0] * kernel[1] * 6 // groups, seed),
        s=floats(6, seed=seed),
    )
    x = floats(2, 6, 9, 8, seed=seed)
    scores = Session(to_onnx_bytes(spec)).run(x)
    np.testing.assert_allclose(scores, evaluate(spec.graph, x)["y"], rtol=1e-5, atol=1e-4)


def test_packed_weights_are_exactly_plus_and_minus_the_scale():
    node = Dense(input="x", output="y", weight="w", scale="s")
    scale = np.array([0.1, -3.0], np.float32)
    spec = make_spec(node, shape=(70,), w=words(2, 70), s=scale)
    proto = onnx.load_model_from_string(to_onnx_bytes(spec))
    (stored,) = proto.graph.initializer
    assert [op.op_type for op in proto.graph.node] == ["Gemm"]
    signs = bits.unpack(words(2, 70), 70)
    np.testing.assert_array_equal(numpy_helper.to_array(stored), signs * scale[:, None])


@pytest.mark.parametrize(
    ("bounds", "op"),
    [
        ({"low": 0.0}, "Relu"),
        ({"low": 0.0, "high": 6.0}, "Clip"),
        ({"high": 1.0}, "Clip"),
        ({"low": -1.0}, "Clip"),
    ],
)
def test_bounds_are_relu_or_clip(bounds, op):
    spec = make_spec(Clamp(input="x", output="y", **bounds), shape=(5,))
    data = to_onnx_bytes(spec)
    assert [node.op_type for node in onnx.load_model_from_string(data).graph.node] == [op]
    x = floats(3, 5) * 4
    np.testing.assert_array_equal(Session(data).run(x), evaluate(spec.graph, x)["y"])


def test_shared_weights_with_different_scales_become_two_initializers():
    spec = make_spec(
        Dense(input="x", output="a", weight="w", scale="s"),
        Dense(input="a", output="b", weight="w", scale="t"),
        Dense(input="b", output="c", weight="w"),
        shape=(4,),
        w=words(4, 4),
        s=floats(4, seed=1),
        t=floats(4, seed=2),
    )
    x = floats(3, 4)
    np.testing.assert_allclose(
        Session(to_onnx_bytes(spec)).run(x), evaluate(spec.graph, x)["c"], rtol=1e-5
    )


def test_preprocessing_and_classes_are_read_back(tmp_path):
    preprocess = Preprocess(
        size=(1, 2), resize="crop", color="RGB", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)
    )
    nodes = (Flatten(input="x", output="f"), Dense(input="f", output="y", weight="w"))
    graph = make_graph(*nodes, shape=(3, 1, 2), w=words(2, 6))
    path = tmp_path / "a.onnx"
    save_onnx(ModelSpec(graph=graph, preprocess=preprocess, classes=("é", "b")), path)
    again = from_bytes(path.read_bytes()).spec
    assert (again.preprocess, again.classes) == (preprocess, ("é", "b"))


def test_equal_graphs_give_equal_bytes():
    assert to_onnx_bytes(network()) == to_onnx_bytes(network())


def test_a_layer_that_depends_on_other_tensors_is_refused():
    session = Session(to_onnx_bytes(network()))
    with pytest.raises(FileError, match="'scores' also depends on 'x'"):
        session.layer({}, "scores")


def test_a_session_of_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("hello")
    with pytest.raises(FileError, match="not an ONNX model"):
        Session(path)
