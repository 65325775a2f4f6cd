"""Activations: one formula each, of vectors or of numbers, for the epilogue of products and
elementwise kernels.

A new activation is its name in `params.Activation` and the formula of the same name here. Clamps
need none: every epilogue has bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.params import Activation
from bwn.kernels.simd import elementary
from bwn.kernels.simd.arithmetic import maximum, minimum
from bwn.kernels.simd.vectors import like
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@helper
def hard_swish(x: Any) -> Any:
    """x * min(max(x + 3, 0), 6) / 6."""
    return x * minimum(maximum(x + like(x, 3.0), like(x, 0.0)), like(x, 6.0)) / like(x, 6.0)


sigmoid, silu = elementary.sigmoid, elementary.silu


def _choice(activations: list[Activation]) -> Any:
    """A helper that applies the one of these activations whose code it gets, if any."""
    if not activations:
        return helper(lambda code, x: x)
    first, formula = int(activations[0]), globals()[activations[0].name.lower()]
    others = _choice(activations[1:])

    @helper
    def choose(code: int, x: Any) -> Any:
        return formula(x) if code == first else others(code, x)

    return choose


@intrinsic
def _only_here() -> tuple[Any, Codegen]:
    """Keeps LLVM from computing what follows before it is known to be needed."""

    def gen(builder: Any, args: Any) -> Any:
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), ()), "", "", side_effect=True)
        builder.call(nothing, ())

    return types.void(), gen


_choose = _choice([activation for activation in Activation if activation is not Activation.NONE])


@helper
def activate(code: int, x: Any) -> Any:
    """The activation of that code, of each lane. x: float32."""
    return x if code == 0 else _choose(code, x)


@helper
def activate_number(code: int, x: Any) -> Any:
    """The same of one number: LLVM would compute every formula first and then choose."""
    if code == 0:
        return x
    _only_here()
    return _choose(code, x)
