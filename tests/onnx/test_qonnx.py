"""ONNX import of QONNX's operations, against the same formulas in ONNX's own operations."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, signs
from onnx_models import f32, model, op

from bwn.errors import FileError
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops.conv import Conv
from bwn.ops.quantize import Quantize
from bwn.ops.sign import Sign
from bwn.passes import pipeline
from bwn.passes.set_activations import set_activations
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
ROUND = {"ROUND": "Round", "FLOOR": "Floor", "CEIL": "Ceil"}
MODES = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + f32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - f32(0.5)),
}
"""Rounding modes as QONNX defines them."""
SCALES = (f32(0.3), f32(0.5, 0.3, 2.0, 0.7).reshape(1, 4, 1, 1))


def quant(source, output, bits, domain=DOMAINS[0], scale="s", zero="z", **attributes):
    fields = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attributes}
    return op("Quant", f"{source} {scale} {zero} {bits}", output, domain, **fields)


def spelled(source, output, low, high, mode="ROUND"):
    """Quant by ONNX's operations."""
    names = [f"{output}.{step}" for step in range(5)]
    return [
        op("Div", f"{source} s", names[0]),
        op("Add", f"{names[0]} z", names[1]),
        op("Clip", f"{names[1]} {low} {high}", names[2]),
        op(ROUND[mode], names[2], names[3]),
        op("Sub", f"{names[3]} z", names[4]),
        op("Mul", f"{names[4]} s", output),
    ]


def outputs(data, x):
    """Of the packed network, and its graph."""
    graph = set_activations(pipeline.run(from_bytes(data).spec.graph), "auto")
    return Runner(make_plan(graph, len(x), 2)).run(x), graph


def images(high, scale=0.15):
    """Beyond the bounds, and the halves of a scale, which are ties."""
    x = floats(3, 4, 7, 6) * np.float32(high / 4 + 1)
    x[0] = np.arange(-84, 84).reshape(4, 7, 6) * f32(scale) / 2
    return x


RANGES = [
    (8, 1, 0, -128, 127),
    (8, 1, 1, -127, 127),
    (8, 0, 0, 0, 255),
    (8, 0, 1, 0, 254),
    (4, 0, 0, 0, 15),
    (4, 1, 0, -8, 7),
    (3, 1, 1, -3, 3),
    (2, 1, 1, -1, 1),
    (1, 0, 0, 0, 1),
]


@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("zero", [0.0, 3.0])
@pytest.mark.parametrize(("bits", "signed", "narrow", "low", "high"), RANGES)
def test_quant_of_activations(bits, signed, narrow, low, high, zero, mode):
    stored = {"s": f32(0.3), "z": f32(zero), "b": f32(bits), "low": f32(low), "high": f32(high)}
    fields = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
    x = floats(3, 4, 7, 6) * np.float32(high / 4 + 1)
    x[0, 0] = np.arange(-21, 21).reshape(7, 6) * f32(0.15)  # halves: ties
    actual, graph = outputs(model(quant("x", "y", "b", **fields), **stored), x)
    assert [type(node) for node in graph.nodes] == [Quantize]
    expected = Session(model(*spelled("x", "y", "low", "high", mode), **stored)).run(x)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zero", [f32(0), f32(3), f32(0.5, -1, 2, 0).reshape(1, 4, 1, 1)])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("bits", "signed", "narrow", "low", "high"), RANGES)
