"""Predicted times and units of steps that are no GEMM: by the time, threads share a step."""

from __future__ import annotations

import pytest
from graphs import conv3x3, floats, legal_graph, words

from bwn.ir.graph import Graph
from bwn.kernels import costs
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.softmax import Softmax
from bwn.plan import sign_steps, state, xnor_steps
from bwn.plan.builder import PlanBuilder
from bwn.plan.step import Call

BATCH = 3


def packed_network() -> Graph:
    """Signs, their maximum, and a packed layer that reads it."""
    nodes = (
        Sign(input="x", output="s"),
        Pool(input="s", output="p", kind="max", kernel=(2, 3), stride=(1, 2)),
        conv3x3("p", "y", activations="binary"),
    )
    return legal_graph(*nodes, shape=(70, 5, 7), **{"y.w": words(65, 630)})


def unpacked_network() -> Graph:
    """Signs that a packed layer reads, and a layer of float activations."""
    nodes = (
        Sign(input="x", output="s"),
        conv3x3("s", "a", "w", activations="binary"),
        Flatten(input="s", output="f"),
        Dense(input="f", output="d", weight="v"),
        Softmax(input="d", output="y"),
    )
    return legal_graph(*nodes, shape=(64, 5, 7), w=words(64, 576), v=words(4, 2240))


def pooled_network() -> Graph:
    """An average, and a convolution of stride 2."""
    nodes = (
        Pool(input="x", output="p", kind="average", kernel=(2, 3), stride=(1, 2)),
        conv3x3("p", "c", "w", stride=(2, 2)),
    )
    return legal_graph(*nodes, shape=(5, 5, 8), w=words(6, 45))


def signs_of_floats() -> Graph:
    """A float convolution that is written as signs."""
    nodes = (
        conv3x3("x", "c", "w"),
        Sign(input="c", output="s"),
        conv3x3("s", "y", "v", activations="binary"),
    )
    return legal_graph(*nodes, shape=(5, 5, 8), w=floats(64, 5, 3, 3), v=words(3, 576))


@pytest.mark.parametrize(
    ("graph", "kernel", "units", "elements"),
    [
        (packed_network, "f32_b1_sign", BATCH * 5 * 2, BATCH * 70 * 5 * 7),
        (packed_network, "b1_b1_max_pool", BATCH * 4 * 2, BATCH * 4 * 2 * 3 * (2 * 3)),
        (unpacked_network, "b1_f32_unpack", BATCH * 1, BATCH * 64 * 5 * 7),
        (pooled_network, "f32_f32_average_pool", BATCH * 5, BATCH * 5 * 4 * 3 * (2 * 3)),
    ],
)
def test_a_step_takes_as_long_as_its_elements(graph, kernel, units, elements) -> None:
    (call,) = calls(graph(), kernel)
    assert (call.units, call.microseconds) == (units, elements / state.SPEED)


def test_a_copy_takes_as_long_as_its_elements() -> None:
    load, *phases, store = calls(pooled_network(), "f32_f32_copy")
    assert (load.units, load.microseconds) == (BATCH * 5, BATCH * 5 * 5 * 8 / state.SPEED)
    assert (store.units, store.microseconds) == (BATCH * 6, BATCH * 6 * 2 * 2 / state.SPEED)
    sizes = [2 * 1, 2 * 2, 2 * 1, 2 * 2]  # rows and columns of each phase of a 4 x 3 image
    assert [call.microseconds * state.SPEED for call in phases] == [15 * size for size in sizes]


def test_a_clear_takes_as_long_as_its_words() -> None:
    clears = calls(unpacked_network(), "clear")
    assert [call.units for call in clears] == [1, 3]  # of 64 KiB
    assert all(call.microseconds == call.params["size"] / 4 / state.SPEED for call in clears)


@pytest.mark.parametrize(
    ("channels", "width", "stride", "slow"),
    [(64, 5, 1, False), (64, 4, 1, True), (64, 8, 2, False), (64, 11, 3, True), (1, 4, 1, False)],
)
def test_windows_without_a_vector_form_are_slow(channels, width, stride, slow) -> None:
    """Rows of less than 4 outputs, and strides above 2."""
    pool = Pool(input="x", output="y", kind="max", kernel=(2, 2), stride=(1, stride))
    (call,) = calls(legal_graph(pool, shape=(channels, 8, width)), "f32_f32_max_pool")
    assert call.why.startswith("slow: ") == slow


def test_products_of_signs_take_as_long_as_their_multiplications() -> None:
    (call,) = calls(packed_network(), "b1_b1_f32_planes_xnor")
    assert call.microseconds == BATCH * 65 * 4 * 3 * 630 / xnor_steps.SPEED
    (call,) = calls(signs_of_floats(), "f32_f32_b1_signs_multiply")
    assert call.microseconds == BATCH * 64 * 5 * 8 * 45 / sign_steps.SPEED


def calls(graph: Graph, kernel: str) -> list[Call]:
    """The calls of a kernel in the plan of a graph, in order."""
    builder = PlanBuilder(graph, BATCH, 1, costs.table())
    builder.build()
    builder.finish()
    made = [task.call() for task in builder._tasks]
    return [call for call in made if call.kernel.name == kernel]
