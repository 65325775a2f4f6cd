"""XNOR for few positions, output channels in the lanes.

    sum[n] = |m| - 2 * popcount((a xor w[n]) and m)

a: bits of the inputs of one position; m: those that are not padding, so padding adds nothing, and unused bits are
outside m. A lane of 64 bits holds a word of its own channel, so no sum over lanes is needed: 512 multiply-accumulates
are a load, an xor, an and (with AVX-512 one instruction), a count and an add.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from bwn.kernels.gemm.gemv import product
from bwn.kernels.gemm.tiles import CHANNELS
from bwn.kernels.gemm.weight_packing import COUNTS_WORDS, SIGNS_FORM
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
    Codegen,
    Vec,
    at,
    llvm_type,
    load,
    load_at,
    splat_value,
    zero,
    zeros,
)
from bwn.kernels.target.jit import helper, intrinsic

FORM = SIGNS_FORM
LANES = FORM.lanes
COUNTS = I64 if COUNTS_WORDS else I8


@intrinsic
def above_zero(_: Any, value: Any) -> tuple[Any, Codegen]:
    """above_zero(v): a uint64 whose bit i says whether int8 lane i is more than 0."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        positive = builder.icmp_signed(">", args[0], ir.Constant(args[0].type, None))
        return builder.bitcast(positive, ir.IntType(64))

    return types.uint64(value), gen


@intrinsic
def count_differences(
    _: Any, counts: Any, bits: Any, mask: Any, words: Any, block_bytes: Any
) -> tuple[Any, Codegen]:
    """count_differences(counts, bits, mask, words, block_bytes): counts[m] plus how many bits of block m differ.

    counts: tuple of vectors of 64 bytes, in whose lanes bits are counted. bits, mask: a uint64 for all rows. words:
    address of a word each of 8 rows; those of block m stand m * block_bytes after them.
    """
    rows = Vec(types.int64, 8)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_type(counts.dtype)
        name = f"llvm.ctpop.v{counts.dtype.lanes}i{counts.dtype.element.bitwidth}"
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, (kind,)), name)
        both, here, where, totals = (
            splat_value(builder, rows, args[1]),
            splat_value(builder, rows, args[2]),
            args[3],
            [],
        )
        for m in range(counts.count):
            differ = builder.and_(builder.xor(load_at(builder, rows, where), both), here)
            found = builder.call(count, (builder.bitcast(differ, kind),))
            totals.append(hidden(builder, builder.add(builder.extract_value(args[0], m), found)))
            where = builder.add(where, args[4])
        return context.make_tuple(builder, sig.return_type, totals)

    return counts(counts, types.uint64, types.uint64, types.intp, types.intp), gen


@intrinsic
def subtract_twice(_: Any, totals: Any, counts: Any) -> tuple[Any, Codegen]:
    """subtract_twice(totals, counts): take twice the bits counted from 8 int32 totals a vector, one after another.

    counts: tuple of vectors of 8 int64, or of 64 uint8 of which 8 count for the same total.
    """
    rows = Vec(types.int64, 8)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def constant(value: int) -> Any:
            return ir.Constant(llvm_type(rows), [value] * rows.lanes)

        small = ir.VectorType(ir.IntType(32), rows.lanes)
        for m in range(counts.count):
            value = builder.bitcast(builder.extract_value(args[1], m), llvm_type(rows))
            if counts.dtype.lanes == 64:
                pairs = constant(0x00FF00FF00FF00FF)
                value = builder.add(
                    builder.and_(value, pairs),
                    builder.and_(builder.lshr(value, constant(8)), pairs),
                )
                value = builder.add(value, builder.lshr(value, constant(32)))
                value = builder.and_(
                    builder.add(value, builder.lshr(value, constant(16))), constant(0xFFFF)
                )
            twice = builder.trunc(builder.add(value, value), small)
            where = at(builder, builder.add(args[0], ir.Constant(ir.IntType(64), m * 32)), small)
            builder.store(builder.sub(builder.load(where, align=4), twice), where, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, counts), gen


@helper
def gather_bits(x: int, offsets: int, depth: int, row_words: int, to: int) -> None:
    """Pack the int8 signs of a position: the bits, then the mask of those that are not 0, then how many those are."""
    room = to + (2 * row_words + 1) * 8
    gather(get_i8, put_i8, x, offsets, depth, row_words * 64, room)
    there = np.uint64(0)
    for w in range(row_words):
        values = load(I8, room, w * 64)
        positive = above_zero(values)
        mask = positive | above_zero(zero(I8) - values)
        put_u64(to, w, positive)
        put_u64(to, row_words + w, mask)
        there += popcount(mask)
    put_u64(to, 2 * row_words, there)


@helper
def count_bits(none: Any, safe: int, row_words: int, bits: int, words: int, totals: int) -> None:
    """Take twice the bits that differ from the totals of as many blocks of channels as `none` has counts."""
    for start in range(0, row_words, safe):
        counts = none
        for w in range(start, min(start + safe, row_words)):
            mask = get_u64(bits, row_words + w)
            counts = count_differences(
                counts, get_u64(bits, w), mask, words + w * 64, row_words * 64
            )
        subtract_twice(totals, counts)


@helper
def ready(kind: Any, form: Any, f: Any, x: int, scratch: int) -> None:
    """Bits and mask of a position."""
    gather_bits(x, f.offsets, f.depth, f.row_words, scratch)


@helper
def add_up(kind: Any, form: Any, many: bool, f: Any, block: int, scratch: int, totals: int) -> None:
    """Totals of CHANNELS blocks of channels from `block` on, or of one."""
    words = f.words + block * f.row_words * 64
    for n in range(CHANNELS * LANES):
        put_i32(totals, n, get_i32(scratch, 4 * f.row_words))
    if many:
        count_bits(zeros(kind, CHANNELS), form.safe, f.row_words, scratch, words, totals)
    else:
        count_bits(zeros(kind, 1), form.safe, f.row_words, scratch, words, totals)


def s1_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """Activations +-1 or 0 in int8, one-bit weights laid out by `lay`: exact sums of any depth."""
    product(ready, add_up, I32, COUNTS, FORM, CHANNELS, 1, p, begin, end, part)