def test_quant_in_every_rounding_mode(bits, signed, narrow, low, high, scale, zero, mode):
    fields = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
    x = images(high, scale)
    data = model(quant("x", "y", "b", **fields), s=scale, z=zero, b=f32(bits))
    whole = MODES[mode](np.clip(x / scale + zero, f32(low), f32(high)))
    theirs = Session(data).run(x)
    np.testing.assert_array_equal(theirs, (whole - zero) * scale)
    np.testing.assert_allclose(outputs(data, x)[0], theirs, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_weights_in_every_rounding_mode(mode):
    weight, stored = images(7).reshape(-1, 4, 3, 3), {"s": f32(0.3), "z": f32(0), "b": f32(4)}
    nodes = [quant("w", "q", "b", rounding_mode=mode), op("Conv", "x q")]
    graph = from_bytes(model(*nodes, w=weight, **stored)).spec.graph
    expected = MODES[mode](np.clip(weight / f32(0.3), f32(-8), f32(7))) * f32(0.3)
    np.testing.assert_array_equal(graph.tensors[graph.nodes[0].weight], expected)


def test_a_scale_for_each_channel():
    scales = f32(0.5, 0.25, 2.0, 1.0).reshape(1, 4, 1, 1)
    stored = {"s": scales, "z": f32(0), "b": f32(4), "low": f32(-8), "high": f32(7)}
    x = floats(3, 4, 7, 6) * np.float32(5)
    actual, _ = outputs(model(quant("x", "y", "b"), **stored), x)
    expected = Session(model(*spelled("x", "y", "low", "high"), **stored)).run(x)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("domain", DOMAINS)
def test_weights_are_one_bit_in_any_domain(domain):
    weight, scale = floats(5, 4, 3, 3), np.abs(floats(5, 1, 1, 1, seed=1)) + f32(0.1)
    data = model(op("BipolarQuant", "w s", "q", domain), op("Conv", "x q"), w=weight, s=scale)
    x = floats(2, 4, 7, 6)
    actual, graph = outputs(data, x)
    assert graph.nodes[0].is_packed(graph.tensors)
    stored = np.where(weight >= 0, f32(1), f32(-1)) * scale
    expected = Session(model(op("Conv", "x q"), q=stored)).run(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_of_several_bits(bits):
    weight, scale = floats(5, 4, 3, 3), np.abs(floats(5, 1, 1, 1, seed=1)) + f32(0.1)
    data = model(
        quant("w", "q", "b", narrow=1), op("Conv", "x q"), w=weight, s=scale, z=f32(0), b=f32(bits)
    )
    graph = from_bytes(data).spec.graph
    most = 2 ** (bits - 1) - 1
    integers = np.clip(np.rint(weight / scale), -most, most) if most else np.sign(weight)
    np.testing.assert_array_equal(graph.tensors[graph.nodes[0].weight], integers * scale)


@pytest.mark.parametrize("bits", [16, 32])
def test_biases_of_many_bits(bits):
    stored = {"w": signs(5, 4, 3, 3), "v": floats(5) * f32(50), "z": f32(0), "b": f32(bits)}
    data = model(quant("v", "q", "b"), op("Conv", "x w q"), s=f32(0.001), **stored)
    x = floats(2, 4, 7, 6)
    bound = (2 ** (bits - 1) - 1) * 0.001
    expected = np.clip(np.rint(stored["v"] / f32(0.001)) * f32(0.001), -bound - 0.001, bound)
    graph = from_bytes(data).spec.graph
    np.testing.assert_allclose(graph.tensors[graph.nodes[0].bias], expected, rtol=1e-6)
    np.testing.assert_allclose(outputs(data, x)[0], Session(data).run(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.4])
@pytest.mark.parametrize("kind", ["BipolarQuant", "Quant"])
def test_bipolar_activations_are_signs(kind, scale):
    stored = {"s": f32(scale), "z": f32(0), "b": f32(1), "w": np.sign(floats(70, 4, 3, 3))}
    quantize = (
        quant("x", "q", "b") if kind == "Quant" else op("BipolarQuant", "x s", "q", DOMAINS[0])
    )
    layers = [
        op("MaxPool", "q", "p", kernel_shape=[2, 2]),
        op("Conv", "p w", pads=[1, 1, 1, 1]),
    ]
    x = floats(2, 4, 7, 6)
    actual, graph = outputs(model(quantize, *layers, **stored), x)
    signs = [
        op("GreaterOrEqual", "x z", "positive"),
        op("Where", "positive s n", "q"),
    ]
    expected = Session(model(*signs, *layers, n=f32(-scale), **stored)).run(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)
    assert isinstance(graph.nodes[0], Sign)
    assert [node.activations for node in graph.nodes if isinstance(node, Conv)] == ["binary"]


@pytest.mark.parametrize("bits", [4, 2])
def test_layers_read_few_bits_as_integers(bits):
    stored = {"s": f32(0.3), "z": f32(0), "b": f32(bits), "low": f32(0)}
    stored |= {"high": f32(2**bits - 1), "w": np.sign(floats(9, 4, 3, 3)), "v": floats(4, 4, 1, 1)}
    first = [op("Conv", "x v", "a"), op("Relu", "a", "r")]
    rest = [op("MaxPool", "q", "p", kernel_shape=[2, 2]), op("Conv", "p w")]
    x = floats(3, 4, 7, 6, seed=2) * np.float32(3)
    data = model(*first, quant("r", "q", "b", signed=0), *rest, **stored)
    actual, graph = outputs(data, x)
    assert [node.op for node in graph.nodes] == ["conv", "pool", "conv"]
    layer = graph.nodes[-1]
    assert (layer.activations, layer.input_scale) == ("int8", float(f32(0.3)))
    expected = Session(model(*first, *spelled("r", "q", "low", "high"), *rest, **stored)).run(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("version", [1, 2])
def test_trunc(mode, version, scale):
    x = images(120, scale)
    inputs = "x s z i o" if version == 1 else "x s z i t o"
    stored = {"s": scale, "z": f32(0), "i": f32(8), "o": f32(5), "t": scale * f32(8)}
    data = model(op("Trunc", inputs, "y", DOMAINS[0], rounding_mode=mode), **stored)
    q = np.rint(x / scale) / f32(8)
    if version == 2:
        q = np.clip(q, -16, 15)
    theirs = Session(data).run(x)
    np.testing.assert_array_equal(theirs, MODES[mode](q) * (scale if version == 1 else stored["t"]))
    np.testing.assert_allclose(outputs(data, x)[0], theirs, rtol=1e-6)


FLOATS = {
    (4, 3, 448): [-448, -416, 0.001953125, 0.005859375, 1, 1.125, 2, 2.25, 448],
    (2, 1, 6): [-6, -6, 0, 0, 1, 1, 2, 2, 6],
}
"""Numbers of 8 and of 4 bits, and what some numbers become."""


@pytest.mark.parametrize("form", FLOATS)
def test_weights_of_small_floats(form):
    exponent, mantissa, limit = form
    values = f32([-500, -420, 0.002, 0.005, 1.01, 1.1, 2.05, 2.2, 1e9])
    stored = {"s": f32(1), "e": f32(exponent), "m": f32(mantissa), "v": f32(limit)}
    stored |= {"w": values.reshape(1, 1, 3, 3), "b": f32(2 ** (exponent - 1) - 1)}
    nodes = [op("FloatQuant", "w s e m b v", "q", DOMAINS[0]), op("Conv", "x q")]
    data = model(*nodes, shape=(1, 4, 4), **stored)
    graph = from_bytes(data).spec.graph
    np.testing.assert_array_equal(graph.tensors[graph.nodes[0].weight].ravel(), FLOATS[form])
    x = floats(2, 1, 4, 4)
    np.testing.assert_allclose(outputs(data, x)[0], Session(data).run(x), rtol=1e-5)


REFUSED = {
    "rounding": (
        model(quant("x", "y", "b", rounding_mode="DPU"), s=f32(1), z=f32(0), b=f32(4)),
        "rounding_mode is DPU; supported: ROUND",
    ),
    "bits": (model(quant("x", "y", "b"), s=f32(1), z=f32(0), b=f32(40)), "has 40 bits"),
    "half a bit": (
        model(quant("x", "y", "b"), s=f32(1), z=f32(0), b=f32(2.5)),
        "has 2.5, expected a whole number",
    ),
    "a scale of 0": (model(quant("x", "y", "b"), s=f32(0), z=f32(0), b=f32(4)), "has the scale 0"),
    "a scale of 0 among others": (
        model(quant("x", "y", "b"), s=f32(1, 0, 1, 1).reshape(1, 4, 1, 1), z=f32(0), b=f32(4)),
        "has the scale 0",
    ),
    "small floats": (
        model(op("FloatQuant", "x s s s s s", "y", DOMAINS[0]), s=f32(1)),
        "rounds activations to small floats",
    ),
    "another domain": (
        model(op("Quant", "x s s s", domain="other"), s=f32(1)),
        "other::Quant is not supported",
    ),
    "weights that do not fit": (
        model(op("BipolarQuant", "w s", "q", DOMAINS[0]), op("Conv", "x q"), w=floats(5, 4, 3, 3),
              s=floats(7)),
        "cannot be computed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    data, message = REFUSED[name]
    with pytest.raises(FileError) as caught:
        from_bytes(data)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_dorefa_rounds_to_few_numbers(bits):
    """Round(Clip(x, 0, 1) * n) / n (Zhou et al., arXiv:1606.06160)."""
    stored = {"o": f32(0), "l": f32(1), "n": f32(2**bits - 1), "w": np.sign(floats(9, 4, 3, 3))}
    nodes = [
        op("Clip", "x o l", "c"),
        op("Mul", "c n", "m"),
        op("Round", "m", "r"),
        op("Div", "r n", "d"),
        op("Conv", "d w"),
    ]
    x = floats(3, 4, 7, 6)
    data = model(*nodes, **stored)
    actual, graph = outputs(data, x)
    np.testing.assert_allclose(actual, Session(data).run(x), rtol=1e-6, atol=1e-5)
    assert graph.nodes[-1].activations == ("int8" if bits < 8 else "float32")
