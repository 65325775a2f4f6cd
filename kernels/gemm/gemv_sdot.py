"""GEMV of 8-bit activations by dot products of bytes, for ARM's `sdot`.

`sdot` adds 4 products of int8 to each of 4 int32. A register of 16 bytes holds the weights of 32
channels for 4 inputs: bit j of byte 4 * c + i is channel 4 * j + c, input i. With only bit j left,
a byte is 0 or 2**j (-2**7 for j = 7), so

    sums[j][c] = 2**j * sum_k b[4 * j + c, k] * x[k],    b = 0 or 1
    out[n] = 2 * sum_k b[n, k] * x[k] - sum_k x[k]

For j = 0 nothing is masked: the whole byte gives the sum of all the others besides its own. 7 `and`
and 8 `sdot` are 128 multiply-accumulates, and no table is written: for few channels that is less
work than `gemv_bytes.py` takes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.byte_products import sdot
from bwn.kernels.gemm.gemv_loops import gemv_kernel, table_summer, table_writer
from bwn.kernels.gemm.gemv_packing import DOTS_LAYOUT
from bwn.kernels.simd.scalars import get_i8, put_i8
from bwn.kernels.simd.vectors import (
    I8_16,
    I32,
    I32_4,
    at,
    call_function,
    llvm_type,
    load_at,
    offset_by,
    splat_value,
)
from bwn.kernels.target.jit import Codegen, intrinsic

BLOCKS = 2
BITS = 8
SUMS = BITS + 1
"""Of each block: one for each bit, and the inputs alone."""
OCTETS, FOUR = I8_16.dtype, I32_4.dtype


@intrinsic
def write_tables(kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
    """write_tables(kind, inputs, tables): the table of a piece is its 16 inputs."""

    def gen(builder: Any, args: Any) -> None:
        pointer = at(builder, args[2], llvm_type(OCTETS))
        builder.store(load_at(builder, OCTETS, args[1]), pointer, align=1)

    return types.void(kind, types.intp, types.intp), gen


@intrinsic
def add_entries(sums: Any, tables: Any, indices: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """add_entries(sums, tables, indices, block_bytes): sums plus products of 16 inputs."""

    def gen(builder: Any, args: Any) -> Any:
        octets, fours = llvm_type(OCTETS), llvm_type(FOUR)
        inputs = load_at(builder, OCTETS, args[1])
        words = builder.bitcast(inputs, fours)
        address, totals = args[2], [builder.extract_value(args[0], m) for m in range(sums.count)]
        for m in range(0, sums.count, SUMS):
            for quad in range(4):
                weights = load_at(builder, OCTETS, offset_by(builder, address, quad * 16))
                word = builder.extract_element(words, ir.Constant(ir.IntType(32), quad))
                four = builder.bitcast(splat_value(builder, FOUR, word), octets)
                for j in range(BITS):
                    bit = ir.Constant(octets, [1 << j if j < 7 else -128] * 16)
                    masked = builder.and_(weights, bit) if j else weights
                    totals[m + j] = sdot(builder, totals[m + j], masked, four)
            ones = ir.Constant(octets, [1] * 16)
            totals[m + BITS] = sdot(builder, totals[m + BITS], inputs, ones)
            address = builder.add(address, args[3])
        return totals

    return sums(sums, types.intp, types.intp, types.intp), gen


@intrinsic
def add_to_totals(totals: Any, sums: Any) -> tuple[Any, Codegen]:
    """add_to_totals(totals, sums): add the sums of bits to int32 totals, 32 a block, in a row."""

    def gen(builder: Any, args: Any) -> None:
        fours = llvm_type(FOUR)
        reduce = "llvm.vector.reduce.add.v4i32"
        for m in range(0, sums.count, SUMS):
            *bits, inputs = (builder.extract_value(args[1], m + j) for j in range(SUMS))
            for other in bits[1:]:
                bits[0] = builder.sub(bits[0], other)
            bits[7] = builder.neg(bits[7])
            all_inputs = call_function(builder, reduce, ir.IntType(32), inputs)
            all_inputs = splat_value(builder, FOUR, all_inputs)
            for j, value in enumerate(bits):
                if j:  # 2**j times the sum, of which twice is wanted
                    twice = builder.ashr(value, ir.Constant(fours, [j - 1] * 4))
                else:
                    twice = builder.shl(value, ir.Constant(fours, [1] * 4))
                pointer = at(
                    builder, offset_by(builder, args[0], (m // SUMS * BITS + j) * 16), fours
                )
                before = builder.load(pointer, align=4)
                total = builder.add(before, builder.sub(twice, all_inputs))
                builder.store(total, pointer, align=4)

    return types.void(types.intp, sums), gen


dots_gemv = gemv_kernel(
    layout=DOTS_LAYOUT,
    prepare=table_writer(I32_4, DOTS_LAYOUT, write_tables, get_i8, put_i8),
    sum_blocks=table_summer(I32_4, DOTS_LAYOUT, add_entries, add_to_totals, BLOCKS, SUMS),
    total_kind=I32,
    blocks_at_once=BLOCKS,
)


def i8_b1_f32_planes_dots(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights packed by `pack_dots`: exact sums."""
    dots_gemv(p, begin, end, part)
