"""Moving lanes of vectors: halves, strided loads, tables in registers, transposes, reductions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.simd.arithmetic import call_named
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.vectors import (
    I32,
    Vec,
    add,
    at,
    call_function,
    element_address,
    lanes_of,
    llvm_type,
    load_at,
    offset_by,
    pick,
    splat_value,
)
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, intrinsic


@intrinsic
def halves(value: Any) -> tuple[Any, Codegen]:
    """halves(v): the lower and the upper half of the lanes, as a tuple."""
    half = Vec(value.element, value.lanes // 2)

    def gen(builder: Any, args: Any) -> Any:
        return [
            pick(builder, args[0], range(start, start + half.lanes)) for start in (0, half.lanes)
        ]

    return types.UniTuple(half, 2)(value), gen


@intrinsic
def load_second(kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """load_second(F32, address, index): every second element from `index`, reading no further."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        # The second load ends with the last element wanted, so its odd lanes are the ones.
        further = builder.add(args[2], ir.Constant(ir.IntType(64), vec.lanes - 1))
        low, high = (
            load_at(builder, vec, element_address(builder, vec.element, args[1], i))
            for i in (args[2], further)
        )
        lanes = [*range(0, vec.lanes, 2), *range(vec.lanes + 1, 2 * vec.lanes, 2)]
        return builder.shuffle_vector(low, high, lanes_of(lanes))

    return vec(kind, types.intp, types.intp), gen


TAKES = {
    (types.float32, 8, 1): "llvm.x86.avx2.permps",
    (types.float32, 16, 1): "llvm.x86.avx512.permvar.sf.512",
    (types.float32, 16, 2): "llvm.x86.avx512.vpermi2var.ps.512",
    (types.int16, 32, 1): "llvm.x86.avx512.permvar.hi.512",
    (types.int16, 32, 2): "llvm.x86.avx512.vpermi2var.hi.512",
    (types.int8, 32, 1): "llvm.x86.avx2.pshuf.b",
    (types.int8, 16, 1): "llvm.aarch64.neon.tbl1.v16i8",
    (types.int8, 16, 2): "llvm.aarch64.neon.tbl2.v16i8",
}
"""LLVM's names of the instructions of `take_value`, by element, lanes and vectors of the table."""


def take_value(builder: Any, vec: Vec, table: list[Any], indices: Any) -> Any:
    """LLVM value whose lane i is entry indices[i] of a table; only an index's low bits count.

    table: 1 or 2 vectors of kind `vec`. One instruction: of AVX2 for 8 float32; of AVX-512 for 16
    or 2 * 16 float32 and for 32 or 2 * 32 int16. Of bytes, by indices within the table, for 16 or
    2 * 16 of NEON, and for 32 of AVX2, where each half of the indices has its half of the table.
    """
    name = TAKES[vec.element, vec.lanes, len(table)]
    operands = [*table, indices]
    if "vpermi2var" in name:
        operands = [table[0], indices, table[1]]
    return call_function(builder, name, llvm_type(vec), *operands)


