"""LUT GEMM (as T-MAC and DeepGEMM): one-bit weights select sums from tables, read from packed
words.

    sum[n, p] = sum_k s[n, k] * x[offset[k] + p],    s = +-1

1. Positions p are in the lanes: 64 bytes of them at a time.
2. For 4 consecutive k, all 16 sums +-x0 +-x1 +-x2 +-x3 are computed once: the group's table, shared
   by all outputs n.
3. A row of weights is then a list of 4-bit table indices, and the packed words are that list: a
   word is 16 indices.

So one vector load and one add do 4 multiply-accumulates a lane. The range of an entry decides how
long sums fit their lanes:

| activations | entry within | lane of the sum | groups before it must be widened |
|---|---|---|---|
| float32 | | float32 | |
| 8-bit, +-127 | +-508 | int16 | 64 |
| signs, +-1 or 0 | +-4 | int8 | 31 |

A row's unused bits are zero, so a group past the row's end only ever reads entry 0, which is zero.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import (
    fill_margins,
    gemm_params,
    is_quantized,
    out_plane,
    quantized_end,
    store_quantized_sums,
    write_positions,
)
from bwn.kernels.gemm.tiles import (
    CHANNELS,
    GROUP,
    MAX_WORDS,
    TABLE_BYTES,
    WORD_BYTES,
    WORD_GROUPS,
)
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.scalars import get_f32, get_i64
from bwn.kernels.simd.stores import x_scales_at
from bwn.kernels.simd.vectors import (
    F32,
    I8,
    I16,
    Vec,
    add,
    at,
    llvm_type,
    load_at,
    offset_by,
    splat,
    store,
    sub,
    zero,
    zeros,
)
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, helper, intrinsic

WIDER: dict[Any, Any] = {
    types.float32: types.float32,
    types.int16: types.int32,
    types.int8: types.int16,
}
"""The element of totals for each element of sums."""


@intrinsic
def write_table(table: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> tuple[Any, Codegen]:
    """write_table(table, x0, x1, x2, x3): the 16 signed sums; bit j of an index is xj's sign."""

    def gen(builder: Any, args: Any) -> None:
        zero = ir.Constant(llvm_type(x0), None)
        pairs = []  # no number is doubled, so infinity and what is near it stay right
        for a, b in (args[1:3], args[3:5]):
            both = add(builder, x0, a, b)
            neither = sub(builder, x0, zero, both)
            pairs.append((neither, sub(builder, x0, a, b), sub(builder, x0, b, a), both))
        entries = [add(builder, x0, low, high) for high in pairs[1] for low in pairs[0]]
        for index, entry in enumerate(entries):
            address = offset_by(builder, args[0], index * VECTOR_BYTES)
            builder.store(entry, at(builder, address, llvm_type(x0)), align=VECTOR_BYTES)

    return types.void(types.intp, x0, x0, x0, x0), gen


