"""Float vectors to 8-bit integers: rounded, within bounds, less a midpoint."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from bwn.kernels.simd.arithmetic import maximum, minimum, nearest, to_int
from bwn.kernels.simd.neon import lanes_of
from bwn.kernels.simd.vectors import Vec, at, like, llvm_type, splat_value
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@intrinsic
def narrow_less(value: Any, number: Any) -> tuple[Any, Codegen]:
    """narrow_less(v, n): the low 8 bits of int32 lanes less a number."""
    octets = Vec(types.int8, value.lanes)

    def gen(builder: Any, args: Any) -> Any:
        difference = builder.sub(args[0], splat_value(builder, value, args[1]))
        return builder.trunc(difference, llvm_type(octets))

    return octets(value, types.int32), gen


@intrinsic
def saturated_bytes(value: Any, low: Any, high: Any, middle: Any) -> tuple[Any, Codegen]:
    """saturated_bytes(v, low, high, middle): NEON's form of `rounded_bytes`.

    Conversion and narrowing saturate, so the bounds are those of bytes.
    """
    octets = Vec(types.int8, value.lanes)
    i8, i32 = ir.IntType(8), ir.IntType(32)

    def call(builder: Any, name: str, kind: Any, *args: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [arg.type for arg in args]), name
        )
        return builder.call(function, args)

    def halves(builder: Any, parts: list[Any], bits: int) -> list[Any]:
        """Registers narrowed to lanes of so many bits, and joined in pairs."""
        lanes = parts[0].type.count
        kind = ir.VectorType(ir.IntType(bits), lanes)
        name = f"llvm.aarch64.neon.sqxtn.v{lanes}i{bits}"
        parts = [call(builder, name, kind, part) for part in parts]
        if len(parts) == 1:
            return parts
        order = lanes_of(range(2 * lanes))
        return [
            builder.shuffle_vector(first, second, order)
            for first, second in zip(parts[::2], parts[1::2], strict=True)
        ]

    def gen(builder: Any, args: Any) -> Any:
        values, low, high, middle = args
        four = ir.VectorType(i32, 4)
        less = splat_value(builder, Vec(types.int32, 4), middle)
        empty, parts = ir.Constant(values.type, ir.Undefined), []
        for start in range(0, value.lanes, 4):
            part = builder.shuffle_vector(values, empty, lanes_of(range(start, start + 4)))
            whole = call(builder, "llvm.aarch64.neon.fcvtns.v4i32.v4f32", four, part)
            parts.append(call(builder, "llvm.ssub.sat.v4i32", four, whole, less))
        parts = halves(builder, parts, 16)
        if len(parts) == 1 and parts[0].type.count == 4:  # eight lanes are the fewest to narrow
            parts = [builder.shuffle_vector(parts[0], parts[0], lanes_of([0, 1, 2, 3] * 2))]
        (result,) = halves(builder, parts, 8)
        for bound, order in ((low, ">"), (high, "<")):
            byte = builder.trunc(builder.sub(builder.fptosi(bound, i32), middle), i8)
            every = splat_value(builder, Vec(types.int8, result.type.count), byte)
            closer = builder.icmp_signed(order, every, result)
            result = builder.select(closer, every, result)
        if value.lanes == 4:
            result = builder.shuffle_vector(result, result, lanes_of(range(4)))
        return result

    return octets(value, types.float32, types.float32, types.int32), gen


if "neon" in features():

    @helper
    def rounded_bytes(value: Any, low: Any, high: Any, middle: Any) -> Any:
        """clip(rint(v), low, high) - middle of float32 lanes, as int8; of a NaN, that of 0.

        low, high: whole float32 numbers within 127 of `middle`, an int32.
        """
        return saturated_bytes(value, low, high, middle)

else:

    @helper
    def rounded_bytes(value: Any, low: Any, high: Any, middle: Any) -> Any:
        """clip(rint(v), low, high) - middle of float32 lanes, as int8; of a NaN, that of 0.

        low, high: whole float32 numbers within 127 of `middle`, an int32.
        """
        whole = minimum(maximum(nearest(value), like(value, low)), like(value, high))
        return narrow_less(to_int(whole), middle)


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
