"""Steps that compute a function of each element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwn.kernels import registry
from bwn.kernels.tensor.codes import Function, SimpleFunction
from bwn.plan.buffers import STORE, Buffer, round_up
from bwn.plan.fusion import Epilogue
from bwn.plan.state import PlanState, elementwise_time
from bwn.plan.step import Call

if TYPE_CHECKING:
    from bwn.ops.unary import Unary

OPERATIONS = 3
"""A function takes about as long as so many simple elementwise steps."""


def unary(plan: PlanState, node: Unary, source: Buffer, out: Buffer, epilogue: Epilogue) -> None:
    """Add a step that computes a function of each element, then bounds."""
    name = node.function.upper()
    simple = name in SimpleFunction.__members__
    kernel = registry.SIMPLE_UNARY if simple else registry.UNARY

    def call() -> Call:
        channels, positions = source.channels, source.positions
        params = {
            **plan.planes("x", source),
            **plan.planes("out", out),
            "function": SimpleFunction[name] if simple else Function[name],
            "coefficients": plan.floats(*node.coefficients),
            "channels": channels,
            "positions": positions,
            "mask": plan.mask(source),
            "bounds": plan.bounds(epilogue.bounds),
        }
        units = source.images * channels
        work = units * round_up(positions, STORE)
        return Call(kernel, params, units, OPERATIONS * elementwise_time(work), epilogue.note)

    plan.step((source, out), call)