@intrinsic
def add_entries(sums: Any, tables: Any, words: Any) -> tuple[Any, Codegen]:
    """add_entries(sums, tables, words): sums[m] plus, for each of 16 groups, the entry word m
    names.

    sums: tuple of vectors. words: tuple of as many uint64. tables: address of 16 tables.
    """
    vec = sums.dtype

    def gen(builder: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        rows, table = range(sums.count), args[1]
        totals = [builder.extract_value(args[0], m) for m in rows]
        bits = [builder.extract_value(args[2], m) for m in rows]
        for group in range(WORD_GROUPS):
            if group:
                table = hidden(builder, offset_by(builder, table, TABLE_BYTES))
            for m in rows:
                shifted = builder.lshr(bits[m], ir.Constant(i64, GROUP * group))
                index = hidden(builder, builder.and_(shifted, ir.Constant(i64, 15)))
                offset = builder.mul(index, ir.Constant(i64, VECTOR_BYTES))
                entry = load_at(builder, vec, builder.add(table, offset))
                totals[m] = hidden(builder, add(builder, vec, totals[m], entry))
        return totals

    return sums(sums, types.intp, words), gen


@intrinsic
def load_row_words(sums: Any, address: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """load_row_words(sums, address, row_bytes): a uint64 of each of as many rows as sums."""

    def gen(builder: Any, args: Any) -> Any:
        address, words = args[1], []
        for _row in range(sums.count):
            words.append(builder.load(at(builder, address, ir.IntType(64)), align=8))
            address = builder.add(address, args[2])
        return words

    return types.UniTuple(types.uint64, sums.count)(sums, types.intp, types.intp), gen


@intrinsic
def load_inputs(kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """load_inputs(kind, address, index): activations as lanes of tables; int8 is widened to I16."""
    vec = kind.dtype
    element: Any = types.float32 if vec.element == types.float32 else types.int8
    stored = Vec(element, vec.lanes)

    def gen(builder: Any, args: Any) -> Any:
        size = ir.Constant(ir.IntType(64), element.bitwidth // 8)
        value = load_at(builder, stored, builder.add(args[1], builder.mul(args[2], size)))
        return value if stored == vec else builder.sext(value, llvm_type(vec))

    return vec(kind, types.intp, types.intp), gen


def totals_adder(align: int) -> Any:
    """add_to_totals(totals, sums): add each vector to the wider totals at an address, in a row.

    align: of the address, in bytes.
    """

    @intrinsic
    def add_to_totals(totals: Any, sums: Any) -> tuple[Any, Codegen]:
        vec = sums.dtype
        wide = Vec(WIDER[vec.element], vec.lanes)
        size = wide.lanes * wide.element.bitwidth // 8

        def gen(builder: Any, args: Any) -> None:
            kind = llvm_type(wide)
            for m in range(sums.count):
                value = builder.extract_value(args[1], m)
                value = value if wide == vec else builder.sext(value, kind)
                pointer = at(builder, offset_by(builder, args[0], m * size), kind)
                before = builder.load(pointer, align=align)
                builder.store(add(builder, wide, before, value), pointer, align=align)

        return types.void(types.intp, sums), gen

    return add_to_totals


add_to_totals = totals_adder(VECTOR_BYTES)


@intrinsic
def totals_as_float(kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """totals_as_float(kind, address, index): 16 totals from `index` on as F32.

    kind: of the sums that were added to them.
    """
    wide = Vec(WIDER[kind.dtype.element], LANES)

    def gen(builder: Any, args: Any) -> Any:
        size = ir.Constant(ir.IntType(64), wide.element.bitwidth // 8)
        value = load_at(builder, wide, builder.add(args[1], builder.mul(args[2], size)))
        floats = llvm_type(F32.dtype)
        return value if wide.element == types.float32 else builder.sitofp(value, floats)

    return F32.dtype(kind, types.intp, types.intp), gen


@helper
def write_word_tables(kind: Any, tables: int, x: int, offsets: int, first: int, depth: int) -> None:
    """Tables of the 16 groups of one word, whose first k is `first`."""
    for group in range(WORD_GROUPS):
        table = tables + group * TABLE_BYTES
        k = first + group * GROUP
        if k + GROUP <= depth:
            write_table(
                table,
                load_inputs(kind, x, get_i64(offsets, k)),
                load_inputs(kind, x, get_i64(offsets, k + 1)),
                load_inputs(kind, x, get_i64(offsets, k + 2)),
                load_inputs(kind, x, get_i64(offsets, k + 3)),
            )
        elif k < depth:
            x1, x2 = zero(kind), zero(kind)
            if k + 1 < depth:
                x1 = load_inputs(kind, x, get_i64(offsets, k + 1))
            if k + 2 < depth:
                x2 = load_inputs(kind, x, get_i64(offsets, k + 2))
            write_table(table, load_inputs(kind, x, get_i64(offsets, k)), x1, x2, zero(kind))
        else:
            store(table, 0, zero(kind))


@helper
def sum_rows(sums: Any, tables: int, words: int, row: int, row_bytes: int, totals: int) -> None:
    """Add `words` words of as many rows as there are zeroed sums to their totals."""
    for w in range(words):
        row_words = load_row_words(sums, row + w * 8, row_bytes)
        sums = add_entries(sums, tables + w * WORD_BYTES, row_words)
    add_to_totals(totals, sums)


@helper
def sum_block(
    kind: Any,
    max_words: int,
    f: Any,
    x: int,
    words: int,
    tables: int,
    totals: int,
    total_bytes: int,
) -> None:
    """Totals of all rows of a group over one block of positions.

    max_words: words whose tables are kept at once. x: address of the block in the group's first
    channel. totals: zeroed here, `total_bytes` a row.
    """
    for i in range(f.outputs * total_bytes // VECTOR_BYTES):
        store(totals, i * LANES, zero(F32))
    row_bytes = f.row_words * 8
    for first in range(0, f.row_words, max_words):
        count = min(max_words, f.row_words - first)
        for w in range(count):
            start = (first + w) * 64
            write_word_tables(kind, tables + w * WORD_BYTES, x, f.offsets, start, f.depth)
        n, rows = 0, words + first * 8
        while n + CHANNELS <= f.outputs:
            row, total = rows + n * row_bytes, totals + n * total_bytes
            sum_rows(zeros(kind, CHANNELS), tables, count, row, row_bytes, total)
            n += CHANNELS
        while n < f.outputs:
            row, total = rows + n * row_bytes, totals + n * total_bytes
            sum_rows(zeros(kind, 1), tables, count, row, row_bytes, total)
            n += 1


@helper
def end_row(kind: Any, f: Any, totals: int, image: int, n: int, first: int, count: int) -> None:
    """Write the outputs of channel n at `count` positions from `first` on, by whole vectors."""
    correction = splat(F32, get_f32(f.correction, n))
    if is_quantized(f):
        end, plane = quantized_end(f, image, n), out_plane(f, image, n)
        for lane in range(0, count, LANES):
            sums = totals_as_float(kind, totals, lane) + correction
            store_quantized_sums(f, end, sums, plane, first + lane)
        return
    for lane in range(0, count, LANES):
        sums = totals_as_float(kind, totals, lane) + correction
        x_scales = x_scales_at(F32, f, image, first + lane)
        write_positions(f, sums, image, n, first + lane, x_scales)


def lut_gemm(*, kind: Any, max_words: int, lanes: int, x_bytes: int, total_bytes: int) -> Any:
    """A GEMM by lookup: a helper that computes units begin..end-1.

    A unit is one block of positions of one group of one image.

    Args:
        kind: Of tables and sums.
        max_words: Words whose tables are kept at once; their sums fit the lanes.
        lanes: Positions of a block.
        x_bytes: Bytes of an input.
        total_bytes: Bytes of the totals of a row.
    """

    @helper
    def gemm(p: int, begin: int, end: int, part: int) -> None:
        f = gemm_params(p)
        tables = f.scratch + part * f.scratch_part
        totals = tables + MAX_WORDS * WORD_BYTES
        blocks = (f.positions + lanes - 1) // lanes
        for unit in range(begin, end):
            block, group = unit % blocks, unit // blocks % f.groups
            image = unit // (blocks * f.groups)
            first, channel = block * lanes, group * f.outputs
            x = f.x + (image * f.x_image + group * f.x_group + first) * x_bytes
            words = f.words + channel * f.row_words * 8
            sum_block(kind, max_words, f, x, words, tables, totals, total_bytes)
            count = min(lanes, f.positions - first)
            for n in range(f.outputs):
                end_row(kind, f, totals + n * total_bytes, image, channel + n, first, count)
                plane = out_plane(f, image, channel + n)
                fill_margins(f, plane, block == 0, block == blocks - 1)

    return gemm


f32_b1 = lut_gemm(kind=F32, max_words=2, lanes=16, x_bytes=4, total_bytes=64)
i8_b1 = lut_gemm(kind=I16, max_words=2, lanes=32, x_bytes=1, total_bytes=128)
s1_b1 = lut_gemm(kind=I8, max_words=1, lanes=64, x_bytes=1, total_bytes=128)


def f32_b1_f32_planes_lookup(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations; tables and sums in float32."""
    f32_b1(p, begin, end, part)


def i8_b1_f32_planes_lookup(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127; sums of 32 groups in int16, totals in int32: exact."""
    i8_b1(p, begin, end, part)


def s1_b1_f32_planes_lookup(p: int, begin: int, end: int, part: int) -> None:
    """Activations +-1 or 0 in int8; sums of 16 groups in int8, totals in int16: exact."""
    s1_b1(p, begin, end, part)
