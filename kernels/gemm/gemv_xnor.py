"""GEMV of signs: XNOR and counting bits, output channels in the lanes.

    sum[n] = |m| - 2 * popcount((a xor w[n]) and m)

a: bits of the inputs of one position; m: those that are not padding, so padding adds nothing, and
unused bits are outside m. A lane of 64 bits holds a word of its own channel, so no sum over lanes
is needed: 512 multiply-accumulates are a load, an xor, an and (with AVX-512 one instruction), a
count and an add.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv_loops import gemv_kernel
from bwn.kernels.gemm.gemv_packing import COUNTS_WORDS, SIGNS_LAYOUT
from bwn.kernels.gemm.tiles import CHANNELS
from bwn.kernels.simd.bit_lanes import popcount_lanes
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.scalars import (
    gather,
    get_i8,
    get_i32,
    get_u64,
    popcount,
    put_i8,
    put_i32,
    put_u64,
)
from bwn.kernels.simd.vectors import (
    I8,
    I32,
    I64,
    Vec,
    at,
    llvm_type,
    load,
    load_at,
    offset_by,
    splat_value,
    zero,
    zeros,
)
from bwn.kernels.target.jit import Codegen, helper, intrinsic

LANES = SIGNS_LAYOUT.lanes
COUNTS = I64 if COUNTS_WORDS else I8
"""Lanes that bits are counted in."""


@intrinsic
def above_zero(value: Any) -> tuple[Any, Codegen]:
    """above_zero(v): a uint64 whose bit i says whether int8 lane i is more than 0."""

    def gen(builder: Any, args: Any) -> Any:
        positive = builder.icmp_signed(">", args[0], ir.Constant(args[0].type, None))
        return builder.bitcast(positive, ir.IntType(64))

    return types.uint64(value), gen


@intrinsic
def count_differences(
    counts: Any, bits: Any, mask: Any, words: Any, block_bytes: Any
) -> tuple[Any, Codegen]:
    """count_differences(counts, bits, mask, words, block_bytes): counts[m] plus block m's differing
    bits.

    counts: tuple of vectors of 64 bytes, in whose lanes bits are counted. bits, mask: a uint64 for
    all rows. words: address of a word of each of 8 rows; those of block m are m * block_bytes
    further.
    """
    rows = Vec(types.int64, 8)

    def gen(builder: Any, args: Any) -> Any:
        kind = llvm_type(counts.dtype)
        all_bits, all_masks = (splat_value(builder, rows, word) for word in args[1:3])
        address, totals = args[3], []
        for m in range(counts.count):
            differ = builder.xor(load_at(builder, rows, address), all_bits)
            inside = builder.bitcast(builder.and_(differ, all_masks), kind)
            more = popcount_lanes(builder, inside)
            totals.append(hidden(builder, builder.add(builder.extract_value(args[0], m), more)))
            address = builder.add(address, args[4])
        return totals

    return counts(counts, types.uint64, types.uint64, types.intp, types.intp), gen


@intrinsic
def subtract_twice(totals: Any, counts: Any) -> tuple[Any, Codegen]:
    """subtract_twice(totals, counts): subtract twice the counts from int32 totals, 8 a vector, in a
    row.

    counts: tuple of vectors of 8 int64, or of 64 uint8 of which 8 count for the same total.
    """
    rows = Vec(types.int64, 8)

    def gen(builder: Any, args: Any) -> None:
        def constant(value: int) -> Any:
            return ir.Constant(llvm_type(rows), [value] * rows.lanes)

        small = ir.VectorType(ir.IntType(32), rows.lanes)
        for m in range(counts.count):
            value = builder.bitcast(builder.extract_value(args[1], m), llvm_type(rows))
            if counts.dtype.lanes == 64:
                pairs = constant(0x00FF00FF00FF00FF)
                odd = builder.and_(builder.lshr(value, constant(8)), pairs)
                value = builder.add(builder.and_(value, pairs), odd)
                value = builder.add(value, builder.lshr(value, constant(32)))
                value = builder.add(value, builder.lshr(value, constant(16)))
                value = builder.and_(value, constant(0xFFFF))
            twice = builder.trunc(builder.add(value, value), small)
            pointer = at(builder, offset_by(builder, args[0], m * 32), small)
            total = builder.sub(builder.load(pointer, align=4), twice)
            builder.store(total, pointer, align=4)

    return types.void(types.intp, counts), gen


@helper
def gather_bits(x: int, offsets: int, depth: int, row_words: int, to: int) -> None:
    """Pack the int8 signs of a position: bits, the mask of those not 0, and how many those are."""
    inputs = to + (2 * row_words + 1) * 8
    gather(get_i8, put_i8, x, offsets, depth, row_words * 64, inputs)
    inside = np.uint64(0)
    for w in range(row_words):
        values = load(I8, inputs, w * 64)
        positive = above_zero(values)
        mask = positive | above_zero(zero(I8) - values)
        put_u64(to, w, positive)
        put_u64(to, row_words + w, mask)
        inside += popcount(mask)
    put_u64(to, 2 * row_words, inside)


@helper
def subtract_differences(
    count_zeros: Any, safe_words: int, row_words: int, bits: int, words: int, totals: int
) -> None:
    """Subtract twice the differing bits from the totals of as many blocks as zeroed counts."""
    for start in range(0, row_words, safe_words):
        counts = count_zeros
        for w in range(start, min(start + safe_words, row_words)):
            mask = get_u64(bits, row_words + w)
            counts = count_differences(
                counts, get_u64(bits, w), mask, words + w * 64, row_words * 64
            )
        subtract_twice(totals, counts)


@helper
def prepare(f: Any, x: int, scratch: int) -> None:
    """Bits and mask of a position."""
    gather_bits(x, f.offsets, f.depth, f.row_words, scratch)


@helper
def sum_blocks(f: Any, block: int, several: bool, scratch: int, totals: int) -> None:
    """Totals of CHANNELS blocks of channels from `block` on, or of one."""
    words, safe = f.words + block * f.row_words * 64, SIGNS_LAYOUT.safe_pieces
    for n in range(CHANNELS * LANES):
        put_i32(totals, n, get_i32(scratch, 4 * f.row_words))
    if several:
        subtract_differences(zeros(COUNTS, CHANNELS), safe, f.row_words, scratch, words, totals)
    else:
        subtract_differences(zeros(COUNTS, 1), safe, f.row_words, scratch, words, totals)


signs_gemv = gemv_kernel(
    layout=SIGNS_LAYOUT,
    prepare=prepare,
    sum_blocks=sum_blocks,
    total_kind=I32,
    blocks_at_once=CHANNELS,
)


def s1_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """Activations +-1 or 0 in int8, weights packed by SIGNS_LAYOUT: exact sums of any depth."""
    signs_gemv(p, begin, end, part)