@intrinsic
def load_apart(kind: Any, address: Any, step: Any) -> tuple[Any, Codegen]:
    """load_apart(F32, address, step): elements `step` bytes apart."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        value, address = ir.Constant(llvm_type(vec), ir.Undefined), args[1]
        for lane in range(vec.lanes):
            number = builder.load(at(builder, address, value.type.element), align=1)
            value = builder.insert_element(value, number, ir.Constant(ir.IntType(32), lane))
            address = builder.add(address, args[2])
        return value

    return vec(kind, types.intp, types.intp), gen


@intrinsic
def store_apart(kind: Any, address: Any, step: Any, value: Any) -> tuple[Any, Codegen]:
    """store_apart(F32, address, step, v): write the lanes `step` bytes apart.

    With I8_16, the low bytes of int32 lanes.
    """

    def gen(builder: Any, args: Any) -> None:
        address = args[1]
        for number in _numbers(builder, kind.dtype, args[3]):
            builder.store(number, at(builder, address, number.type), align=1)
            address = builder.add(address, args[2])

    return types.void(kind, types.intp, types.intp, value), gen


@intrinsic
def store_alone(kind: Any, address: Any, value: Any, fill: Any) -> tuple[Any, Codegen]:
    """store_alone(F32, address, v, fill): each lane as the first of a vector of `fill`, in a row.

    With I8_16, the low bytes of int32 lanes.
    """
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> None:
        whole, address = splat_value(builder, vec, args[3]), args[1]
        for number in _numbers(builder, vec, args[2]):
            whole = builder.insert_element(whole, number, ir.Constant(ir.IntType(32), 0))
            whole = hidden(builder, whole)  # or LLVM loads a table of lanes for each
            builder.store(whole, at(builder, address, whole.type), align=1)
            address = offset_by(builder, address, vec.lanes * vec.element.bitwidth // 8)

    return types.void(kind, types.intp, value, vec.element), gen


def _numbers(builder: Any, vec: Vec, value: Any) -> list[Any]:
    """LLVM values of the lanes of a vector, each with its low bits alone where `vec` is smaller."""
    small = llvm_type(vec)
    lanes = value if value.type == small else builder.trunc(value, small)
    return [
        builder.extract_element(lanes, ir.Constant(ir.IntType(32), lane))
        for lane in range(vec.lanes)
    ]


@intrinsic
def transpose(target: Any, source: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """transpose(target, source, row_bytes): 16 x 16 elements of 4 bytes, to rows of 64 bytes."""
    vec, lanes = I32.dtype, I32.dtype.lanes

    def gen(builder: Any, args: Any) -> None:
        address, rows = args[1], []
        for _row in range(lanes):
            rows.append(load_at(builder, vec, address))
            address = builder.add(address, args[2])
        width = 1
        while width < lanes:  # swap blocks of `width` across the diagonal
            low = lanes_of([lanes + (i ^ width) if i & width else i for i in range(lanes)])
            high = lanes_of([lanes + i if i & width else i ^ width for i in range(lanes)])
            for i in range(lanes):
                if not i & width:
                    a, b = rows[i], rows[i | width]
                    rows[i] = builder.shuffle_vector(a, b, low)
                    rows[i | width] = builder.shuffle_vector(a, b, high)
            width *= 2
        for i, row in enumerate(rows):
            to = builder.add(args[0], ir.Constant(ir.IntType(64), i * VECTOR_BYTES))
            builder.store(row, at(builder, to, llvm_type(vec)), align=4)

    return types.void(types.intp, types.intp, types.intp), gen


@intrinsic
def top_lane(value: Any) -> tuple[Any, Codegen]:
    """top_lane(v): the largest float lane (NaN lanes lose)."""

    def gen(builder: Any, args: Any) -> Any:
        best = builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))
        for lane in range(1, value.lanes):
            other = builder.extract_element(args[0], ir.Constant(ir.IntType(32), lane))
            best = builder.select(builder.fcmp_ordered(">", other, best), other, best)
        return best

    return value.element(value), gen


@intrinsic
def total(value: Any) -> tuple[Any, Codegen]:
    """total(v): sum of all lanes by halving, in the same order on every machine."""

    def gen(builder: Any, args: Any) -> Any:
        part, lanes = args[0], value.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (pick(builder, part, range(i, i + lanes)) for i in (0, lanes))
            part = add(builder, Vec(value.element, lanes), low, high)
        return builder.extract_element(part, ir.Constant(ir.IntType(32), 0))

    return value.element(value), gen


def _across(combine: Any) -> Any:
    @intrinsic
    def across(value: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> Any:
            result, lanes = args[0], value.lanes
            step = lanes // 2
            while step:
                other = pick(builder, result, [lane ^ step for lane in range(lanes)])
                result = combine(builder, result, other)
                step //= 2
            return result

        return value(value), gen

    return across


sum_of_lanes = _across(lambda builder, a, b: builder.fadd(a, b))
"""sum_of_lanes(v): the sum of all float lanes, in every lane."""
top_of_lanes = _across(
    lambda builder, a, b: call_named(builder, "maximum", a, b, fastmath=("nsz",))
)
"""top_of_lanes(v): the largest float lane, in every lane; a NaN where one is."""


@intrinsic
def first_lane(value: Any) -> tuple[Any, Codegen]:
    """first_lane(v): its first element."""

    def gen(builder: Any, args: Any) -> Any:
        return builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))

    return value.element(value), gen
