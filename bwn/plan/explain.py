"""What a plan decided for each layer: for `bwn inspect --plan`, and for names in `bwn bench`."""

from __future__ import annotations

from typing import Any

import msgspec

from bwn.kernels.registry import GemmSpec
from bwn.ops.weighted import layer_names
from bwn.plan.planner import Plan
from bwn.plan.step import Step


class LayerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one layer runs.

    Attributes:
        name: Name of the layer; `input` and `output` for copying the caller's arrays.
        node: Index of the node, as in `Step`.
        steps: Indices of its steps in the plan.
        kernels: Names of the kernels that run, the main one last.
        why: Reason for the choice of the kernels, and what is slow.
        microseconds: Predicted time of the GEMM on one thread; None for other layers.
        parts: Threads of the main step.
        units: Work items of the main step.
        depth: K of the GEMM; None for other layers, as are the next two.
        outputs: N of one group.
        positions: M of one image, including the padding of its rows.
        filled: Share of the vector lanes that compute an output; None for kernels without lanes.
        bytes: Size of the buffers that the layer makes.
    """

    name: str
    node: int
    steps: list[int]
    kernels: list[str]
    why: str
    microseconds: float | None
    parts: int
    units: int
    depth: int | None
    outputs: int | None
    positions: int | None
    filled: float | None
    bytes: int


def layer_plans(plan: Plan) -> list[LayerPlan]:
    """A row for each layer that has steps, in order; a layer fused into another has none."""
    names = ["input", *layer_names(plan.graph).values(), "output"]
    buffer_bytes = [0] * len(names)
    for buffer in plan.buffers:
        buffer_bytes[plan.steps[buffer.root.first].node + 1] += buffer.bytes
    steps: list[list[int]] = [[] for _ in names]
    for index, step in enumerate(plan.steps):
        steps[step.node + 1].append(index)
    rows = zip(names, steps, buffer_bytes, strict=True)
    return [layer_plan(plan, *row) for row in rows if row[1]]


def layer_plan(plan: Plan, name: str, steps: list[int], buffer_bytes: int) -> LayerPlan:
    """The row of a layer with these steps, which makes buffers of this many bytes."""
    *before, main = (plan.steps[index] for index in steps)
    reasons = [f"{step.kernel.name}: {step.why}" for step in before if step.why]
    if main.why:
        reasons.append(main.why)
    work = main.work
    return LayerPlan(
        name=name,
        node=main.node,
        steps=steps,
        kernels=list(dict.fromkeys(step.kernel.name for step in (*before, main))),
        why="; ".join(dict.fromkeys(reasons)),
        microseconds=main.microseconds,
        parts=main.parts,
        units=main.units,
        depth=work and work.depth,
        outputs=work and work.outputs,
        positions=work and work.positions,
        filled=filled(main),
        bytes=buffer_bytes,
    )


def filled(step: Step) -> float | None:
    """Share of a GEMM step's vector lanes that compute an output; None without lanes."""
    if step.work is None or not isinstance(step.kernel, GemmSpec) or not step.kernel.lanes:
        return None
    lanes = step.kernel.lanes
    return step.work.values / (-(-step.work.positions // lanes) * lanes)


def explain(plan: Plan) -> dict[str, Any]:
    """The whole plan: batch, threads, bytes, the cost table in use, and the layers."""
    table = plan.table
    return {
        "batch": plan.batch,
        "threads": plan.threads,
        "steps": len(plan.steps),
        "arena_bytes": plan.bytes,
        "costs": {
            "origin": table.origin,
            "path": table.path,
            "problem": table.problem or None,
            "line": table.line,
        },
        "layers": layer_plans(plan),
    }
