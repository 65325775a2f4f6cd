"""Registers of `i8.py`: inputs interleaved by four, products of bytes, sums by position."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.byte_products import FORM, dot, four_of, four_weights, interleaved
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.vectors import (
    F32,
    I8,
    Vec,
    at,
    lanes_of,
    llvm_type,
    load_at,
    offset_by,
    splat_at,
)
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic

MIDDLE = 128 if FORM == "vpdpbusd" else 0
"""What is added to inputs: that instruction takes them as unsigned."""
SIXTEENS = "neon" in features()
"""Whether a product takes a part of a register for all of another's lanes."""


def unsigned_at(builder: Any, vec: Vec, address: Any) -> Any:
    """LLVM value: int8 inputs at an address, plus MIDDLE."""
    top = ir.Constant(llvm_type(vec), [-MIDDLE] * vec.lanes)
    return builder.xor(load_at(builder, vec, address), top)


@intrinsic
def load_unsigned(kind: Any, address: Any) -> tuple[Any, Codegen]:
    """load_unsigned(I8_16, address): int8 inputs plus MIDDLE."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        return unsigned_at(builder, vec, args[1])

    return vec(kind, types.intp), gen


@intrinsic
def write_quad(target: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> tuple[Any, Codegen]:
    """write_quad(target, x0, x1, x2, x3): the inputs of 4 k interleaved, 4 bytes a position.

    `in_order` brings the sums of two vectors into the order of positions.
    """

    def gen(builder: Any, args: Any) -> None:
        address = args[0]
        for value in interleaved(builder, args[1:]):
            builder.store(value, at(builder, address, value.type), align=x0.lanes)
            address = offset_by(builder, address, x0.lanes)

    return types.void(types.intp, x0, x0, x0, x0), gen


def in_order(builder: Any, a: Any, b: Any) -> list[Any]:
    """Two vectors of sums by position, from the order that `write_quad` leaves."""
    return [
        builder.shuffle_vector(
            a, b, lanes_of([4 * quad + i for quad in range(start, 8, 2) for i in range(4)])
        )
        for start in (0, 1)
    ]


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
    octets = llvm_type(I8.dtype)

    def gen(builder: Any, args: Any) -> Any:
        address = args[2]
        inputs = [
            builder.bitcast(builder.extract_value(args[1], v), octets) for v in range(xs.count)
        ]
        totals: list[Any] = []
        for _row in range(sums.count // xs.count):
            four = four_weights(builder, address)
            for x in inputs:
                before = builder.extract_value(args[0], len(totals))
                totals.append(dot(builder, before, x, four))
            address = builder.add(address, args[3])
        return totals

    return sums(sums, xs, types.intp, types.intp), gen


@intrinsic
def add_sixteen_products(
    sums: Any, xs: Any, x: Any, weights: Any, row_bytes: Any
) -> tuple[Any, Codegen]:
    """The same for 16 inputs from address x on: a load brings a row's 16 weights.

    For NEON, one vector of positions.
    """
    octets = Vec(types.int8, 16)

    def gen(builder: Any, args: Any) -> Any:
        rows, row = [], args[3]
        for _row in range(sums.count):
            rows.append(load_at(builder, octets, row))
            row = builder.add(row, args[4])
        totals = [builder.extract_value(args[0], i) for i in range(sums.count)]
        for quad in range(4):
            x = load_at(builder, I8.dtype, offset_by(builder, args[2], quad * VECTOR_BYTES))
            for i, weights in enumerate(rows):
                totals[i] = hidden(
                    builder, dot(builder, totals[i], x, four_of(builder, weights, quad))
                )
        return totals

    return sums(sums, xs, types.intp, types.intp, types.intp), gen


@intrinsic
def as_floats(sums: Any, xs: Any) -> tuple[Any, Codegen]:
    """as_floats(sums, xs): sums by position, as float32."""
    vec = F32.dtype

    def gen(builder: Any, args: Any) -> Any:
        outputs: list[Any] = []
        for first in range(0, sums.count, xs.count):
            vectors = [builder.extract_value(args[0], first + v) for v in range(xs.count)]
            if xs.count == 2:
                vectors = in_order(builder, *vectors)
            outputs += [builder.sitofp(value, llvm_type(vec)) for value in vectors]
        return outputs

    return types.UniTuple(vec, sums.count)(sums, xs), gen
