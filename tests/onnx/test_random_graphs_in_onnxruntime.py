"""Random graphs, exported and run by ONNX Runtime, against their plans: another truth than ours.

The reference interpreter and the kernels could share a wrong idea of an operation; ONNX Runtime
shares none. The export is the float function, so rounding is taken out first. A sign is
not continuous: a graph whose signs are of numbers near 0 could differ rightly, and is counted.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from graphs import floats
from msgspec.structs import replace
from random_graphs import random_graph

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Node
from bwn.ir.tolerance import chain_tolerance
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.session import Session
from bwn.ops import node_types
from bwn.ops.clamp import Clamp
from bwn.ops.quantize import Quantize
from bwn.ops.sign import Sign
from bwn.ops.weighted import Weighted
from bwn.passes.pack_weights import pack_weights
from bwn.passes.pipeline import PASSES
from bwn.passes.split_offsets import split_offsets
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

SEED = int(os.environ.get("BWN_SEED", "0"))
COUNT = int(os.environ.get("BWN_COUNT", "400"))
REWRITES = (*PASSES, split_offsets, pack_weights)


def float_graph(seed: int) -> tuple[Graph, int]:
    """A random graph without 8-bit activations and weights."""
    graph, batch = random_graph(seed)
    floats = {
        name: array.astype(np.float32) if array.dtype == np.int8 else array
        for name, array in graph.tensors.items()
    }
    graph = graph.replace(tuple(map(exact, graph.nodes)), floats)
    check(graph)
    return graph, batch


def exact(node: Node) -> Node:
    if isinstance(node, Weighted) and node.is_quantized:
        return replace(node, activations="float32", input_scale=None)
    if isinstance(node, Quantize):
        return Clamp(input=node.input, output=node.output)
    return node


def allowed(graph: Graph, tensors: dict[str, np.ndarray]) -> float:
    """How far apart two engines may be: each rounds in all layers, relative to the largest number
    on the way.
    """
    largest = max(float(np.abs(x).max(initial=0)) for x in tensors.values())
    return 2 * chain_tolerance(graph, graph.shapes) * largest


def near_zero(graph: Graph, tensors: dict[str, np.ndarray]) -> bool:
    """Whether some sign is of a number so near 0 that rounding may flip it."""
    for node in graph.nodes:
        if isinstance(node, Sign):
            x = np.abs(tensors[node.input])
            scale = max(1.0, float(x.max(initial=0)))
            if (x < 1e-5 * scale).any():
                return True
    return False


@pytest.mark.parametrize("block", range(4))
def test_plans_equal_onnxruntime(block: int) -> None:
    compared = 0
    seeds = range(SEED + block, SEED + COUNT, 4)
    for seed in seeds:
        graph, batch = float_graph(seed)
        x = floats(batch, *graph.topology.input_shape, seed=seed)
        tensors = evaluate(graph, x)
        if near_zero(graph, tensors):
            continue
        expected = Session(to_onnx_bytes(ModelSpec(graph=graph))).run(x)
        actual = Runner(make_plan(graph, batch, 1 + seed % 2)).run(x)
        assert actual.shape == expected.shape
        far = float(np.abs(actual - expected).max(initial=0))
        repeat = f"repeat: BWN_SEED={seed} BWN_COUNT=1 pytest tests/onnx -k equal_onnxruntime"
        assert far <= allowed(graph, tensors), f"{far} apart; {repeat}"
        compared += 1
    assert COUNT < 100 or compared >= 0.7 * len(seeds), (
        f"only {compared} of {len(seeds)} could be compared"
    )


def by_value(graph: Graph, seed: int) -> Graph:
    """The same graph, its float weights of two values in most graphs."""
    low = (-0.25, 0.0, None)[seed % 3]
    float_weights = {
        node.weight
        for node in graph.nodes
        if isinstance(node, Weighted) and graph.tensors[node.weight].dtype == np.float32
    }
    if low is None:
        return graph
    two = {
        name: np.where(graph.tensors[name] < 0, low, 0.25).astype(np.float32)
        for name in float_weights
    }
    return replace(graph, tensors={**graph.tensors, **two})


def test_each_pass_keeps_what_onnxruntime_computes() -> None:
    """Alone and after those before it; the graphs together have every operation."""
    kinds, changes = set(), dict.fromkeys((rewrite.__name__ for rewrite in REWRITES), 0)
    for seed in range(SEED, SEED + 2 * COUNT):
        graph, batch = float_graph(seed)
        graph = by_value(graph, seed)
        x = floats(batch, *graph.topology.input_shape, seed=seed)
        tensors = evaluate(graph, x)
        kinds |= set(map(type, graph.nodes))
        if near_zero(graph, tensors):
            continue
        expected = Session(to_onnx_bytes(ModelSpec(graph=graph))).run(x)
        passed = graph
        for rewrite in REWRITES:
            for before in (graph,) if passed is graph else (graph, passed):
                after = rewrite(before)
                if after == before:
                    continue
                check(after)
                changes[rewrite.__name__] += 1
                actual = evaluate(after, x)[after.topology.output]
                far = float(np.abs(actual - expected).max(initial=0))
                assert far <= allowed(graph, tensors), f"{far} apart by {rewrite.__name__}, {seed}"
            passed = rewrite(passed)
    if COUNT >= 400:
        assert kinds == set(node_types()) - {Quantize}
        often = {"fold_affine", "fuse_clamp", "pack_weights", "remove_unused", "split_offsets"}
        assert all(changes[name] for name in often), str(changes)  # others have tests of their own
