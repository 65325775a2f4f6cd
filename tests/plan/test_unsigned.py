"""uint8 activations: rounding errors are half those of int8, and sums are exact integers."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plan_checks import check_exact_sums, only

from bwn.ir.quantization import QUANT_RANGES
from bwn.kernels import bits
from bwn.kernels import reference as plain
from bwn.kernels.gemm.depths import UINT8_MAX_DEPTH
from bwn.kernels.registry import GEMMS
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.plan.buffers import Buffer
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner

BYTES = [spec for spec in GEMMS if (spec.activations, spec.weights) == ("i8", "b1")]
MAX_DEPTH = {spec.variant: spec.max_depth for spec in BYTES}
VARIANTS = list(MAX_DEPTH)
QMIN, QMAX = QUANT_RANGES["uint8"]


def inputs(kind: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Whole numbers: all the same, or random ones in and around the range of uint8."""
    if kind == "random":
        return np.random.default_rng(1).integers(-20, 280, shape).astype(np.float32)
    return np.full(shape, {"zeros": 0, "top": QMAX, "past": 1000}[kind], np.float32)


def stored(plan: Plan, name: str) -> tuple[Buffer, NDArray[np.int8]]:
    """A buffer by name and its elements, padding included: (images, channels, plane) int8."""
    (buffer,) = (buffer for buffer in plan.buffers if buffer.name == name)
    flat = plan.memory[buffer.offset : buffer.offset + buffer.bytes]
    return buffer, flat.view(np.int8).reshape(buffer.images, buffer.channels, buffer.plane)


CONVS = [
    ((3, 9, 11), 5, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
    ((5, 7, 6), 3, {"kernel": (3, 2), "pads": (0, 1, 2, 1)}),
    ((2, 10, 9), 9, {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 1, 1, 1)}),
    (
        (2, 11, 10),
        4,
        {"kernel": (5, 4), "stride": (3, 2), "pads": (2, 0, 1, 3), "dilation": (1, 2)},
    ),
    ((4, 9, 9), 6, {"kernel": (3, 3), "pads": (2, 2, 2, 2), "dilation": (2, 2), "groups": 2}),
    ((6, 8, 7), 6, {"kernel": (3, 3), "stride": (2, 1), "pads": (1, 1, 1, 1), "groups": 6}),
    ((65, 3, 3), 17, {"kernel": (3, 3), "pads": (1, 1, 1, 1)}),
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["zeros", "top", "past", "random"])
@pytest.mark.parametrize(("shape", "outputs", "window"), CONVS, ids=str)
@pytest.mark.parametrize("sign", [0, 1, -1])
def test_sums_of_a_convolution_are_exact_integers(
    variant, kind, shape, outputs, window, sign
) -> None:
    depth = shape[0] // window.get("groups", 1) * prod(window["kernel"])
    if depth > MAX_DEPTH[variant]:
        pytest.skip("its sums could overflow")
    weights = np.full((outputs, depth), sign) if sign else floats(outputs, depth)
    node = Conv(input="x", output="y", weight="w", activations="uint8", input_scale=1.0, **window)
    graph = legal_graph(node, shape=shape, w=bits.pack(weights))
    x = inputs(kind, (2, *shape))
    expected, _ = node.accumulate(x, graph.tensors)
    check_exact_sums(graph, x, expected, variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["zeros", "top", "random"])
@pytest.mark.parametrize(
    ("depth", "batch"), [(1, 1), (65, 3), (2049, 1), (4608, 17), (65_601, 1), (UINT8_MAX_DEPTH, 2)]
)
def test_sums_of_a_dense_layer_are_integers_rounded_once(variant, kind, depth, batch) -> None:
    if depth > MAX_DEPTH[variant]:
        pytest.skip("its sums could overflow")
    node = Dense(input="x", output="y", weight="w", activations="uint8", input_scale=1.0)
    weights = floats(3, depth)
    weights[1:] = [[1], [-1]]
    graph = legal_graph(node, shape=(depth,), w=bits.pack(weights))
    x = inputs(kind, (batch, depth))
    expected, _ = node.accumulate(x, graph.tensors)
    scores = Runner(make_plan(graph, batch, 1, table=only(variant))).run(x)
    np.testing.assert_array_equal(scores, expected.astype(np.float32))


numbers = st.floats(0, 1e6, width=32)


@given(st.lists(numbers, min_size=1, max_size=90))
@example([0.0])
@example([254.0, 0.5, 1.5, 2.5])
@settings(max_examples=100, deadline=None)
def test_the_rounding_error_is_at_most_half_the_scale(values: list[float]) -> None:
    x = np.array([values], np.float32)
    (q,), (scale,) = plain.quantize(x, None, QMIN, QMAX)
    assert q.min() >= QMIN
    assert q.max() <= QMAX
    half = np.float64(scale) / 2 * (1 + 1e-5)
    assert np.abs(np.float64(scale) * q - x).max() <= max(half, 1e-45)
    _, (int8_scale,) = plain.quantize(x)
    if x.max() > 127e-30:  # smaller numbers round to 0, with any scale
        assert scale == int8_scale / 2


@given(
    st.lists(st.floats(-10, 300, width=32), min_size=30, max_size=30),
    st.sampled_from([None, 1.0, 0.37]),
)
@settings(max_examples=30, deadline=None)
def test_planes_hold_the_reference_values_and_zeros_around_them(values, scale) -> None:
    node = conv3x3("x", "y", "w", activations="uint8", input_scale=scale)
    graph = legal_graph(node, shape=(2, 3, 5), w=bits.pack(np.ones((1, 18))))
    x = np.array(values, np.float32).reshape(1, 2, 3, 5)
    plan = make_plan(graph, 1, 1, keep_all=True)
    Runner(plan).run(x)
    buffer, planes = stored(plan, "y:i8")
    q, _ = plain.quantize(x, scale, QMIN, QMAX)
    expected = np.full(planes.shape, QMIN, np.int16)
    rows = expected[..., buffer.lead : buffer.lead + buffer.positions].reshape(1, 2, 3, buffer.row)
    rows[..., :5] = q
    np.testing.assert_array_equal(planes.astype(np.int16) + 127, expected)
