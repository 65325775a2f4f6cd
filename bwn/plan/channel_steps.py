"""Steps that combine channels or positions: softmax, normalization, reductions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Array
from bwn.kernels import registry
from bwn.kernels.registry import Kernel
from bwn.kernels.tensor.codes import Reduction
from bwn.plan.buffers import STORE, Buffer, round_up
from bwn.plan.state import PlanState, elementwise_time
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.reduce import Kind, Reduce

PASSES = 4
"""Times that these steps read their input, roughly."""
REDUCTIONS: dict[Kind, Reduction] = {
    "mean": Reduction.SUM,
    "sum": Reduction.SUM,
    "max": Reduction.MAX,
    "min": Reduction.MIN,
    "l1": Reduction.MAGNITUDES,
    "l2": Reduction.SQUARES,
    "sum_square": Reduction.SQUARES,
}


def channelwise(
    plan: PlanState,
    kernel: Kernel,
    source: Buffer,
    out: Buffer,
    *,
    coefficients: tuple[float, ...] = (0.0,),
    scale: str | None = None,
    bias: str | None = None,
    groups: int = 0,
    log: bool = False,
    neighbors: tuple[int, int] | None = None,
) -> None:
    """Add a step that combines channels.

    Args:
        plan: The plan being built.
        kernel: What it computes.
        source: What it reads.
        out: What it makes.
        coefficients: Numbers that the kernel asks for.
        scale: Stored vector, one number a channel; default 1.
        bias: Likewise; default 0.
        groups: Of channels, each a work item; 0 where blocks of positions are the work items.
        log: Whether a softmax gives its logarithm.
        neighbors: Channels before and after each that count, where a channel is a work item.
    """

    def call() -> Call:
        channels, positions = source.channels, source.positions
        blocks = round_up(positions, STORE) // STORE
        before, after = neighbors or (0, 0)
        params = {
            **plan.planes("x", source),
            **plan.planes("out", out),
            "channels": channels,
            "groups": groups,
            "positions": positions,
            "size": source.height * source.width,
            "blocks": blocks,
            "mask": plan.mask(source),
            "scale": plan.vector(scale, channels, 1.0),
            "bias": plan.vector(bias, channels, 0.0),
            "coefficients": plan.floats(*coefficients),
            "log": int(log),
            "before": before,
            "after": after,
        }
        units = source.images * (channels if neighbors is not None else groups or blocks)
        work = source.images * channels * blocks * STORE * (PASSES + before + after)
        return Call(kernel, params, units, elementwise_time(work))

    plan.step((source, out), call)


def reduce(plan: PlanState, node: Reduce, source: Buffer, out: Buffer) -> None:
    """Add a reduction over some axes."""
    vectors = source.vectors
    over_rows = not vectors and 1 in node.axes
    over_columns = not vectors and 2 in node.axes

    def call() -> Call:
        depth = source.channels if 0 in node.axes else 1
        rows = source.height if over_rows else 1
        width = source.width if over_columns else 0
        factor = {"min": -1.0}.get(node.kind, 1.0)
        if node.kind == "mean":
            factor = 1 / prod(plan.shape(node.input)[axis] for axis in node.axes)
        initial = -np.inf if node.kind in ("max", "min") else 0.0
        positions = out.positions
        params = {
            **plan.planes("x", source),
            **plan.planes("out", out),
            "x_row": source.row,
            "reduction": REDUCTIONS[node.kind],
            "depth": depth,
            "rows": rows,
            "width": width,
            "height": out.height,
            "channels": out.channels,
            "positions": positions,
            "mask": row_mask(plan, width) if width else plan.mask(out),
            "fill": row_fill(plan, width, initial),
            "factor": plan.floats(factor),
            "root": int(node.kind == "l2"),
            "out_row": out.row,
        }
        units = out.images * out.channels
        if not width:
            units *= -(-positions // STORE)
        work = source.images * source.channels * round_up(source.positions, STORE)
        return Call(registry.REDUCE, params, units, elementwise_time(work))

    plan.step((source, out), call)


def row_mask(plan: PlanState, width: int) -> int:
    """Address of the mask of one row of a plane, in whole vectors."""

    def make() -> Array:
        mask = np.zeros(round_up(width, STORE), np.int32)
        mask[:width] = -1
        return mask

    return plan.constant(("row mask", width), make)


def row_fill(plan: PlanState, width: int, initial: float) -> int:
    """Address of numbers for the lanes of a row: 0 in the row, `initial` after its end."""

    def make() -> Array:
        fill = np.zeros(round_up(width, STORE), np.float32)
        fill[width:] = initial
        return fill

    return plan.constant(("row fill", width, initial), make)
