"""8-bit activations from 0 up: rounded half as much as signed ones, and every sum the exact integer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.node import Array, Node
from bwn.ir.quantization import QUANT_RANGES
from bwn.kernels import bits
from bwn.kernels import reference as plain
from bwn.kernels.costs import Cost, Table
from bwn.kernels.registry import GEMMS
from bwn.ops import Conv, Dense
from bwn.ops.weighted import UINT8_MAX_DEPTH
from bwn.plan.buffers import Buffer
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner

WAYS = [row.variant for row in GEMMS if row.activations == "i8"]
LEAST, MOST = QUANT_RANGES["uint8"]


def only(way: str) -> Table:
    """A table by which kernels of one way cost nothing, all others a second."""
    return Table(
        {row.name: Cost(0.0 if row.variant == way else 1e9, 0, 0, 0) for row in GEMMS},
        "measured",
        None,
    )


def graph_of(shape: tuple[int, ...], node: Node, **tensors: Array) -> Graph:
    graph = Graph(
        topology=Topology(input="x", input_shape=shape, output="y", nodes=(node,)), tensors=tensors
    )
    check(graph)
    return graph


def inputs(kind: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers of which a step of 1 makes integers: the ends of the range, or any, beyond the ends too."""
    if kind == "random":
        return np.random.default_rng(1).integers(-20, 280, shape).astype(np.float32)
    return np.full(shape, {"zeros": 0, "top": MOST, "past": 1000}[kind], np.float32)


def stored(plan: Plan, name: str) -> tuple[Buffer, NDArray[np.int8]]:
    """The buffer of a name and its elements, padding included: (images, channels, plane) int8."""
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["zeros", "top", "past", "random"])
@pytest.mark.parametrize(("shape", "outputs", "attributes"), CONVS, ids=str)
@pytest.mark.parametrize("sign", [0, 1, -1])
def test_sums_of_a_convolution_are_the_integers(
    way, kind, shape, outputs, attributes, sign
) -> None:
    count = (
        shape[0] // attributes.get("groups", 1) * attributes["kernel"][0] * attributes["kernel"][1]
    )
    signs = (
        np.random.default_rng(0).standard_normal((outputs, count))
        if sign == 0
        else np.full((outputs, count), sign)
    )
    node = Conv(
        input="x", output="y", weight="w", activations="uint8", input_scale=1.0, **attributes
    )
    graph = graph_of(shape, node, w=bits.pack(signs))
    x = inputs(kind, (2, *shape))
    expected, _ = node.accumulate(x, graph.tensors)
    assert expected.dtype == np.int64
    for threads in (1, 2):
        plan = make_plan(graph, 2, threads, table=only(way))
        assert [step.kernel.variant for step in plan.steps if step.work] == [way]
        np.testing.assert_array_equal(Runner(plan).run(x), expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["zeros", "top", "random"])
@pytest.mark.parametrize(
    ("depth", "batch"), [(1, 1), (65, 3), (2049, 1), (4608, 17), (65_601, 1), (UINT8_MAX_DEPTH, 2)]
)
def test_sums_of_a_dense_layer_are_the_integers_rounded_once(way, kind, depth, batch) -> None:
    node = Dense(input="x", output="y", weight="w", activations="uint8", input_scale=1.0)
    signs = np.random.default_rng(0).standard_normal((3, depth))
    signs[1:] = [[1], [-1]]
    graph = graph_of((depth,), node, w=bits.pack(signs))
    x = inputs(kind, (batch, depth))
    expected, _ = node.accumulate(x, graph.tensors)
    found = Runner(make_plan(graph, batch, 1, table=only(way))).run(x)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


numbers = st.floats(0, 1e6, width=32)


@given(st.lists(numbers, min_size=1, max_size=90))
@example([0.0])
@example([254.0, 0.5, 1.5, 2.5])
@settings(max_examples=100, deadline=None)
def test_a_number_is_at_most_half_a_step_off(values: list[float]) -> None:
    x = np.array([values], np.float32)
    (q,), (step,) = plain.quantize(x, None, LEAST, MOST)
    assert q.min() >= LEAST
    assert q.max() <= MOST
    half = np.float64(step) / 2 * (1 + 1e-5)
    assert np.abs(np.float64(step) * q - x).max() <= max(half, 1e-45)
    _, (signed,) = plain.quantize(x)
    if x.any() and signed > 1e-30:
        assert step == signed / 2


@given(
    st.lists(st.floats(-10, 300, width=32), min_size=30, max_size=30),
    st.sampled_from([None, 1.0, 0.37]),
)
@settings(max_examples=30, deadline=None)
def test_planes_hold_what_the_reference_says_and_the_number_of_zero_around(values, step) -> None:
    node = Conv(
        input="x",
        output="y",
        weight="w",
        kernel=(3, 3),
        pads=(1, 1, 1, 1),
        activations="uint8",
        input_scale=step,
    )
    graph = graph_of((2, 3, 5), node, w=bits.pack(np.ones((1, 18))))
    x = np.array(values, np.float32).reshape(1, 2, 3, 5)
    plan = make_plan(graph, 1, 1, keep_all=True)
    Runner(plan).run(x)
    buffer, planes = stored(plan, "y:i8")
    q, _ = plain.quantize(x, step, LEAST, MOST)
    expected = np.full(planes.shape, LEAST, np.int16)
    rows = expected[..., buffer.lead : buffer.lead + buffer.positions].reshape(1, 2, 3, buffer.row)
    rows[..., :5] = q
    np.testing.assert_array_equal(planes.astype(np.int16) + 127, expected)
