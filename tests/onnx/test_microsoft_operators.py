"""ONNX Runtime's own operations, written by hand and by its optimizer, compared with it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import floats
from onnx_models import f32, i64, model, op

from bwn.errors import GraphError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline

MS = "com.microsoft"
IMAGE = {"w": floats(5, 4, 3, 3), "b": floats(5, seed=1), "z": floats(4, 4, 3, 3, seed=2)}
ROWS = {"w": floats(6, 6), "g": floats(6, seed=1), "b": floats(6, seed=2), "h": f32(0.5)}


def ms(kind, inputs, output="y", **attributes):
    return op(kind, inputs, output, MS, **attributes)


def conv(inputs, activation, *numbers, output="y", **attributes):
    extra = {"activation_params": numbers} if numbers else {}
    return ms("FusedConv", inputs, output, activation=activation, **extra, **attributes)


SAME = {"pads": [1, 1, 1, 1]}
IMAGES = {
    "conv": [conv("x w b", "Relu", strides=[2, 2])],
    "conv and sum": [conv("x z  x", "Relu", **SAME)],
    "leaky": [conv("x w", "LeakyRelu", 0.25)],
    "clip": [conv("x w b", "Clip", -0.5, 1.5)],
    "hard sigmoid": [conv("x w b", "HardSigmoid", 0.3, 0.4)],
    "tanh": [conv("x w b", "Tanh", **SAME, dilations=[2, 2])],
}
VECTORS = {
    "gemm": [ms("FusedGemm", "x w b", activation="Relu", transB=1, alpha=0.5)],
    "gemm elu": [ms("FusedGemm", "x w b", activation="Elu", activation_alpha=0.5)],
    "matmul": [ms("FusedMatMul", "x w", alpha=0.25, transB=1)],
    "gelu": [ms("Gelu", "x")],
    "bias": [ms("BiasGelu", "x b")],
    "fast": [ms("FastGelu", "x", "f"), ms("FastGelu", "f b")],
    "quick": [ms("QuickGelu", "x", alpha=1.3)],
    "skip": [op("Relu", "x", "r"), ms("SkipLayerNormalization", "x r g", epsilon=1e-5)],
    "skip and sum": [
        op("Relu", "x", "r"),
        ms("SkipLayerNormalization", "x r g b b", "n   s", epsilon=1e-5),
        op("Add", "n s"),
    ],
    "old layer norm": [op("LayerNormalization", "x g b", axis=-1, epsilon=1e-5)],
}
TOKENS = [
    op("Reshape", "x t", "q"),
    ms("FusedMatMul", "q q", "s", transB=1, alpha=0.5),
    op("Softmax", "s", "p", axis=-1),
    ms("FusedMatMul", "p q", "o"),
    op("ReduceMean", "o", axes=[1], keepdims=0),
]


def check(data, x):
    loaded, expected = from_bytes(data), Session(data).run(x)
    for graph in (loaded.spec.graph, pipeline.run(loaded.spec.graph)):
        actual = evaluate(graph, x)[graph.topology.output]
        np.testing.assert_allclose(actual, expected.reshape(actual.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", IMAGES)
def test_of_images(name):
    check(model(*IMAGES[name], opset=13, **IMAGE), floats(2, 4, 7, 6, seed=3))


@pytest.mark.parametrize("name", VECTORS)
def test_of_vectors(name):
    data = model(*VECTORS[name], opset=13, shape=(6,), **ROWS)
    check(data, floats(2, 6, seed=3))


def test_attention():
    data = model(*TOKENS, opset=13, shape=(24,), t=i64(0, 4, 6))
    check(data, floats(2, 24, seed=3))


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
@pytest.mark.parametrize("name", ["images", "vectors"])
def test_what_the_optimizer_of_onnx_runtime_writes(tmp_path, name, level):
    images = [
        op("Conv", "x w b", "c"), op("Relu", "c", "r"), op("Conv", "r v", "d", pads=[1, 1, 1, 1]),
        op("Add", "d r", "a"), op("Relu", "a", "e"), op("Conv", "e v", "f"), op("Sigmoid", "f"),
    ]  # fmt: skip
    vectors = [
        op("Gemm", "x w b", "c", transB=1), op("Relu", "c", "r"), op("MatMul", "r w", "m"),
        op("Add", "m b", "a"), op("Div", "a q", "e"), op("Erf", "e", "s"), op("Add", "s one", "t"),
        op("Mul", "a t", "u"), op("Mul", "u h", "g1"), op("MatMul", "g1 w", "o"),
        op("Add", "o r", "sum"), op("ReduceMean", "sum", "mu", axes=[-1]), op("Sub", "sum mu", "k"),
        op("Pow", "k two", "k2"), op("ReduceMean", "k2", "v2", axes=[-1]), op("Add", "v2 ep", "v3"),
        op("Sqrt", "v3", "sd"), op("Div", "k sd", "n"), op("Mul", "n g", "ng"), op("Add", "ng b"),
    ]  # fmt: skip
    numbers = {"q": f32(2**0.5), "one": f32(1.0), "two": f32(2.0), "ep": f32(1e-5)}
    shape, x = ((4, 7, 6), floats(2, 4, 7, 6)) if name == "images" else ((6,), floats(2, 6))
    data = model(
        *(images if name == "images" else vectors), opset=13, shape=shape,
        **(IMAGE | {"v": floats(5, 5, 3, 3, seed=4)} if name == "images" else ROWS | numbers),
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    optimized = (tmp_path / "optimized.onnx").read_bytes()
    if level == "EXTENDED":
        nodes = onnx.load_model_from_string(optimized).graph.node
        assert any(node.domain == MS for node in nodes)
    check(optimized, x)


def test_dropout_may_have_a_mask_that_nothing_reads():
    check(model(op("Dropout", "x", "d m"), op("Relu", "d"), opset=9), floats(2, 4, 7, 6))


def test_nodes_for_one_kind_of_cpu_are_refused_with_advice():
    node = op("Conv", "x w", domain="com.microsoft.nchwc")
    with pytest.raises(GraphError, match="pack the file that it was optimized from"):
        from_bytes(model(node, **IMAGE))


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (ms("FusedMatMul", "x w", transBatchA=1), "transposed batches"),
        (ms("FusedGemm", "x w", activation="Relu", activation_alpha=1.0), "with 1 parameters"),
    ],
)
def test_rare_forms_are_refused(node, reason):
    with pytest.raises(GraphError, match=reason):
        from_bytes(model(node, shape=(6,), **ROWS))
