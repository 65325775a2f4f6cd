"""Float vectors by their bits and by comparisons: exponents, signs, choices, whole numbers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.simd.arithmetic import call_named, fma_value, nearest
from bwn.kernels.simd.vectors import Vec, like, llvm_type
from bwn.kernels.target.jit import Codegen, helper, intrinsic

MANTISSA_BITS, EXPONENT_BIAS = 23, 127
SQRT_HALF = 0x3F3504F3
"""The bits of sqrt(1/2) as float32."""
TINY = 2.0**-126
"""The smallest float32 that is not a denormal."""


def _integers(value: Any) -> Any:
    """The int32 type of as many lanes."""
    kind = value.type
    return ir.VectorType(ir.IntType(32), kind.count) if _is_vector(kind) else ir.IntType(32)


def _is_vector(kind: Any) -> bool:
    return isinstance(kind, ir.VectorType)


def _all(kind: Any, number: float) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count if _is_vector(kind) else number)


def polynomial(*coefficients: float) -> Any:
    """An operation on float vectors or numbers: c[0] + c[1] * v + ..., by Horner's rule, fused."""

    @intrinsic
    def value(v: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> Any:
            result = _all(args[0].type, coefficients[-1])
            for coefficient in reversed(coefficients[:-1]):
                result = fma_value(builder, result, args[0], _all(args[0].type, coefficient))
            return result

        return v(v), gen

    return value


@intrinsic
def choose_less(a: Any, b: Any, chosen: Any, other: Any) -> tuple[Any, Codegen]:
    """choose_less(a, b, x, y): the lanes of x where a < b, of y elsewhere and where one is NaN."""

    def gen(builder: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return chosen(a, b, chosen, other), gen


@helper
def floor(x: Any) -> Any:
    """The largest whole number up to x."""
    r = nearest(x)  # every CPU has an instruction for it or the system a function
    return choose_less(x, r, r - like(x, 1.0), r)


@helper
def ceil(x: Any) -> Any:
    """The smallest whole number from x on."""
    return -floor(-x)


@intrinsic
def copy_sign(value: Any, sign: Any) -> tuple[Any, Codegen]:
    """copy_sign(v, s): |v| of each float lane, with the sign of s."""

    def gen(builder: Any, args: Any) -> Any:
        return call_named(builder, "copysign", *args)

    return value(value, sign), gen


@intrinsic
def as_exponent(value: Any) -> tuple[Any, Codegen]:
    """as_exponent(v): the floats whose exponents are the low 8 bits of v, float lanes or a number.

    Other bits of v are lost, but for bit 8, which becomes the sign.
    """

    def gen(builder: Any, args: Any) -> Any:
        whole = _integers(args[0])
        bits = builder.shl(builder.bitcast(args[0], whole), _all(whole, MANTISSA_BITS))
        return builder.bitcast(bits, args[0].type)

    return value(value), gen


@intrinsic
def power_of_two(exponent: Any) -> tuple[Any, Codegen]:
    """power_of_two(n): 2 ** n as float32, of int32 lanes from -126 to 127."""
    vec = Vec(types.float32, exponent.lanes)

    def gen(builder: Any, args: Any) -> Any:
        kind = args[0].type
        biased = builder.add(args[0], _all(kind, EXPONENT_BIAS))
        return builder.bitcast(builder.shl(biased, _all(kind, MANTISSA_BITS)), llvm_type(vec))

    return vec(exponent), gen


@intrinsic
def exponent_and_mantissa(value: Any) -> tuple[Any, Codegen]:
    """exponent_and_mantissa(v): floats e and m, v = m * 2 ** e, sqrt(1/2) <= m < sqrt(2).

    Of lanes above 0 and finite; others give anything.
    """

    def gen(builder: Any, args: Any) -> Any:
        kind, whole = args[0].type, _integers(args[0])
        denormal = builder.fcmp_ordered("<", args[0], _all(kind, TINY))
        normal = builder.select(
            denormal, builder.fmul(args[0], _all(kind, 2.0**MANTISSA_BITS)), args[0]
        )
        bits = builder.bitcast(normal, whole)
        shift = _all(whole, MANTISSA_BITS)
        exponent = builder.ashr(builder.sub(bits, _all(whole, SQRT_HALF)), shift)
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, shift)), kind)
        lifted = builder.select(denormal, shift, _all(whole, 0))
        return [builder.sitofp(builder.sub(exponent, lifted), kind), mantissa]

    return types.UniTuple(value, 2)(value), gen
