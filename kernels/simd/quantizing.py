"""Float vectors to 8-bit integers: within bounds, rounded, less a midpoint."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from bwn.kernels.simd.arithmetic import call_named, fma_value, to_int_value
from bwn.kernels.simd.neon import by_register, registers_of
from bwn.kernels.simd.vectors import Vec, at, call_function, join, llvm_type, splat_value
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic

I32_4 = ir.VectorType(ir.IntType(32), 4)


def bounded_value(builder: Any, value: Any, low: Any, high: Any) -> Any:
    """LLVM value of vectors within bounds; a NaN stays. Which zero is greater is left open."""
    if "neon" in features():
        return call_named(builder, "minimum", call_named(builder, "maximum", value, low), high)
    value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
    return builder.select(builder.fcmp_ordered("<", high, value), high, value)


def whole_value(builder: Any, value: Any) -> Any:
    """LLVM value rint(v) as int32, of float32 lanes; of a NaN, one whose last byte is 0."""

    def converted(part: Any) -> Any:
        return call_function(builder, "llvm.aarch64.neon.fcvtns.v4i32.v4f32", I32_4, part)

    if "neon" in features():
        return by_register(builder, value, converted)
    if "simd128" in features():
        return to_int_value(builder, call_named(builder, "nearbyint", value))
    count = value.type.count  # cvtps2dq, which makes 0x80000000 of a NaN
    kind = ir.VectorType(ir.IntType(32), count)
    return call_function(builder, f"llvm.lrint.v{count}i32.v{count}f32", kind, value)


def octets_value(builder: Any, value: Any, middle: Any) -> Any:
    """LLVM value rint(v) - middle, as int8, of float32 lanes within 127 of it; of a NaN, of 0.

    middle: int32.
    """
    kind = Vec(types.int8, value.type.count)
    octets = builder.trunc(whole_value(builder, value), llvm_type(kind))
    return _less(builder, kind, octets, middle)


def _less(builder: Any, kind: Vec, octets: Any, middle: Any) -> Any:
    low = builder.trunc(middle, ir.IntType(8))
    return builder.sub(octets, splat_value(builder, kind, low))


def quotient_value(
    builder: Any, value: Any, low: Any, high: Any, reciprocal: Any, rest: Any
) -> Any:
    """LLVM value clip(v, low, high) / scale without a division, as near as rounding needs.

    `plan/reciprocal_rounding.py` says why the integers are those of a division. All: vectors.
    """
    value = bounded_value(builder, value, low, high)
    return fma_value(builder, value, reciprocal, builder.fmul(value, rest))


def quantized_value(
    builder: Any, value: Any, low: Any, high: Any, reciprocal: Any, rest: Any, middle: Any
) -> Any:
    """LLVM value rint(clip(v, low, high) / scale) - middle as int8. All but middle: vectors."""
    quotient = quotient_value(builder, value, low, high, reciprocal, rest)
    return octets_value(builder, quotient, middle)


def byte_and_above(builder: Any, low: Any, high: Any) -> Any:
    """LLVM value of int32 lanes: the last byte of each of `low`, and above it `high`."""
    if "neon" in features():  # LLVM finds `sli` once, and moves the other shifts
        name, by = "llvm.aarch64.neon.vsli.v4i32", ir.Constant(ir.IntType(32), 8)
        pairs = zip(registers_of(builder, low), registers_of(builder, high), strict=True)
        parts = [call_function(builder, name, I32_4, a, b, by) for a, b in pairs]
        return join(builder, parts)
    eight, last = (ir.Constant(low.type, [number] * low.type.count) for number in (8, 255))
    return builder.or_(builder.shl(high, eight), builder.and_(low, last))


def masked_value(builder: Any, octets: Any, mask: Any, otherwise: Any) -> Any:
    """LLVM value of int8 lanes; `otherwise`, int8 lanes too, where the int32 mask is 0, not -1."""
    chosen = builder.trunc(mask, octets.type)
    return builder.or_(builder.and_(octets, chosen), builder.and_(otherwise, builder.not_(chosen)))


@intrinsic
def bounded(value: Any, low: Any, high: Any) -> tuple[Any, Codegen]:
    """bounded(v, low, high): see `bounded_value`."""

    def gen(builder: Any, args: Any) -> Any:
        return bounded_value(builder, *args)

    return value(value, low, high), gen


@intrinsic
def whole_bytes(value: Any, middle: Any) -> tuple[Any, Codegen]:
    """whole_bytes(v, middle): see `octets_value`."""

    def gen(builder: Any, args: Any) -> Any:
        return octets_value(builder, *args)

    return Vec(types.int8, value.lanes)(value, types.int32), gen


@intrinsic
def quantized_bytes(
    value: Any, low: Any, high: Any, reciprocal: Any, rest: Any, middle: Any
) -> tuple[Any, Codegen]:
    """quantized_bytes(v, low, high, reciprocal, rest, middle): see `quantized_value`."""

    def gen(builder: Any, args: Any) -> Any:
        low, high, reciprocal, rest = (splat_value(builder, value, number) for number in args[1:5])
        return quantized_value(builder, args[0], low, high, reciprocal, rest, args[5])

    return Vec(types.int8, value.lanes)(value, *[types.float32] * 4, types.int32), gen


@intrinsic
def quantized_in_turn(
    values: Any, low: Any, high: Any, reciprocal: Any, rest: Any, middle: Any
) -> tuple[Any, Codegen]:
    """quantized_in_turn(values, ...): of four vectors, a lane of each in turn."""
    vec = values.dtype
    octets = Vec(types.int8, 4 * vec.lanes)

    def gen(builder: Any, args: Any) -> Any:
        numbers = [splat_value(builder, vec, number) for number in args[1:5]]
        whole = [
            whole_value(builder, quotient_value(builder, value, *numbers))
            for value in cgutils.unpack_tuple(builder, args[0])
        ]
        words = whole.pop()
        while whole:
            words = byte_and_above(builder, whole.pop(), words)
        return _less(builder, octets, builder.bitcast(words, llvm_type(octets)), args[5])

    return octets(values, *[types.float32] * 4, types.int32), gen


@intrinsic
def store_octets(
    address: Any, index: Any, value: Any, mask: Any, otherwise: Any
) -> tuple[Any, Codegen]:
    """store_octets(address, index, v, mask, otherwise): see `masked_value`."""

    def gen(builder: Any, args: Any) -> None:
        octets = masked_value(builder, args[2], args[3], splat_value(builder, value, args[4]))
        target = at(builder, builder.add(args[0], args[1]), octets.type)
        builder.store(octets, target, align=1)

    return types.void(types.intp, types.intp, value, mask, types.int8), gen
