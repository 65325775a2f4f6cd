"""The reference interpreter against torch in float64 and exact integers, and its tolerances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs import conv3x3, floats, make_graph, signs
from torch.nn import functional as F

from bwn.ir.interpreter import evaluate, evaluate_node
from bwn.ir.quantization import QUANT_RANGES
from bwn.ir.tolerance import EPSILON, ROUNDINGS, chain_tolerance, in_tolerances, tolerance
from bwn.kernels import bits
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.softmax import Softmax


def test_a_network_of_float_operations_agrees_with_torch():
    window = {"kernel": (3, 2), "pads": (1, 0, 1, 1), "groups": 2}
    ceil = {"kernel": (2, 2), "stride": (2, 1), "pads": (0, 0, 1, 0)}
    nodes = (
        Conv(input="x", output="a", weight="w", scale="s", bias="b", low=-9, **window),
        Affine(input="a", output="c", scale="s", bias="b"),
        Add(input="a", other="c", output="d"),
        Clamp(input="d", output="e", low=0, high=6),
        Pool(input="e", output="f", kind="average", **ceil),
        Pool(input="f", output="g", kind="max", kernel=(2, 2)),
        Flatten(input="g", output="h"),
        Dense(input="h", output="i", weight="v"),
        Softmax(input="i", output="y"),
    )
    weights = {"w": floats(6, 2, 3, 2), "v": floats(5, 54)}
    graph = make_graph(*nodes, shape=(4, 7, 5), **weights, s=floats(6), b=floats(6, seed=1))
    x = floats(3, 4, 7, 5)
    tensors = evaluate(graph, x)
    t = {name: torch.from_numpy(array).double() for name, array in graph.tensors.items()}
    a = F.conv2d(F.pad(torch.from_numpy(x).double(), (0, 1, 1, 1)), t["w"], groups=2)
    a = (a * t["s"].view(-1, 1, 1) + t["b"].view(-1, 1, 1)).clamp(min=-9)
    d = (a + a * t["s"].view(-1, 1, 1) + t["b"].view(-1, 1, 1)).clamp(0, 6)
    f = F.avg_pool2d(d, 2, (2, 1), ceil_mode=True, count_include_pad=False)
    y = F.softmax(F.max_pool2d(f, 2, 1).flatten(1) @ t["v"].T, dim=1)
    np.testing.assert_allclose(tensors["f"], f, atol=1e-12)
    np.testing.assert_allclose(tensors["y"], y, atol=1e-12)
    assert all(array.dtype == np.float64 for array in tensors.values())


def quantized(x, qmin, qmax):
    """q and the scale of each image, in float64: q = round(x / scale), scale = max|x| / qmax."""
    scale = np.abs(x).max(axis=(1, 2, 3)) / np.float32(qmax)
    q = np.clip(np.rint(x / scale.reshape(-1, 1, 1, 1)), qmin, qmax)
    return q.astype(np.float64), scale.astype(np.float64)


@pytest.mark.parametrize("activations", ["float32", "int8", "uint8", "binary"])
def test_packed_convolutions(activations):
    weights = signs(3, 2, 3, 3)
    rows = weights.transpose(0, 2, 3, 1).reshape(3, 18)  # k = (ky * 3 + kx) * 2 + c
    scale, bias = np.abs(floats(3)), floats(3, seed=1)
    conv = conv3x3("x", "y", "w", scale="s", bias="b", activations=activations)
    graph = make_graph(conv, shape=(2, 5, 5), w=bits.pack(rows), s=scale, b=bias)
    x = floats(2, 2, 5, 5) * np.float32([1, 100]).reshape(2, 1, 1, 1)
    read, input_scale = x.astype(np.float64), np.ones(2)
    if activations in QUANT_RANGES:
        read, input_scale = quantized(x, *QUANT_RANGES[activations])
    if activations == "binary":
        read = np.where(x < 0, -1.0, 1.0)
    sums = F.conv2d(torch.from_numpy(read), torch.from_numpy(weights).double(), padding=1).numpy()
    scaled = sums * scale.astype(np.float64).reshape(3, 1, 1) * input_scale.reshape(2, 1, 1, 1)
    np.testing.assert_allclose(
        evaluate_node(graph, conv, [x]), scaled + bias.reshape(3, 1, 1), rtol=1e-12
    )
    assert conv.accumulate(x, graph.tensors)[0].dtype == (
        np.float64 if activations == "float32" else np.int64
    )


def test_a_packed_dense_layer_with_a_fixed_scale():
    rows = signs(2, 70)
    dense = Dense(input="x", output="y", weight="w", activations="int8", input_scale=0.5)
    graph = make_graph(dense, shape=(70,), w=bits.pack(rows))
    x = np.full((1, 70), 1.3, np.float32)  # 2.6 times the scale, rounded to 3
    assert evaluate_node(graph, dense, [x]).tolist() == (1.5 * rows.sum(1)[None]).tolist()


def test_tolerance_allows_rounding_errors_but_not_one_wrong_bit():
    count = 4608
    rows = signs(64, count)
    dense = Dense(input="x", output="y", weight="w", scale="s")
    scale = np.full(64, 0.01, np.float32)
    graph = make_graph(dense, shape=(count,), w=bits.pack(rows), s=scale)
    x = floats(4, count)
    exact = evaluate_node(graph, dense, [x])
    allowed = tolerance(graph, dense, [x])
    assert allowed == pytest.approx(EPSILON * (count + ROUNDINGS) * np.abs(exact).max())
    products = scale[:, None] * rows * x[:, None]
    in_order = np.cumsum(products, axis=2, dtype=np.float32)[..., -1]
    assert in_tolerances(in_order, exact, allowed) < 1
    rows[7, 99] *= -1
    assert in_tolerances(x.astype(np.float64) @ (0.01 * rows.T), exact, allowed) > 1


def test_tolerance_of_integer_sums_does_not_allow_an_error_of_one():
    dense = Dense(input="x", output="y", weight="w", activations="int8", input_scale=1.0)
    graph = make_graph(dense, shape=(5000,), w=bits.pack(np.ones((1, 5000))))
    x = np.full((1, 5000), 127, np.float32)
    exact = evaluate_node(graph, dense, [x])
    assert in_tolerances(exact + 1, exact, tolerance(graph, dense, [x])) > 1


def test_selecting_must_be_exact_and_shapes_equal():
    graph = make_graph(Sign(input="x", output="y"), shape=(2,))
    assert tolerance(graph, graph.nodes[0], [floats(1, 2)]) == 0
    assert in_tolerances(np.ones((1, 2)), np.ones((1, 2)), 0) == 0
    assert in_tolerances(np.ones((1, 2)), np.float32([[1, -1]]), 0) == np.inf
    assert in_tolerances(np.ones((1, 2)), np.ones((1, 3)), 1) == np.inf
    assert in_tolerances(np.array([np.nan]), np.array([1.0]), 1) == np.inf


def test_tolerances_of_a_chain_add_up():
    nodes = (
        Dense(input="x", output="a", weight="w"),
        Sign(input="a", output="b"),
        Dense(input="b", output="y", weight="w"),
    )
    graph = make_graph(*nodes, shape=(10,), w=floats(10, 10))
    layer = EPSILON * (10 + ROUNDINGS)
    assert chain_tolerance(graph, graph.shapes) == pytest.approx(2 * layer)
    assert chain_tolerance(graph, graph.shapes, until="b") == pytest.approx(layer)
