"""Signed zeros, denormals, NaN and infinities: plans make of them what the reference makes.

Where the reference is NaN the plan is NaN, where it is an infinity the plan is the same one, and
elsewhere they agree within tolerance, also next to such a value. The sign of a zero may differ.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from plan_checks import agree, only
from random_graphs import random_graph

from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Node
from bwn.ir.tolerance import tolerance
from bwn.kernels.registry import GEMMS
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

sys.path.insert(0, str(Path(__file__).parent))

from special_values import special

SEED = int(os.environ.get("BWN_SEED", "0"))
COUNT = int(os.environ.get("BWN_COUNT", "400"))
VARIANTS = sorted({spec.variant for spec in GEMMS})


def same(actual: np.ndarray, expected: np.ndarray, allowed: float) -> bool:
    """Whether NaN and infinities are in the same places, and the rest is near."""
    finite = np.isfinite(expected)
    if not np.array_equal(actual[~finite], expected[~finite], equal_nan=True):
        return False
    return bool((np.abs(actual[finite] - expected[finite]) <= allowed).all())


def check_nodes(graph: Graph, tensors: dict[str, np.ndarray]) -> None:
    for node in graph.nodes:
        inputs = [tensors[name] for name in node.inputs]
        with np.errstate(invalid="ignore", over="ignore"):
            expected = evaluate_node(graph, node, inputs)
        assert same(tensors[node.output], expected, bound(graph, node, inputs)), str(node)


def bound(graph: Graph, node: Node, inputs: list[np.ndarray]) -> float:
    """The tolerance of finite outputs: an infinity adds to them where 8 bits saturate, if at all."""
    saturated = 255 * (getattr(node, "input_scale", None) or 0)
    return tolerance(graph, node, [np.where(np.isfinite(x), x, saturated) for x in inputs])


@pytest.mark.parametrize("finite", [True, False], ids=["zeros and denormals", "NaN and infinity"])
def test_random_networks(finite: bool) -> None:
    for seed in range(SEED, SEED + COUNT):
        graph, batch = random_graph(seed)
        table = only(VARIANTS[seed % len(VARIANTS)])
        x = special(np.random.default_rng(seed), (batch, *graph.topology.input_shape), 0.15, finite)
        plan = make_plan(graph, batch, 1, keep_all=True, table=table)
        Runner(plan).run(x)
        repeat = f"repeat: BWN_SEED={seed} BWN_COUNT=1 pytest tests/robustness -k networks"
        try:
            check_nodes(graph, {name: plan.tensor(name) for name in plan.tensors})
            if not finite:  # fused or not, on any number of threads: the same bits
                agree(graph, batch, (1 + seed % 3,), x=x, table=table)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{repeat}") from error


def test_a_lost_nan_a_flipped_infinity_and_a_far_neighbor_are_found() -> None:
    expected = np.array([1, np.nan, np.inf])
    assert same(np.array([1 + 1e-7, np.nan, np.inf]), expected, 1e-6)
    for actual in ([1, 0, np.inf], [1, np.nan, -np.inf], [1.1, np.nan, np.inf], [np.nan] * 3):
        assert not same(np.array(actual), expected, 1e-6)


def test_special_floats_are_drawn() -> None:
    x = special(np.random.default_rng(0), (4000,))
    assert np.isnan(x).any()
    assert np.isposinf(x).any()
    assert np.isneginf(x).any()
    assert (np.signbit(x) & (x == 0)).any()
    assert ((np.abs(x) < np.finfo(np.float32).tiny) & (x != 0)).any()
