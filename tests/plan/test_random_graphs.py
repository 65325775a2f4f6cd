"""Random graphs with branches, residuals and every kind of node: plans against the plain reference, node by node."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np
import pytest

from bwn.errors import GraphError
from bwn.ir.checker import check, signs_of
from bwn.ir.graph import (
    Add,
    Affine,
    AnyNode,
    Array,
    Clamp,
    Conv,
    Dense,
    Flatten,
    Graph,
    Pool,
    Shape,
    Sign,
    Softmax,
    Topology,
)
from bwn.ir.interpreter import evaluate_node
from bwn.ir.shapes import shapes
from bwn.ir.tolerance import in_tolerances, tolerance
from bwn.kernels import bits, registry
from bwn.kernels.gemm import f32_to_bits, xnor_tile
from bwn.kernels.registry import IndirectGemm as IndirectGemm
from bwn.plan import bit_steps
from bwn.plan.builder import Lowering
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner

SEEDS = 150


@dataclass
class Maker:
    """Grows a legal graph, a node at a time."""

    seed: int
    nodes: list[AnyNode] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        planes = (self.integer(1, 6), self.integer(1, 12), self.integer(1, 20))
        self.shape: Shape = planes if self.random.random() < 0.8 else (self.integer(1, 90),)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def pair(self, high: int) -> tuple[int, int]:
        return self.integer(1, high), self.integer(1, high)

    def graph(self, output: str | None = None) -> Graph:
        topology = Topology(
            input="x",
            input_shape=self.shape,
            output=output or self.nodes[-1].output,
            nodes=tuple(self.nodes),
        )
        return Graph(topology=topology, tensors=self.tensors)

    def vector(self, size: int) -> str:
        name = f"v{len(self.tensors)}"
        self.tensors[name] = self.random.normal(0, 1, size).astype(np.float32)
        return name

    def product(
        self, inputs: int, outputs: int, kernel: tuple[int, int] | None, signs: bool
    ) -> dict[str, object]:
        """Attributes that Conv and Dense share."""
        area = (kernel or (1, 1))[0] * (kernel or (1, 1))[1]
        spec = self.random.random() < 0.8
        weights = self.random.standard_normal((outputs, inputs * area)).astype(np.float32)
        name = f"w{len(self.tensors)}"
        shape = (outputs, inputs, *kernel) if kernel else (outputs, inputs)
        self.tensors[name] = bits.pack(weights) if spec else weights.reshape(shape)
        modes = (
            ["float32", "int8", "uint8", *(["binary"] * 3 if signs else [])]
            if spec
            else ["float32"]
        )
        mode = modes[self.integer(0, len(modes) - 1)]
        return {
            "weight": name,
            "scale": self.vector(outputs) if self.integer(0, 1) else None,
            "bias": self.vector(outputs) if self.integer(0, 1) else None,
            "low": [None, 0.0, -2.5][self.integer(0, 2)],
            "high": [None, 1.0, 3.5][self.integer(0, 2)],
            "activations": mode,
            "step": 0.02 if mode in ("int8", "uint8") and self.integer(0, 1) else None,
        }

    def windows(self) -> dict[str, object]:
        kernel, dilation = self.pair(4), self.pair(2)
        reach = [dilation[axis % 2] * (kernel[axis % 2] - 1) + 1 for axis in range(4)]
        pads = (
            tuple(self.integer(0, most - 1) for most in reach)
            if self.integer(0, 3)
            else (0, 0, 0, 0)
        )
        return {"kernel": kernel, "stride": self.pair(3) if self.integer(0, 1) else (1, 1), "pads": pads,
                "dilation": dilation}  # fmt: skip

    def on_planes(self, kind: int, source: str, channels: int, signs: bool) -> AnyNode:
        out = f"t{len(self.nodes)}"
        window = self.windows()
        if kind < 5:
            groups = channels if self.integer(0, 4) == 0 else 1
            outputs = groups * self.integer(1, 2) if groups > 1 else self.integer(1, 9)
            if channels % 2 == 0 and self.integer(0, 4) == 0:
                groups, outputs = 2, 2 * self.integer(1, 4)
            shared = self.product(channels // groups, outputs, window["kernel"], signs)
            return Conv(input=source, output=out, groups=groups, **shared, **window)
        if kind < 7:
            del window["dilation"]
            window["pads"] = tuple(
                min(pad, window["kernel"][axis % 2] - 1) for axis, pad in enumerate(window["pads"])
            )
            way = "max" if signs or self.integer(0, 1) else "average"
            return Pool(
                input=source, output=out, kind=way, count_pads=bool(self.integer(0, 1)), **window
            )
        return Flatten(input=source, output=out)

    def chain(self, last: AnyNode, source: str, kind: int) -> tuple[str, int]:
        """What goes on with a chain of signs: a product of signs, perhaps a maximum, then signs again."""
        if isinstance(last, Sign):
            return last.output, 0
        if isinstance(last, (Conv, Dense)) and last.activations == "binary":
            return last.output, [5, 9][self.integer(0, 1)] if isinstance(last, Conv) else 9
        if isinstance(last, Pool) and last.kind == "max":
            return last.output, 9
        return source, kind

    def add(self) -> None:
        """One more node, or none where a window does not fit."""
        known, signs = shapes(self.graph("x")), signs_of(self.graph("x"))
        names = list(known)
        source = names[self.integer(max(0, len(names) - 4), len(names) - 1)]
        out, kind = f"t{len(self.nodes)}", self.integer(0, 13)
        if self.nodes and self.integer(0, 1):
            source, kind = self.chain(self.nodes[-1], source, kind)
        shape = known[source]
        node: AnyNode
        if kind < 8 and len(shape) == 3:
            node = self.on_planes(kind, source, shape[0], source in signs)
        elif kind < 6:
            node = Dense(
                input=source,
                output=out,
                **self.product(shape[0], self.integer(1, 40), None, source in signs),
            )
        elif kind < 8:
            node = [Softmax, Flatten][kind - 6](input=source, output=out)
        elif kind < 10:
            node = Sign(input=source, output=out)
        elif kind == 10:
            node = Affine(
                input=source, output=out, scale=self.vector(shape[0]), bias=self.vector(shape[0])
            )
        elif kind == 11:
            node = Clamp(input=source, output=out, low=[None, 0.0][self.integer(0, 1)], high=1.5)
        else:
            same = [name for name in names if known[name] == shape]
            node = Add(input=source, other=same[self.integer(0, len(same) - 1)], output=out)
        kept = dict(self.tensors), list(self.nodes)
        self.nodes.append(node)
        try:
            shapes(self.graph())
        except GraphError:
            used = {name for one in kept[1] for name in one.constants}
            self.tensors, self.nodes = (
                {name: array for name, array in kept[0].items() if name in used},
                kept[1],
            )


def random_graph(seed: int) -> tuple[Graph, int]:
    """A graph and a batch size. The output is most often the last node's; nodes that nothing reads stay."""
    made = Maker(seed)
    wanted = made.integer(1, 9)
    while len(made.nodes) < wanted:
        made.add()
    output = made.nodes[-1 if made.integer(0, 3) else made.integer(0, wanted - 1)].output
    graph = made.graph(output)
    check(graph)
    return graph, [1, 2, 3, 17][made.integer(0, 3)]


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
    monkeypatch.setattr(Lowering, "worth_splitting", lambda self, microseconds: True)
    monkeypatch.setattr(
        bit_steps, "LEAST_FULL", least_full
    )  # at 0 signs are packed whatever the channels
    used: set[str] = set()
    for seed in range(SEEDS):
        graph, batch = random_graph(seed)
        used |= agree(graph, batch, seed, (1 + seed % 4,))
    spec = {
        "f32_b1_sign",
        "b1_b1_b1_signs_xnor",
        "b1_b1_f32_planes_xnor",
        "b1_b1_max_pool",
        "b1_f32_unpack",
    }
    assert least_full > 0 or used >= spec


@pytest.mark.parametrize(
    ("stride", "pads"), [((1, 1), (0, 0, 0, 0)), ((1, 1), (0, 3, 0, 3)), ((1, 3), (0, 5, 0, 0))]
)
@pytest.mark.parametrize("mode", ["float32", "int8", "uint8"])
def test_a_wide_window_reads_within_the_arena(stride, pads, mode) -> None:
    made = Maker(0)
    made.shape, made.tensors = (1, 1, 40_080), {"w": bits.pack(np.ones((3, 4)))}
    conv = Conv(input="x", output="y", weight="w", kernel=(1, 4), dilation=(1, 13_333), stride=stride, pads=pads,
                activations=mode)  # fmt: skip
    made.nodes.append(conv)
    agree(made.graph(), 2, 0, (2,))
