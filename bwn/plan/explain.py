"""What a plan decided, layer by layer: the rows of `bwn inspect --plan`, and the names and reasons of `bwn bench`."""

from __future__ import annotations

from typing import Any

import msgspec

from bwn.kernels.registry import GemmSpec
from bwn.plan.planner import Plan
from bwn.plan.step import Step


class LayerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How one layer runs.

    name: tensor that it makes; `input`, `output` for moving the caller's arrays. node: as in `Step`. steps: their
    places in the plan. kernels: run, the main one last. why: the reason for it, and what is slow. microseconds:
    predicted for the product on one thread; None for other layers. parts, units: threads and work items of the main
    step. depth, outputs, positions: K, N of a group, and P of an image with the slack of its rows. filled: share of
    the lanes that make an output, None without lanes. bytes: of the buffers that the layer makes.
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
    """A row for each layer that has steps, in order; the reason of one that does others' work names them."""
    names = ["input", *(node.output for node in plan.graph.nodes), "output"]
    made = [0] * len(names)
    for buffer in plan.buffers:
        made[plan.steps[buffer.root.first].node + 1] += buffer.bytes
    places: list[list[int]] = [[] for _ in names]
    for index, step in enumerate(plan.steps):
        places[step.node + 1].append(index)
    return [layer_plan(plan, *row) for row in zip(names, places, made, strict=True) if row[1]]


def layer_plan(plan: Plan, name: str, places: list[int], made: int) -> LayerPlan:
    """The row of one layer, given the places of its steps and the bytes that it makes."""
    *before, main = (plan.steps[index] for index in places)
    reasons = [f"{step.kernel.name}: {step.why}" for step in before if step.why] + [
        main.why
    ] * bool(main.why)
    work = main.work
    return LayerPlan(
        name=name,
        node=main.node,
        steps=places,
        kernels=list(dict.fromkeys(step.kernel.name for step in (*before, main))),
        why="; ".join(dict.fromkeys(reasons)),
        microseconds=main.microseconds,
        parts=main.parts,
        units=main.units,
        depth=work and work.depth,
        outputs=work and work.outputs,
        positions=work and work.positions,
        filled=filled(main),
        bytes=made,
    )


def filled(step: Step) -> float | None:
    """Share of a product's lanes that make an output."""
    if step.work is None or not isinstance(step.kernel, GemmSpec) or not step.kernel.lanes:
        return None
    lanes = step.kernel.lanes
    return step.work.values / (-(-step.work.positions // lanes) * lanes)


def explain(plan: Plan) -> dict[str, Any]:
    """The whole plan as facts: batch, threads, bytes, the cost table in force, and `layers`."""
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
