"""Random graphs with branches and every operation: plans against the reference, node by node."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from random_graphs import Maker, random_graph

from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Node
from bwn.ir.tolerance import in_tolerances, tolerance
from bwn.kernels import bits, registry
from bwn.kernels.gemm import f32_to_bits, xnor_tile
from bwn.kernels.registry import IndirectGemm
from bwn.ops import NODES, Conv
from bwn.plan import bit_steps
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner

SEEDS = 150


def reads_in_bounds(plan: Plan) -> None:
    """What products read, lanes that nobody asked for included, is memory of the arena or the guard around it, or of
    one constant."""
    spans = [
        (array.ctypes.data, array.ctypes.data + array.nbytes)
        for array in (plan.memory.base, *plan.keep)
    ]

    def inside(address: int, size: int) -> bool:
        return any(low <= address and address + size <= high for low, high in spans)

    for step in plan.steps:
        if isinstance(step.kernel, IndirectGemm):
            f = step.kernel.fields(*(int(value) for value in step.block))
            offsets = np.array((ctypes.c_int64 * f.depth).from_address(f.offsets))
            size = 4 if step.kernel.activations == "f32" else 1
            padded, lanes = -(-f.positions // 16) * 16, max(step.kernel.lanes, 1)
            ends = (
                (f.images - 1) * f.x_image
                + (f.groups - 1) * f.x_group
                - (-f.positions // lanes) * lanes
            )
            first, last = int(offsets.min()), int(offsets.max()) + ends
            assert inside(f.x + first * size, (last - first) * size)
            assert inside(f.mask, 4 * padded)
            assert inside(f.x_scales, 4 * (padded if f.scale_per_position else f.images))
            assert inside(
                f.words,
                f.groups * f.outputs * f.row_words * (8 if step.kernel.weights == "b1" else 4),
            )
            assert inside(f.scale, 4 * f.groups * f.outputs)
            assert inside(f.bias, 4 * f.groups * f.outputs)
            assert inside(f.correction, 4 * f.groups * f.outputs)
        elif step.kernel is registry.FLOAT_SIGNS:
            f = step.kernel.fields(*(int(value) for value in step.block))
            offsets = np.array((ctypes.c_int64 * f.depth).from_address(f.offsets))
            lanes = f32_to_bits.VECTORS * 16
            ends = (f.images - 1) * f.x_image - (-f.positions // lanes) * lanes
            first, last = int(offsets.min()), int(offsets.max()) + ends
            assert inside(f.x + first * 4, (last - first) * 4)
        elif step.kernel in (registry.XNOR_SIGNS, registry.XNOR_PLANES):
            f = step.kernel.fields(*(int(value) for value in step.block))
            runs = np.array((ctypes.c_int64 * f.run_count).from_address(f.runs))
            last = (
                (f.images - 1) * f.x_image + (f.height - 1) * f.x_row + (f.width - 1) * f.x_position
            )
            last += (f.groups - 1) * f.x_group + int(runs.max()) + f.run_pairs * 8
            arena = plan.memory.ctypes.data
            assert arena <= f.x <= f.x + last <= arena + plan.memory.nbytes
            assert inside(
                f.words, f.groups * f.blocks * f.run_count * f.run_pairs * xnor_tile.PAIR_BYTES
            )
            assert inside(f.inverted, f.groups * f.blocks * 8)


def agree(graph: Graph, batch: int, seed: int, threads: tuple[int, ...]) -> set[str]:
    """Hold plans of `graph` against the reference; returns the names of the kernels that ran."""
    used: set[str] = set()
    x = (
        np.random.default_rng(seed)
        .standard_normal((batch, *graph.topology.input_shape))
        .astype(np.float32)
    )
    plan = make_plan(graph, batch, 1, keep_all=True)
    reads_in_bounds(plan)
    scores = Runner(plan).run(x)
    made = {name: plan.tensor(name) for name in plan.tensors}
    for node in graph.nodes:
        inputs = [made[name] for name in node.inputs]
        far = in_tolerances(
            made[node.output], evaluate_node(graph, node, inputs), tolerance(graph, node, inputs)
        )
        assert far <= 1, f"seed {seed}, batch {batch}, {node}: {far} tolerances away"
    assert np.array_equal(scores, made[graph.topology.output])
    for count in threads:
        plan = make_plan(graph, batch, count)
        reads_in_bounds(plan)
        used |= {step.kernel.name for step in plan.steps}
        plan.memory[:] = 0xFF  # NaN, and -1: a plan rests on nothing that it did not write
        runner = Runner(plan)
        for _ in range(2):
            assert np.array_equal(runner.run(x), scores), (
                f"seed {seed}, batch {batch}: {count} threads differ"
            )
    return used


@pytest.mark.parametrize("least_full", [0.0, bit_steps.LEAST_FULL])
def test_random_graphs(monkeypatch: pytest.MonkeyPatch, least_full: float) -> None:
    monkeypatch.setattr("bwn.plan.state.WORTH_SPLITTING", -1)
    monkeypatch.setattr(
        bit_steps, "LEAST_FULL", least_full
    )  # at 0 signs are packed whatever the channels
    used: set[str] = set()
    ops: set[type[Node]] = set()
    for seed in range(SEEDS):
        graph, batch = random_graph(seed)
        ops |= {type(node) for node in graph.nodes}
        used |= agree(graph, batch, seed, (1 + seed % 4,))
    bitpacked = {
        "f32_b1_sign",
        "b1_b1_b1_signs_xnor",
        "b1_b1_f32_planes_xnor",
        "b1_b1_max_pool",
        "b1_f32_unpack",
    }
    assert least_full > 0 or used >= bitpacked
    assert ops == set(NODES)


@pytest.mark.parametrize(
    ("stride", "pads"), [((1, 1), (0, 0, 0, 0)), ((1, 1), (0, 3, 0, 3)), ((1, 3), (0, 5, 0, 0))]
)
@pytest.mark.parametrize("mode", ["float32", "int8", "uint8"])
def test_a_wide_window_reads_within_the_arena(stride, pads, mode) -> None:
    maker = Maker(0)
    maker.shape, maker.tensors = (1, 1, 40_080), {"w": bits.pack(np.ones((3, 4)))}
    conv = Conv(input="x", output="y", weight="w", kernel=(1, 4), dilation=(1, 13_333), stride=stride, pads=pads,
                activations=mode)  # fmt: skip
    maker.nodes.append(conv)
    agree(maker.graph(), 2, 0, (2,))
