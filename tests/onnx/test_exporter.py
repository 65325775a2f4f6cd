"""ONNX out: a graph runs in ONNX Runtime as its plain truth says, whole and layer by layer, and loads again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import save_onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from bwn.errors import FileError
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops import Add, Affine, Clamp, Conv, Dense, Flatten, Pool, Sign, Softmax
from bwn.passes import pipeline
from bwn.passes.set_activations import set_activations


def make(*nodes, shape, **tensors) -> ModelSpec:
    topology = Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes)
    return ModelSpec(graph=Graph(topology=topology, tensors=tensors))


def rand(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def words(rows, count, seed=0):
    return bits.pack(np.random.default_rng(seed).standard_normal((rows, count)))


def every_node() -> ModelSpec:
    """Every node; names that collide with what the exporter adds; scales of both signs."""
    nodes = (
        Conv(
            input="x",
            output="0",
            weight="w",
            kernel=(3, 2),
            pads=(1, 0, 2, 1),
            scale="s",
            bias="t",
            low=0.0,
        ),
        Affine(input="0", output="1", scale="s", bias="t"),
        Sign(input="1", output="c"),
        Pool(input="c", output="d", kind="max", kernel=(2, 2), stride=(2, 1), pads=(1, 0, 0, 1)),
        Conv(
            input="d",
            output="e",
            weight="p",
            scale="s",
            bias="t",
            kernel=(3, 3),
            stride=(1, 2),
            pads=(2, 1, 2, 1),
            dilation=(2, 1),
            groups=2,
            low=-1.5,
            high=0.0,
            activations="binary",
        ),
        Pool(input="e", output="f", kind="average", kernel=(3, 2), pads=(1, 1, 0, 0)),
        Pool(
            input="f", output="g", kind="average", kernel=(2, 2), pads=(1, 0, 1, 0), count_pads=True
        ),
        Clamp(input="g", output="h", high=0.5),
        Add(input="h", other="g", output="i"),
        Flatten(input="i", output="j"),
        Dense(input="j", output="k", weight="q", activations="int8", bias="t"),
        Softmax(input="k", output="scores"),
    )
    size = 4 * 4 * 2
    tensors = {
        "w": rand(4, 3, 3, 2),
        "s": rand(4, seed=1),
        "t": rand(4, seed=2),
        "p": words(4, 18),
        "q": words(4, size),
    }
    return make(*nodes, shape=(3, 6, 5), **tensors)


def plain(spec: ModelSpec, x):
    """The truth of the float function: int8 layers read float32."""
    return evaluate(set_activations(spec.graph, "float32"), x)


def test_every_node_whole_and_layer_by_layer():
    spec = every_node()
    x = rand(5, 3, 6, 5, seed=9)
    wanted = plain(spec, x)
    session = Session(to_onnx_bytes(spec))
    np.testing.assert_allclose(session.run(x), wanted["scores"], rtol=1e-5, atol=1e-5)
    inner = session.tensors(x, [*wanted, "no such tensor"])
    assert set(inner) == {node.output for node in spec.graph.nodes}
    assert session.tensors(x, ["no such tensor"]) == {}
    for node in spec.graph.nodes:
        np.testing.assert_allclose(
            inner[node.output], wanted[node.output], rtol=1e-4, atol=1e-4, err_msg=node.output
        )
        inputs = {name: inner.get(name, x) for name in node.inputs}
        np.testing.assert_allclose(
            session.layer(inputs, node.output), inner[node.output], rtol=1e-6, atol=1e-6
        )


def test_it_loads_again_and_packs_to_the_same_function():
    spec = every_node()
    x = rand(5, 3, 6, 5, seed=9)
    graph = pipeline.run(from_bytes(to_onnx_bytes(spec))[0].graph)
    assert [node.output for node in graph.nodes] == [node.output for node in spec.graph.nodes]
    assert [node.is_packed(graph.tensors) for node in graph.nodes] == [
        node.is_packed(spec.graph.tensors) for node in spec.graph.nodes
    ]
    np.testing.assert_allclose(
        evaluate(graph, x)["scores"], plain(spec, x)["scores"], rtol=1e-5, atol=1e-5
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
    node = Conv(
        input="x",
        output="y",
        weight="w",
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pads=pads,
        groups=groups,
        scale="s",
        bias="s",
    )
    tensors = {"w": words(6, kernel[0] * kernel[1] * 6 // groups, seed), "s": rand(6, seed=seed)}
    spec = make(node, shape=(6, 9, 8), **tensors)
    x = rand(2, 6, 9, 8, seed=seed)
    got = Session(to_onnx_bytes(spec)).run(x)
    np.testing.assert_allclose(got, evaluate(spec.graph, x)["y"], rtol=1e-5, atol=1e-4)


def test_packed_weights_are_exactly_plus_and_minus_the_scale():
    node = Dense(input="x", output="y", weight="w", scale="s")
    scale = np.array([0.1, -3.0], np.float32)
    made = onnx.load_model_from_string(
        to_onnx_bytes(make(node, shape=(70,), w=words(2, 70), s=scale))
    )
    (stored,) = made.graph.initializer
    assert [op.op_type for op in made.graph.node] == ["Gemm"]
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
    spec = make(Clamp(input="x", output="y", **bounds), shape=(5,))
    made = onnx.load_model_from_string(to_onnx_bytes(spec))
    assert [node.op_type for node in made.graph.node] == [op]
    x = rand(3, 5) * 4
    np.testing.assert_array_equal(
        Session(made.SerializeToString()).run(x), evaluate(spec.graph, x)["y"]
    )


def test_shared_weights_with_other_scales_stay_two():
    nodes = (
        Dense(input="x", output="a", weight="w", scale="s"),
        Dense(input="a", output="b", weight="w", scale="t"),
        Dense(input="b", output="c", weight="w"),
    )
    spec = make(*nodes, shape=(4,), w=words(4, 4), s=rand(4, seed=1), t=rand(4, seed=2))
    x = rand(3, 4)
    np.testing.assert_allclose(
        Session(to_onnx_bytes(spec)).run(x), evaluate(spec.graph, x)["c"], rtol=1e-5
    )


def test_preprocessing_and_classes_come_back(tmp_path):
    rule = Preprocess(
        size=(1, 2), resize="crop", color="RGB", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)
    )
    graph = make(
        Flatten(input="x", output="f"),
        Dense(input="f", output="y", weight="w"),
        shape=(3, 1, 2),
        w=words(2, 6),
    ).graph
    path = tmp_path / "a.onnx"
    save_onnx(ModelSpec(graph=graph, preprocess=rule, classes=("é", "b")), path)
    again = from_bytes(path.read_bytes()).spec
    assert (again.preprocess, again.classes) == (rule, ("é", "b"))


def test_same_graph_same_bytes():
    assert to_onnx_bytes(every_node()) == to_onnx_bytes(every_node())


def test_a_layer_that_depends_on_more_is_refused():
    spec = every_node()
    session = Session(to_onnx_bytes(spec))
    with pytest.raises(FileError, match="'scores' also depends on 'x'"):
        session.layer({}, "scores")


def test_a_session_of_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("hello")
    with pytest.raises(FileError, match="not an ONNX model"):
        Session(path)
