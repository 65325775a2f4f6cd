"""The plain truth of whole graphs, against torch in float64 and exact integers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate, evaluate_node
from bwn.ir.tolerance import EPSILON, ROUNDINGS, chain_tolerance, in_tolerances, tolerance
from bwn.kernels import bits
from bwn.ops import Add, Affine, Clamp, Conv, Dense, Flatten, Pool, Sign, Softmax

RNG = np.random.default_rng(6)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def graph(nodes, tensors, shape):
    return Graph(
        topology=Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes),
        tensors=tensors,
    )


def test_a_network_of_every_float_node_agrees_with_torch():
    nodes = (
        Conv(
            input="x",
            output="a",
            weight="w",
            scale="s",
            bias="b",
            low=-9,
            kernel=(3, 2),
            pads=(1, 0, 1, 1),
            groups=2,
        ),
        Affine(input="a", output="c", scale="s", bias="b"),
        Add(input="a", other="c", output="d"),
        Clamp(input="d", output="e", low=0, high=6),
        Pool(
            input="e", output="f", kind="average", kernel=(2, 2), stride=(2, 1), pads=(0, 0, 1, 0)
        ),
        Pool(input="f", output="g", kind="max", kernel=(2, 2)),
        Flatten(input="g", output="h"),
        Dense(input="h", output="i", weight="v"),
        Softmax(input="i", output="y"),
    )
    tensors = {"w": floats(6, 2, 3, 2), "s": floats(6), "b": floats(6), "v": floats(5, 54)}
    x = floats(3, 4, 7, 5)
    found = evaluate(graph(nodes, tensors, (4, 7, 5)), x)
    t = {name: torch.from_numpy(array).double() for name, array in tensors.items()}
    a = F.conv2d(F.pad(torch.from_numpy(x).double(), (0, 1, 1, 1)), t["w"], groups=2)
    a = (a * t["s"].view(-1, 1, 1) + t["b"].view(-1, 1, 1)).clamp(min=-9)
    d = (a + a * t["s"].view(-1, 1, 1) + t["b"].view(-1, 1, 1)).clamp(0, 6)
    f = F.avg_pool2d(d, 2, (2, 1), ceil_mode=True, count_include_pad=False)
    y = F.softmax(F.max_pool2d(f, 2, 1).flatten(1) @ t["v"].T, dim=1)
    np.testing.assert_allclose(found["f"], f, atol=1e-12)
    np.testing.assert_allclose(found["y"], y, atol=1e-12)
    assert all(array.dtype == np.float64 for array in found.values())


@pytest.mark.parametrize("activations", ["float32", "int8", "uint8", "binary"])
def test_packed_products_read_words(activations):
    signs = RNG.choice(np.int8([-1, 1]), (3, 2, 3, 3))
    rows = signs.transpose(0, 2, 3, 1).reshape(3, 18)  # k = (ky * 3 + kx) * 2 + c
    scale, bias = np.abs(floats(3)), floats(3)
    conv = Conv(input="x", output="y", weight="w", scale="s", bias="b", kernel=(3, 3), pads=(1, 1, 1, 1),
                activations=activations)  # fmt: skip
    made = graph((conv,), {"w": bits.pack(rows), "s": scale, "b": bias}, (2, 5, 5))
    x = floats(2, 2, 5, 5) * np.float32([1, 100]).reshape(2, 1, 1, 1)
    read, step = x.astype(np.float64), np.ones(2)
    if activations == "int8":
        step = (np.abs(x).max(axis=(1, 2, 3)) / np.float32(127)).astype(np.float64)
        read = np.rint(x / step.astype(np.float32).reshape(2, 1, 1, 1)).astype(np.float64)
    if activations == "uint8":
        step = (np.abs(x).max(axis=(1, 2, 3)) / np.float32(254)).astype(np.float64)
        read = np.maximum(np.rint(x / step.astype(np.float32).reshape(2, 1, 1, 1)), 0).astype(
            np.float64
        )
    if activations == "binary":
        read = np.where(x < 0, -1.0, 1.0)
    acc = F.conv2d(torch.from_numpy(read), torch.from_numpy(signs).double(), padding=1).numpy()
    by_channel = acc * scale.astype(np.float64).reshape(3, 1, 1) * step.reshape(2, 1, 1, 1)
    np.testing.assert_allclose(
        evaluate_node(made, conv, [x]), by_channel + bias.reshape(3, 1, 1), rtol=1e-12
    )
    assert conv.accumulate(x, made.tensors)[0].dtype == (
        np.float64 if activations == "float32" else np.int64
    )


def test_a_fixed_step_and_packed_dense():
    rows = RNG.choice(np.int8([-1, 1]), (2, 70))
    dense = Dense(input="x", output="y", weight="w", activations="int8", input_scale=0.5)
    made = graph((dense,), {"w": bits.pack(rows)}, (70,))
    x = np.full((1, 70), 1.3, np.float32)  # 2.6 steps: 3
    assert evaluate_node(made, dense, [x]).tolist() == (1.5 * rows.sum(1, dtype=int)[None]).tolist()


def test_tolerance_lets_roundings_pass_and_stops_one_wrong_bit():
    count = 4608
    rows = RNG.choice(np.int8([-1, 1]), (64, count))
    dense = Dense(input="x", output="y", weight="w", scale="s")
    made = graph((dense,), {"w": bits.pack(rows), "s": np.full(64, 0.01, np.float32)}, (count,))
    x = floats(4, count)
    truth = evaluate_node(made, dense, [x])
    allowed = tolerance(made, dense, [x])
    assert allowed == pytest.approx(EPSILON * (count + ROUNDINGS) * np.abs(truth).max())
    in_order = np.cumsum(np.float32(0.01) * rows[None] * x[:, None], axis=2, dtype=np.float32)[
        ..., -1
    ]
    assert in_tolerances(in_order, truth, allowed) < 1
    wrong = rows.copy()
    wrong[7, 99] *= -1
    assert in_tolerances(x.astype(np.float64) @ (0.01 * wrong.T), truth, allowed) > 1


def test_tolerance_of_integers_stops_an_error_of_one():
    rows = np.ones((1, 5000), np.int8)
    dense = Dense(input="x", output="y", weight="w", activations="int8", input_scale=1.0)
    made = graph((dense,), {"w": bits.pack(rows)}, (5000,))
    x = np.full((1, 5000), 127, np.float32)
    truth = evaluate_node(made, dense, [x])
    assert in_tolerances(truth + 1, truth, tolerance(made, dense, [x])) > 1


def test_selecting_must_be_exact_and_shapes_equal():
    made = graph((Sign(input="x", output="y"),), {}, (2,))
    assert tolerance(made, made.nodes[0], [floats(1, 2)]) == 0
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
    made = graph(nodes, {"w": floats(10, 10)}, (10,))
    known = dict.fromkeys("xaby", (10,))
    assert chain_tolerance(made, known) == pytest.approx(2 * EPSILON * (10 + ROUNDINGS))
    assert chain_tolerance(made, known, until="b") == pytest.approx(EPSILON * (10 + ROUNDINGS))
