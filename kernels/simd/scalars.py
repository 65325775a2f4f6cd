"""Scalars at integer addresses, and the parameter block of a kernel.

A kernel gets one address: that of its int64 fields, named by a NamedTuple. Addresses in the fields
point into the caller's buffers. Nothing here checks a bound.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from bwn.kernels.simd.vectors import at, element_address
from bwn.kernels.target.jit import Codegen, helper, intrinsic

FLOATS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def _scalar(element: Any) -> tuple[Any, Any]:
    kind = FLOATS.get(element) or ir.IntType(element.bitwidth)

    def pointer(builder: Any, address: Any, index: Any) -> Any:
        return at(builder, element_address(builder, element, address, index), kind)

    @intrinsic
    def get(address: Any, index: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> Any:
            return builder.load(pointer(builder, *args), align=1)

        return element(types.intp, types.intp), gen

    @intrinsic
    def put(address: Any, index: Any, value: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> None:
            builder.store(args[2], pointer(builder, args[0], args[1]), align=1)

        return types.void(types.intp, types.intp, element), gen

    return get, put


get_f32, put_f32 = _scalar(types.float32)
get_f64, put_f64 = _scalar(types.float64)
get_i8, put_i8 = _scalar(types.int8)
get_i16, _ = _scalar(types.int16)
get_i32, put_i32 = _scalar(types.int32)
get_i64, put_i64 = _scalar(types.int64)
get_u8, put_u8 = _scalar(types.uint8)
get_u64, put_u64 = _scalar(types.uint64)


def reader(fields: Any) -> Any:
    """An operation that reads a parameter block: reader(GemmParams)(address) is a GemmParams.

    fields: a NamedTuple of integers, or a `Params`; the block holds them as int64, in order.
    """
    struct = getattr(fields, "struct", fields)
    kind = types.NamedUniTuple(types.int64, len(struct._fields), struct)

    @intrinsic
    def read(address: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> Any:
            base = at(builder, args[0], ir.IntType(64))
            return [builder.load(cgutils.gep_inbounds(builder, base, i)) for i in range(kind.count)]

        return kind(types.intp), gen

    return read


@intrinsic
def popcount(word: Any) -> tuple[Any, Codegen]:
    """popcount(word): how many bits of a uint64 are 1."""

    def gen(builder: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), gen


@helper
def gather(get: Any, put: Any, x: int, offsets: int, depth: int, size: int, to: int) -> None:
    """Copy the inputs of a position, x plus each of K offsets; zeros up to `size` elements."""
    fours = depth // 4 * 4
    for k in range(0, fours, 4):  # reads come first: for all that LLVM knows, writes change offsets
        a, b = get(x, get_i64(offsets, k)), get(x, get_i64(offsets, k + 1))
        c, d = get(x, get_i64(offsets, k + 2)), get(x, get_i64(offsets, k + 3))
        put(to, k, a)
        put(to, k + 1, b)
        put(to, k + 2, c)
        put(to, k + 3, d)
    for k in range(fours, depth):
        put(to, k, get(x, get_i64(offsets, k)))
    for k in range(depth, size):
        put(to, k, 0)
