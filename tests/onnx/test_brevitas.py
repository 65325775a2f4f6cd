"""QONNX as Brevitas writes it and as qonnx executes it; skipped where they are not installed.

`pip install -e '.[brevitas]'` brings them, best into an environment of its own.
"""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from graphs import floats
from onnx_models import f32, model, op

import bwn
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

pytestmark = pytest.mark.filterwarnings("ignore")
DOMAIN = "qonnx.custom_op.general"
MODES = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
SCALES = (f32(0.3), f32(0.5, 0.3, 2.0, 0.7).reshape(1, 4, 1, 1))
ZEROS = (f32(0), f32(3), f32(0.5))


def images(scale, high):
    """Beyond the bounds, and the halves of a scale, which are ties."""
    x = floats(3, 4, 7, 6) * np.float32(high / 4 + 1)
    x[0] = np.arange(-84, 84).reshape(4, 7, 6) * np.asarray(scale).reshape(-1, 1, 1) / 2
    return x


def compare(data, x, expected):
    """ONNX Runtime in every bit, and bwn up to the rounding of float32."""
    np.testing.assert_array_equal(Session(data).run(x), expected.astype(np.float32))
    actual = Runner(make_plan(from_bytes(data).spec.graph, len(x), 2)).run(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quant(bits, mode):
    quant = pytest.importorskip("qonnx.custom_op.general.intquant").int_quant
    for signed, narrow, scale, zero in product((0, 1), (0, 1), SCALES, ZEROS):
        fields = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        x = images(scale, 2**bits)
        expected = quant(x, scale, zero, f32(bits), signed, narrow, mode)
        node = op("Quant", "x s z b", "y", DOMAIN, **fields)
        compare(model(node, s=scale, z=zero, b=f32(bits)), x, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", SCALES)
def test_trunc(scale, mode):
    trunc = pytest.importorskip("qonnx.custom_op.general.trunc")
    x, stored = images(scale, 256), {"s": scale, "z": f32(0), "i": f32(8), "o": f32(5)}
    node = op("Trunc", "x s z i o", "y", DOMAIN, rounding_mode=mode)
    compare(model(node, **stored), x, trunc.trunc_v1(x, scale, f32(0), f32(8), f32(5), mode))
    for signed, narrow in product((0, 1), (0, 1)):
        fields = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        node = op("Trunc", "x s z i t o", "y", DOMAIN, **fields)
        result = trunc.trunc_v2(
            x, scale, f32(0), f32(8), narrow, signed, scale * f32(8), f32(5), mode
        )
        compare(model(node, t=scale * f32(8), **stored), x, result)


@pytest.mark.parametrize("form", [(4, 3, 448), (5, 2, 57344), (3, 2, 28), (2, 1, 6)])
def test_weights_of_small_floats(form):
    quant = pytest.importorskip("qonnx.custom_op.general.floatquant").float_quant
    exponent, mantissa, limit = map(f32, form)
    bias, scale = f32(2 ** (form[0] - 1) - 1), f32(0.3)
    weight = floats(9, 4, 3, 3) * np.exp(3 * floats(9, 4, 3, 3, seed=1))
    expected = quant(weight.copy(), scale, exponent, mantissa, bias, True, limit)
    nodes = [op("FloatQuant", "w s e m b v", "q", DOMAIN), op("Conv", "x q")]
    stored = {"e": exponent, "m": mantissa, "b": bias, "v": limit, "s": scale, "w": weight}
    graph = from_bytes(model(*nodes, **stored)).spec.graph
    np.testing.assert_allclose(graph.tensors[graph.nodes[0].weight], expected, rtol=1e-6)


@pytest.fixture
def brevitas():
    """Brevitas's layers and quantizers."""
    layers = pytest.importorskip("brevitas.nn")
    import brevitas.quant as quant
    from brevitas.inject.enum import ScalingImplType, StatsOp

    class Mean(quant.SignedBinaryWeightPerTensorConst):
        scaling_impl_type = ScalingImplType.STATS
        scaling_stats_op = StatsOp.AVE
        scaling_per_output_channel = True

    class FourBits(quant.Uint8ActPerTensorFloat):
        bit_width = 4

    weights = {"const": quant.SignedBinaryWeightPerTensorConst, "mean": Mean}
    activations = {
        "32 bits": lambda: layers.QuantReLU(act_quant=None),
        "8 bits": lambda: layers.QuantReLU(act_quant=quant.Uint8ActPerTensorFloat),
        "8 bits, signed": lambda: layers.QuantIdentity(act_quant=quant.Int8ActPerTensorFloat),
        "4 bits": lambda: layers.QuantReLU(act_quant=FourBits),
        "1 bit": lambda: layers.QuantIdentity(act_quant=quant.SignedBinaryActPerTensorConst),
    }
    return SimpleNamespace(layers=layers, weights=weights, activations=activations)


@pytest.mark.parametrize("weights", ["const", "mean"])
@pytest.mark.parametrize("activations", ["32 bits", "8 bits", "8 bits, signed", "4 bits", "1 bit"])
def test_networks_compute_what_brevitas_does(brevitas, tmp_path, monkeypatch, weights, activations):
    import torch
    from brevitas.core.function_wrapper.ops_ste import InplaceTensorClampSte
    from brevitas.export import export_qonnx
    from torch import nn

    # At every pass it clamps weights in place whose scale is a statistic of them.
    monkeypatch.setattr(InplaceTensorClampSte, "forward", lambda self, x, low, high: x)
    torch.manual_seed(0)
    fields = {"bias": False, "weight_quant": brevitas.weights[weights]}
    conv, act = brevitas.layers.QuantConv2d, brevitas.activations[activations]
    network = nn.Sequential(
        *(conv(3, 16, 3, **fields), nn.BatchNorm2d(16), act()),
        *(conv(16, 16, 3, padding=1, **fields), nn.BatchNorm2d(16), act(), nn.MaxPool2d(2)),
        *(conv(16, 32, 3, **fields), nn.BatchNorm2d(32), act(), nn.AvgPool2d(4), nn.Flatten()),
        brevitas.layers.QuantLinear(32, 10, **fields),
    )
    x = torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 3, 16, 16))
        network.eval()
        expected = np.concatenate([network(image).numpy() for image in x.split(1)])
    path = str(tmp_path / "a.onnx")
    export_qonnx(network, args=x[:1], export_path=path, opset_version=13, dynamo=False)
    report = bwn.pack(path, tmp_path / "a.bwn")
    assert report.compared > 0
    assert [row.stored for row in report.layers if row.weights] == ["1 bit"] * 4
    errors = np.abs(bwn.load(tmp_path / "a.bwn").run(x.numpy()) - expected).max(axis=1)
    assert (errors <= 1e-5 * np.abs(expected).max()).sum() >= 7  # one tie in a rounding
