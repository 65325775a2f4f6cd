"""Layers with int8 weights: their sums are exact integers, whichever kernel takes them."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import legal_graph
from plan_checks import agree, check_exact_sums, only

from bwn.ir.quantization import QUANT_RANGES
from bwn.kernels.registry import GEMMS
from bwn.ops.add import Add
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.pool import Pool
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

VARIANTS = [spec.variant for spec in GEMMS if spec.weights == "i8"]
WINDOWS = [
    ((3, 9, 11), 5, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
    ((3, 21, 20), 17, {"kernel": (7, 7), "stride": (2, 2), "pads": (3, 3, 3, 3)}),
    ((4, 8, 8), 8, {"kernel": (1, 1)}),
    (
        (2, 11, 10),
        4,
        {"kernel": (5, 4), "stride": (3, 2), "pads": (2, 0, 1, 3), "dilation": (1, 2)},
    ),
    ((4, 9, 9), 6, {"kernel": (3, 3), "pads": (2, 2, 2, 2), "dilation": (2, 2), "groups": 2}),
    ((6, 8, 7), 6, {"kernel": (3, 3), "stride": (2, 1), "pads": (1, 1, 1, 1), "groups": 6}),
    ((65, 3, 3), 17, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
]


def integers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


def inputs(kind: str, *shape: int) -> np.ndarray:
    """Whole numbers within and beyond the range, or its largest alone."""
    low, high = QUANT_RANGES[kind]
    x = np.random.default_rng(1).integers(low - 20, high + 30, shape).astype(np.float32)
    x[0] = high
    return x


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize(("shape", "outputs", "window"), WINDOWS, ids=str)
def test_sums_of_a_convolution(variant, kind, shape, outputs, window) -> None:
    weight = integers(outputs, shape[0] // window.get("groups", 1), *window["kernel"])
    weight[0], weight[-1] = 127, -127
    node = Conv(input="x", output="y", weight="w", activations=kind, input_scale=1.0, **window)
    graph = legal_graph(node, shape=shape, w=weight)
    x = inputs(kind, 3, *shape)
    expected, _ = node.accumulate(x, graph.tensors)
    check_exact_sums(graph, x, expected, variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize(("depth", "batch"), [(3, 1), (65, 3), (2049, 1), (4608, 17), (2**15, 2)])
def test_sums_of_a_dense_layer_are_rounded_once(variant, kind, depth, batch) -> None:
    """Past K = 1,040 they may be no float32: they become the nearest."""
    node = Dense(input="x", output="y", weight="w", activations=kind, input_scale=1.0)
    weight = integers(3, depth)
    weight[1:] = [[127], [-127]]
    graph = legal_graph(node, shape=(depth,), w=weight)
    x = inputs(kind, batch, depth)
    expected, _ = node.accumulate(x, graph.tensors)
    scores = Runner(make_plan(graph, batch, 1, table=only(variant))).run(x)
    np.testing.assert_array_equal(scores, expected.astype(np.float32))


@pytest.mark.parametrize("scale", [None, 0.031])
def test_a_network_of_such_layers_agrees_with_the_reference(scale) -> None:
    """Also where a layer writes the 8 bits that the next one reads, and where tensors are added."""
    reads = {"activations": "uint8", "input_scale": scale}
    nodes = (
        Conv(
            input="x", output="a", weight="w1", kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1),
            low=0.0, scale="s", bias="b", activations="int8", input_scale=scale,
        ),
        Pool(input="a", output="p", kind="max", kernel=(2, 2), stride=(2, 2)),
        Conv(input="p", output="c", weight="w2", kernel=(1, 1), low=0.0, scale="s", **reads),
        Conv(
            input="c", output="d", weight="w3", kernel=(3, 3), pads=(1, 1, 1, 1), groups=8,
            low=0.0, scale="s", **reads,
        ),
        Add(input="p", other="d", output="e"),
        Conv(input="e", output="y", weight="w4", kernel=(1, 1), scale="t", **reads),
    )  # fmt: skip
    graph = legal_graph(
        *nodes, shape=(3, 22, 18), w1=integers(8, 3, 3, 3), w2=integers(8, 8, 1, 1),
        w3=integers(8, 1, 3, 3), w4=integers(5, 8, 1, 1), s=np.full(8, 0.002, np.float32),
        b=np.linspace(-1, 1, 8, dtype=np.float32), t=np.full(5, 0.01, np.float32),
    )  # fmt: skip
    for batch in (1, 4):
        agree(graph, batch=batch)
