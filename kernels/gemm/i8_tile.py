"""Registers of `i8.py`: inputs interleaved by four, dot products of bytes, sums by position."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from bwn.kernels.simd.neon import lanes_of
from bwn.kernels.simd.vectors import (
    F32,
    I8,
    at,
    llvm_type,
    load_at,
    offset_by,
    splat_at,
)
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic

MIDDLE = 128
"""What is added to inputs."""
WIDE = "avx512vnni" in features()
"""Whether an instruction takes a whole vector; else a half."""


@intrinsic
def load_unsigned(kind: Any, address: Any) -> tuple[Any, Codegen]:
    """load_unsigned(I8_16, address): int8 inputs plus 128."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        top = ir.Constant(llvm_type(vec), [-MIDDLE] * vec.lanes)
        return builder.xor(load_at(builder, vec, args[1]), top)

    return vec(kind, types.intp), gen


@intrinsic
def write_quad(target: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> tuple[Any, Codegen]:
    """write_quad(target, x0, x1, x2, x3): the inputs of 4 k interleaved, 4 bytes a position.

    Within each 16 bytes of an input, so that no byte crosses a register's lane of 128 bits:
    `in_order` brings the sums of two vectors into the order of positions.
    """
    lanes = x0.lanes

    def interleave(builder: Any, a: Any, b: Any, width: int, start: int) -> Any:
        """Elements of `width` bytes of a and b in turn, from `start` on in each 16 bytes."""
        picks: list[int] = []
        for lane in range(start, lanes, 16):
            for first in range(lane, lane + 8, width):
                pair = range(first, first + width)
                picks += [*pair, *(lanes + i for i in pair)]
        return builder.shuffle_vector(a, b, lanes_of(picks))

    def gen(builder: Any, args: Any) -> None:
        address = args[0]
        for half in (0, 8):
            low = interleave(builder, args[1], args[2], 1, half)
            high = interleave(builder, args[3], args[4], 1, half)
            for quarter in (0, 8):
                value = interleave(builder, low, high, 2, quarter)
                builder.store(value, at(builder, address, value.type), align=lanes)
                address = offset_by(builder, address, lanes)

    return types.void(types.intp, x0, x0, x0, x0), gen


def in_order(builder: Any, a: Any, b: Any) -> list[Any]:
    """Two vectors of sums by position, from the order that `write_quad` leaves."""
    return [
        builder.shuffle_vector(
            a, b, lanes_of([4 * quad + i for quad in range(start, 8, 2) for i in range(4)])
        )
        for start in (0, 1)
    ]


def dot(builder: Any, total: Any, inputs: Any, weights: Any) -> Any:
    """LLVM value: each int32 of `total` plus four products of unsigned inputs by weights."""
    parts = 1 if WIDE else 2
    sums = [
        _vpdpbusd(builder, *(_part(builder, v, i, parts) for v in (total, inputs, weights)))
        for i in range(parts)
    ]
    return sums[0] if WIDE else builder.shuffle_vector(*sums, lanes_of(range(LANES)))


def _part(builder: Any, value: Any, index: int, parts: int) -> Any:
    """LLVM value: one of equal parts of a vector."""
    count = value.type.count // parts
    lanes = lanes_of(range(index * count, (index + 1) * count))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), lanes)


def _vpdpbusd(builder: Any, total: Any, inputs: Any, weights: Any) -> Any:
    signature = ir.FunctionType(total.type, (total.type, inputs.type, weights.type))
    name = f"llvm.x86.avx512.vpdpbusd.{32 * total.type.count}"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, (total, inputs, weights))


@intrinsic
def start_sums(like: Any, xs: Any, starts: Any) -> tuple[Any, Codegen]:
    """start_sums(like, xs, starts): vectors of each row's int32 at `starts`, as many as xs."""

    def gen(builder: Any, args: Any) -> Any:
        rows = [
            splat_at(builder, like.dtype, offset_by(builder, args[2], 4 * row))
            for row in range(like.count // xs.count)
        ]
        return [row for row in rows for _vector in range(xs.count)]

    return like(like, xs, types.intp), gen


@intrinsic
def add_products(sums: Any, xs: Any, weights: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """add_products(sums, xs, weights, row_bytes): sums plus products of 4 inputs by their weights.

    xs: inputs of a column. weights: address of the first row's, `row_bytes` to the next.
    """
    vec, octets = sums.dtype, llvm_type(I8.dtype)

    def gen(builder: Any, args: Any) -> Any:
        address = args[2]
        inputs = [
            builder.bitcast(builder.extract_value(args[1], v), octets) for v in range(xs.count)
        ]
        totals: list[Any] = []
        for _row in range(sums.count // xs.count):
            four = builder.bitcast(splat_at(builder, vec, address), octets)
            for x in inputs:
                before = builder.extract_value(args[0], len(totals))
                totals.append(dot(builder, before, x, four))
            address = builder.add(address, args[3])
        return totals

    return sums(sums, xs, types.intp, types.intp), gen


@intrinsic
def as_floats(sums: Any, xs: Any, correction: Any) -> tuple[Any, Codegen]:
    """as_floats(sums, xs, correction): by position, as float32, plus each row's float32."""
    vec = F32.dtype

    def gen(builder: Any, args: Any) -> Any:
        outputs: list[Any] = []
        for row in range(sums.count // xs.count):
            first = row * xs.count
            vectors = [builder.extract_value(args[0], first + v) for v in range(xs.count)]
            if xs.count == 2:
                vectors = in_order(builder, *vectors)
            more = splat_at(builder, vec, offset_by(builder, args[2], 4 * row))
            outputs += [
                builder.fadd(builder.sitofp(value, llvm_type(vec)), more) for value in vectors
            ]
        return outputs

    return types.UniTuple(vec, sums.count)(sums, xs, types.intp), gen
