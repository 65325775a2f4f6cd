"""Steps that round every element to one of a few numbers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Array
from bwn.kernels import registry
from bwn.kernels.registry import Kernel
from bwn.kernels.tensor.codes import Rounding
from bwn.plan.buffers import Buffer, round_up
from bwn.plan.state import PlanState, elementwise_time
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.quantize import Quantize

NAMES = ("scales", "lows", "highs")


def fake_quantize(plan: PlanState, node: Quantize, source: Buffer, out: Buffer) -> None:
    """Add a step that rounds; without a scale, one before it that measures every image."""
    if node.scale is None:
        kernel = registry.RANGES_LANES if source.vectors else registry.RANGES
        _step(plan, kernel, node, source, source, whole_images=True)
    _step(plan, registry.FAKE_QUANTIZE, node, source, out)


def _step(
    plan: PlanState,
    kernel: Kernel,
    node: Quantize,
    source: Buffer,
    out: Buffer,
    *,
    whole_images: bool = False,
) -> None:
    values = (node.scale, node.low, node.high)

    def call() -> Call:
        keep = plan.variable if None in values else plan.constant
        numbers = {
            name: keep((name, node.output), partial(full, plan.batch, value))
            for name, value in zip(NAMES, values, strict=True)
        }
        channels, positions = source.channels, source.positions
        params = {
            **plan.planes("x", source),
            **plan.planes("out", out),
            "channels": channels,
            "positions": positions,
            "mask": plan.mask(source),
            **numbers,
            "scale_per_position": int(source.vectors),
            "zero": plan.floats(node.zero),
            "rounding": Rounding[node.rounding.upper()],
        }
        units = plan.batch if whole_images else source.images * channels
        work = source.images * channels * positions
        return Call(kernel, params, units, elementwise_time(work))

    plan.step((source, out), call)


def full(batch: int, value: float | None) -> Array:
    """A number for each image or position; a run fills in those that are None."""
    return np.full(round_up(batch, 16), value or 0, np.float32)
