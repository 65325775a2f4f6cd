"""Linear interpolation of planes: the tables of its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Array
from bwn.kernels import registry
from bwn.plan.buffers import Buffer
from bwn.plan.state import PlanState, elementwise_time, slow_note
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.resize import Grid


def resize(plan: PlanState, source: Buffer, out: Buffer, grids: tuple[Grid, Grid]) -> None:
    """Add the step; `out` has been cleared."""
    rows, columns = (table(grid) for grid in grids)

    def call() -> Call:
        params = {
            "x": plan.position_0(source),
            "x_image": source.image,
            "x_plane": source.plane,
            "x_row": source.row,
            "out": plan.position_0(out),
            "out_image": out.image,
            "out_plane": out.plane,
            "out_row": out.row,
            "channels": source.channels,
            "width": source.width,
            "out_height": out.height,
            "out_width": out.width,
            "rows": plan.constant(("rows", out.name), lambda: rows[0]),
            "row_weights": plan.constant(("row weights", out.name), lambda: rows[1]),
            "columns": plan.constant(("columns", out.name), lambda: columns[0]),
            "column_weights": plan.constant(("column weights", out.name), lambda: columns[1]),
        }
        work = out.images * out.channels * out.height * out.width
        units = out.images * out.channels
        return Call(registry.RESIZE, params, units, elementwise_time(8 * work), slow_note(work))

    plan.step((source, out), call, scratch=lambda: 4 * (source.width + 64))


def table(grid: Grid) -> tuple[Array, Array]:
    """(resized, 2) int64 indices of both neighbors, (resized, 2) float32 weights of them."""
    low, part = grid.neighbors()
    high = np.minimum(low + 1, grid.size - 1)
    weights = np.stack([np.float32(1) - part, part], 1)
    return np.stack([low, high], 1), weights.astype(np.float32)
