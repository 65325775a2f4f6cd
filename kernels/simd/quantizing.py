"""Float vectors to 8-bit integers: within bounds, rounded, less a midpoint."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.simd.arithmetic import call_named, maximum, minimum, nearest, to_int
from bwn.kernels.simd.neon import by_register
from bwn.kernels.simd.vectors import Vec, at, call_function, llvm_type, splat_value
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, helper, intrinsic


def _bound(name: str) -> Any:
    @intrinsic
    def bound(a: Any, b: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> Any:
            return call_named(builder, name, *args)

        return a(a, b), gen

    return bound


_at_least, _at_most = _bound("maximum"), _bound("minimum")

if "neon" in features():

    @helper
    def bounded(value: Any, low: Any, high: Any) -> Any:
        """Float vectors within bounds; a NaN stays. Which zero is greater is left open."""
        return _at_most(_at_least(value, low), high)

else:

    @helper
    def bounded(value: Any, low: Any, high: Any) -> Any:
        """Float vectors within bounds; a NaN stays. Which zero is greater is left open."""
        return minimum(maximum(value, low), high)


@intrinsic
def narrow_less(value: Any, number: Any) -> tuple[Any, Codegen]:
    """narrow_less(v, n): the low 8 bits of int32 lanes less a number."""
    octets = Vec(types.int8, value.lanes)

    def gen(builder: Any, args: Any) -> Any:
        low = builder.trunc(args[1], ir.IntType(8))
        return builder.sub(
            builder.trunc(args[0], llvm_type(octets)), splat_value(builder, octets, low)
        )

    return octets(value, types.int32), gen


@intrinsic
def to_nearest(value: Any) -> tuple[Any, Codegen]:
    """to_nearest(v): float lanes as int32, halves to even; a NaN becomes 0. For NEON."""
    whole = Vec(types.int32, value.lanes)

    def gen(builder: Any, args: Any) -> Any:
        def converted(part: Any) -> Any:
            kind = ir.VectorType(ir.IntType(32), 4)
            return call_function(builder, "llvm.aarch64.neon.fcvtns.v4i32.v4f32", kind, part)

        return by_register(builder, args[0], converted)

    return whole(value), gen


if "neon" in features():

    @helper
    def whole_bytes(value: Any, middle: Any) -> Any:
        """rint(v) - middle of float32 lanes that are within 127 of it, as int8; of a NaN, of 0."""
        return narrow_less(to_nearest(value), middle)

else:

    @helper
    def whole_bytes(value: Any, middle: Any) -> Any:
        """rint(v) - middle of float32 lanes that are within 127 of it, as int8; of a NaN, of 0."""
        return narrow_less(to_int(nearest(value)), middle)


@intrinsic
def store_octets(
    address: Any, index: Any, value: Any, mask: Any, otherwise: Any
) -> tuple[Any, Codegen]:
    """store_octets(address, index, v, mask, otherwise): int8 lanes from `index` on; `otherwise`
    where the int32 mask is 0 and not -1.
    """
    kind = llvm_type(value)

    def gen(builder: Any, args: Any) -> None:
        chosen = builder.trunc(args[3], kind)
        other = splat_value(builder, value, args[4])
        octets = builder.or_(
            builder.and_(args[2], chosen), builder.and_(other, builder.not_(chosen))
        )
        builder.store(octets, at(builder, builder.add(args[0], args[1]), kind), align=1)

    return types.void(types.intp, types.intp, value, mask, types.int8), gen
