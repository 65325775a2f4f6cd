"""Random graphs with branches and every operation: plans against the reference, node by node."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from graphs import legal_graph
from plan_checks import agree
from random_graphs import random_graph

from bwn.ir.node import Array, Node
from bwn.kernels import bits, registry
from bwn.kernels.gemm import f32_to_bits, xnor_tile
from bwn.kernels.gemm.gemm_spec import BYTE_ROWS, BYTES
from bwn.kernels.gemm.tiles import strided_runs_scratch, strided_scratch
from bwn.kernels.registry import IndirectGemm
from bwn.ops import node_types
from bwn.ops.conv import Conv
from bwn.plan import bit_steps
from bwn.plan.planner import Plan
from bwn.plan.step import Step

SEEDS = 200
BITPACKED = {
    "f32_b1_sign",
    "b1_b1_b1_signs_xnor",
    "b1_b1_f32_planes_xnor",
    "b1_b1_max_pool",
    "b1_f32_unpack",
}


class Memory:
    """The memory of a plan: its arena with the guard around it, and its constants."""

    def __init__(self, plan: Plan) -> None:
        self.arena = plan.memory
        arrays = (plan.memory.base, *plan.written, *plan.constants)
        self.spans = [(a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays]

    def holds(self, address: int, size: int) -> bool:
        """Whether all these bytes lie in one of its parts."""
        return any(low <= address and address + size <= high for low, high in self.spans)


def offsets_of(address: int, count: int) -> Array:
    """The int64 numbers at an address."""
    return np.array((ctypes.c_int64 * count).from_address(address))


def check_reads(plan: Plan) -> None:
    """GEMM kernels read only memory of the plan, also in lanes whose results are not used."""
    memory = Memory(plan)
    for step in plan.steps:
        if isinstance(step.kernel, IndirectGemm):
            check_indirect_reads(memory, step)
        elif step.kernel is registry.STRIDED:
            check_strided_reads(memory, step)
        elif step.kernel is registry.STRIDED_RUNS:
            check_strided_byte_reads(memory, step)
        elif step.kernel is registry.FLOAT_SIGNS:
            check_float_sign_reads(memory, step)
        elif step.kernel in (registry.XNOR_SIGNS, registry.XNOR_PLANES):
            check_xnor_reads(memory, step)


def params_of(step: Step):
    return step.kernel.params.struct(*(int(value) for value in step.block))


def check_indirect_reads(memory: Memory, step: Step) -> None:
    f, kernel = params_of(step), step.kernel
    offsets = offsets_of(f.offsets, f.depth)
    size = 4 if kernel.activations == "f32" else 1
    padded, lanes = -(-f.positions // 16) * 16, max(kernel.lanes, 1)
    last = (f.images - 1) * f.x_image + (f.groups - 1) * f.x_group - (-f.positions // lanes) * lanes
    start, end = int(offsets.min()), int(offsets.max()) + last
    outputs = f.groups * f.outputs
    assert memory.holds(f.x + start * size, (end - start) * size)
    assert memory.holds(f.mask, 4 * padded)
    assert memory.holds(f.x_scales, 4 * (padded if f.scale_per_position else f.images))
    words = kernel.weights == "b1" and kernel.packing.row_words(1) == 1
    bytes_ = 8 if words else 1 if kernel.packing in (BYTES, BYTE_ROWS) else 4
    assert memory.holds(f.words, outputs * f.row_words * bytes_)
    for vector in (f.scale, f.bias, f.correction):
        assert memory.holds(vector, 4 * outputs)


def check_strided_reads(memory: Memory, step: Step) -> None:
    f = params_of(step)
    offsets = offsets_of(f.offsets, f.depth)
    last = (f.images - 1) * f.x_image + (f.groups - 1) * f.x_group + (f.height - 1) * f.x_row
    vectors = -(-f.width // 16)
    # Of neighbors with stride 2, 16 more than the last output's.
    last += ((vectors - 1) * 16 * f.x_step + 48) if f.neighbors else vectors * 16 * f.x_step
    start, end = int(offsets.min()), int(offsets.max()) + last
    assert memory.holds(f.x + start * 4, (end - start) * 4)
    assert memory.holds(f.words, f.groups * f.outputs * f.row_words * 4)
    assert memory.holds(f.scratch, ((f.height - 1) * f.out_row + vectors * 16) * 4)
    assert vectors * 16 - f.width + f.positions <= f.scratch_part // 4
    for vector in (f.scale, f.bias):
        assert memory.holds(vector, 4 * f.groups * f.outputs)


def check_strided_byte_reads(memory: Memory, step: Step) -> None:
    f = params_of(step)
    offsets = offsets_of(f.offsets, f.depth)
    last = (f.images - 1) * f.x_image + (f.groups - 1) * f.x_group + (f.height - 1) * f.x_row
    steps = -(-f.width // 32)
    start, end = int(offsets.min()), int(offsets.max()) + last + 64 * steps + 2
    assert memory.holds(f.x + start, end - start)
    sums = ((f.height - 1) * f.out_row + 32 * steps) * 4
    assert sums <= strided_scratch(f.positions)
    assert memory.holds(f.scratch, strided_runs_scratch(f.positions, f.depth))
    for vector in (f.scale, f.bias, f.correction):
        assert memory.holds(vector, 4 * f.groups * f.outputs)


def check_float_sign_reads(memory: Memory, step: Step) -> None:
    f = params_of(step)
    offsets = offsets_of(f.offsets, f.depth)
    lanes = f32_to_bits.VECTORS * 16
    last = (f.images - 1) * f.x_image - (-f.positions // lanes) * lanes
    start, end = int(offsets.min()), int(offsets.max()) + last
    assert memory.holds(f.x + start * 4, (end - start) * 4)


def check_xnor_reads(memory: Memory, step: Step) -> None:
    f = params_of(step)
    runs = offsets_of(f.runs, f.run_count)
    last = (f.images - 1) * f.x_image + (f.height - 1) * f.x_row + (f.width - 1) * f.x_position
    last += (f.groups - 1) * f.x_group + int(runs.max()) + f.run_pairs * 8
    arena = memory.arena.ctypes.data
    assert arena <= f.x <= f.x + last <= arena + memory.arena.nbytes
    blocks = f.groups * f.blocks
    assert memory.holds(f.words, blocks * f.run_count * f.run_pairs * xnor_tile.PAIR_BYTES)
    assert memory.holds(f.inverted, blocks * 8)


@pytest.mark.parametrize("least_full", [0.0, bit_steps.LEAST_FULL])
def test_random_graphs(monkeypatch: pytest.MonkeyPatch, least_full: float) -> None:
    # At 0 signs are bitpacked for any number of channels.
    monkeypatch.setattr(bit_steps, "LEAST_FULL", least_full)
    kernels: set[str] = set()
    ops: set[type[Node]] = set()

    def inspect(plan: Plan) -> None:
        check_reads(plan)
        kernels.update(step.kernel.name for step in plan.steps)

    expected = {registry.STRIDED.name} | (set() if least_full else BITPACKED)
    for seed in range(10 * SEEDS):  # a new operation changes all graphs, and which are rare
        if seed >= SEEDS and kernels >= expected and ops == set(node_types()):
            break
        graph, batch = random_graph(seed)
        ops |= {type(node) for node in graph.nodes}
        agree(graph, batch, (1 + seed % 4,), inspect=inspect)
    assert kernels >= expected
    assert ops == set(node_types())


@pytest.mark.parametrize(
    ("stride", "pads"), [((1, 1), (0, 0, 0, 0)), ((1, 1), (0, 3, 0, 3)), ((1, 3), (0, 5, 0, 0))]
)
@pytest.mark.parametrize("activations", ["float32", "int8", "uint8"])
def test_a_wide_window_reads_within_the_arena(stride, pads, activations) -> None:
    window = {"kernel": (1, 4), "dilation": (1, 13_333), "stride": stride, "pads": pads}
    conv = Conv(input="x", output="y", weight="w", activations=activations, **window)
    graph = legal_graph(conv, shape=(1, 1, 40_080), w=bits.pack(np.ones((3, 4))))
    agree(graph, 2, (2,), inspect=check_reads)
