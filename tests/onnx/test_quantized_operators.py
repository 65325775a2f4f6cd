"""Operations on integers, as ONNX Runtime's quantizers write them, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, signs
from onnx_models import FLAT, IMAGE, f32, model, op

from bwn.errors import GraphError
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.passes import pipeline
from bwn.passes.set_activations import set_activations
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

MICROSOFT = "com.microsoft"
SCALES = {"s": f32(0.03), "z": np.uint8(100), "t": f32(0.3), "u": np.uint8(90)}
START, END = op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "r t u")
CONV = {
    "w": (signs(5, 4, 3, 3) * 3 + 1).astype(np.int8),
    "k": np.abs(floats(5, seed=1)) + f32(0.1),
    "o": np.ones(5, np.int8),
    "b": np.arange(-20, 30, 10, dtype=np.int32),
}
GEMM = {
    "w": (signs(6, 3) * 3 + 1).astype(np.int8),
    "k": f32(0.2),
    "o": np.int8(1),
    "b": np.int32([-7, 0, 9]),
}


def two(kind, domain=MICROSOFT):
    return op(kind, "q s z q s z t u", "r", domain)


STATIC = {
    "QLinearConv": (
        [op("QLinearConv", "q s z w k o t u b", "r", pads=[1, 1, 1, 1])],
        IMAGE,
        CONV,
    ),
    "QLinearConv without bias": ([op("QLinearConv", "q s z w k o t u", "r")], IMAGE, CONV),
    "QLinearMatMul": ([op("QLinearMatMul", "q s z w k o t u", "r")], FLAT, GEMM),
    "QGemm": ([op("QGemm", "q s z w k o b t u", "r", MICROSOFT)], FLAT, GEMM),
    "QLinearAdd": ([two("QLinearAdd")], IMAGE, {}),
    "QLinearMul": ([two("QLinearMul")], IMAGE, {}),
    "QLinearConcat": ([op("QLinearConcat", "t u q s z q s z", "r", MICROSOFT, axis=1)], IMAGE, {}),
    "QLinearGlobalAveragePool": (
        [op("QLinearGlobalAveragePool", "q s z t u", "r", MICROSOFT)],
        IMAGE,
        {},
    ),
    "QLinearAveragePool": (
        [op("QLinearAveragePool", "q s z t u", "r", MICROSOFT, kernel_shape=[2, 2])],
        IMAGE,
        {},
    ),
}


def outputs(data, x):
    graph = set_activations(pipeline.run(from_bytes(data).spec.graph), "auto")
    return Runner(make_plan(graph, len(x), 2)).run(x)


@pytest.mark.parametrize("name", STATIC)
def test_static(name):
    nodes, shape, stored = STATIC[name]
    data = model(START, *nodes, END, shape=shape, **SCALES, **stored)
    x = floats(5, *shape) * np.float32(3)
    actual, expected = outputs(data, x), Session(data).run(x)
    steps = np.abs(actual - expected) / SCALES["t"]
    # ONNX Runtime rounds a product of scales and integer sums: a tie may become its neighbor.
    assert steps.max() < 1.01
    assert (steps > 0.01).mean() < 0.01
    assert expected.std() > SCALES["t"] / 2


def test_quantized_weights_are_one_bit():
    nodes, shape, stored = STATIC["QLinearConv"]
    data = model(START, *nodes, END, shape=shape, **SCALES, **stored)
    graph = pipeline.run(from_bytes(data).spec.graph)
    (layer,) = (node for node in graph.nodes if node.op == "conv")
    assert layer.is_packed(graph.tensors)


def dynamic(kind, weight, *more, **attributes):
    """A product as ONNX Runtime's dynamic quantizer writes it."""
    return [
        op("DynamicQuantizeLinear", "x", "q s z"),
        op("Mul", "s k", "unit"),
        op(kind, f"q {weight} z o", "sum", **attributes),
        op("Cast", "sum", "cast", to=1),
        op("Mul", "cast unit", "y" if not more else "product"),
        *more,
    ]


DYNAMIC = {
    "ConvInteger": (
        dynamic("ConvInteger", "w", op("Add", "product b"), pads=[1, 1, 1, 1]),
        IMAGE,
        {**CONV, "k": f32(0.2), "o": np.int8(1), "b": floats(1, 5, 1, 1)},
    ),
    "MatMulInteger": (dynamic("MatMulInteger", "w"), FLAT, GEMM),
    "two that read one": (
        [
            *dynamic("MatMulInteger", "w"),
            op("MatMulInteger", "q w z o", "sum2"),
            op("Cast", "sum2", "cast2", to=1),
            op("Mul", "unit cast2", "product2"),
            op("Add", "y product2", "total"),
        ],
        FLAT,
        GEMM,
    ),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic(name):
    nodes, shape, stored = DYNAMIC[name]
    data = model(*nodes, shape=shape, output=nodes[-1].output[0], **stored)
    x = floats(7, *shape) * np.linspace(0, 3, 7, dtype=np.float32).reshape(-1, *[1] * len(shape))
    session = Session(data)  # its scale is that of a batch, ours that of an image
    expected = np.concatenate([session.run(x[index : index + 1]) for index in range(len(x))])
    np.testing.assert_allclose(outputs(data, x), expected, rtol=1e-5, atol=1e-5)
    assert any("scale for each image" in note for note in from_bytes(data).notes)


REFUSED = {
    "channels last": (
        [op("QLinearGlobalAveragePool", "q s z t u", "r", MICROSOFT, channels_last=1), END],
        "channels_last is 1, which is not supported",
    ),
    "a sum of integers that is not scaled": (
        [
            op("DynamicQuantizeLinear", "x", "a b c"),
            op("ConvInteger", "a w c", "i"),
            op("Cast", "i", "y", to=1),
        ],
        "is not supported",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    nodes, message = REFUSED[name]
    data = model(START, *nodes, **SCALES, w=CONV["w"])
    with pytest.raises(GraphError) as caught:
        from_bytes(data)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
