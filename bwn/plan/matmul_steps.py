"""Steps of products of two tensors."""

from __future__ import annotations

from bwn.kernels import registry
from bwn.kernels.simd.widths import LANES
from bwn.plan.buffers import Buffer
from bwn.plan.channel_steps import row_mask
from bwn.plan.state import PlanState, elementwise_time
from bwn.plan.step import Call

ROWS = 8
"""Rows of a unit of work, a multiple of what the kernel computes at once."""
PRODUCTS = 16
"""Products that take about as long as a simple elementwise step of one element."""


def matmul(plan: PlanState, x: Buffer, other: Buffer, out: Buffer) -> None:
    """Add a step that multiplies the matrices of two tensors, channel by channel."""
    narrow = out.width < LANES
    if narrow:  # a row's vector ends in later rows, the last one's after them
        out.reserve_padding((0, 0, -(-LANES // out.width), 0))

    def call() -> Call:
        rows = out.height if narrow else ROWS
        params = {
            **plan.planes("x", x),
            **plan.planes("other", other),
            **plan.planes("out", out),
            "x_row": x.row,
            "other_row": other.row,
            "out_row": out.row,
            "channels": out.channels,
            "height": out.height,
            "depth": x.width,
            "width": out.width,
            "rows": rows,
            "mask": row_mask(plan, min(out.width, LANES)),
        }
        units = out.images * out.channels * -(-out.height // rows)
        products = out.images * out.channels * out.height * x.width * out.width
        return Call(registry.MATMUL, params, units, elementwise_time(products // PRODUCTS))

    plan.step((x, other, out), call)
