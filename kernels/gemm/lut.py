"""Lookup-accumulate: products of one-bit weights and planes of activations, read straight from the packed words.

    sum[n, p] = sum_k s[n, k] * x[offset[k] + p],    s = +-1

1. Positions p stand in the lanes: 64 bytes of them at a time.
2. For 4 consecutive k, all 16 sums +-x0 +-x1 +-x2 +-x3 are made once: the group's table, shared by all outputs n.
3. A weight row is then a list of 4-bit table indices, and the packed words are that list: one word is 16 indices.

So one vector load and one add do 4 multiply-accumulates a lane. Range of an entry, and what it means for the lanes:

| activations | entry within | lane of the sum | groups before it must be widened |
|---|---|---|---|
| float32 | | float32 | |
| 8-bit, +-127 | +-508 | int16 | 64 |
| signs, +-1 or 0 | +-4 | int8 | 31 |

A row's unused bits are zero, so a group past the row's end is only ever asked for entry 0, which is made zero.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import clear_margins, finish, gemm_params, out_plane
from bwn.kernels.gemm.tiles import CHANNELS, GROUP, MOST_WORDS, TABLE_BYTES, WORD_BYTES, WORD_GROUPS
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.scalars import get_f32, get_i64
from bwn.kernels.simd.stores import steps_at
from bwn.kernels.simd.vectors import (
    F32,
    I8,
    I16,
    Codegen,
    Vec,
    add,
    at,
    llvm_type,
    load_at,
    splat,
    store,
    sub,
    zero,
    zeros,
)
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import helper, intrinsic

WIDER: dict[Any, Any] = {
    types.float32: types.float32,
    types.int16: types.int32,
    types.int8: types.int16,
}
"""The totals' element for each element of the sums."""


@intrinsic
def expand(_: Any, table: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> tuple[Any, Codegen]:
    """expand(table, x0, x1, x2, x3): write the 16 signed sums; bit j of an entry's number is the sign of xj."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        none = ir.Constant(llvm_type(x0), None)
        pairs = []  # no number is doubled, so infinity and what is near it stay right
        for a, b in (args[1:3], args[3:5]):
            both = add(builder, x0, a, b)
            pairs.append(
                (sub(builder, x0, none, both), sub(builder, x0, a, b), sub(builder, x0, b, a), both)
            )
        entries = [add(builder, x0, low, high) for high in pairs[1] for low in pairs[0]]
        for number, entry in enumerate(entries):
            where = builder.add(args[0], ir.Constant(ir.IntType(64), number * VECTOR_BYTES))
            builder.store(entry, at(builder, where, llvm_type(x0)), align=VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(types.intp, x0, x0, x0, x0), gen


@intrinsic
def lookup(_: Any, sums: Any, tables: Any, words: Any) -> tuple[Any, Codegen]:
    """lookup(sums, tables, words): sums[m] plus, for each of the 16 groups, the entry that word m names.

    sums: tuple of vectors, words: tuple of as many uint64. tables: address of 16 tables.
    """
    vec = sums.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        rows, table = range(sums.count), args[1]
        totals = [builder.extract_value(args[0], m) for m in rows]
        bits = [builder.extract_value(args[2], m) for m in rows]
        for group in range(WORD_GROUPS):
            if group:
                table = hidden(builder, builder.add(table, ir.Constant(i64, TABLE_BYTES)))
            for m in rows:
                number = builder.and_(
                    builder.lshr(bits[m], ir.Constant(i64, GROUP * group)), ir.Constant(i64, 15)
                )
                offset = builder.mul(hidden(builder, number), ir.Constant(i64, VECTOR_BYTES))
                entry = load_at(builder, vec, builder.add(table, offset))
                totals[m] = hidden(builder, add(builder, vec, totals[m], entry))
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, types.intp, words), gen


@intrinsic
def words_of_rows(_: Any, sums: Any, address: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """words_of_rows(sums, address, row_bytes): one uint64 of each of as many rows as there are sums."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where, words = args[1], []
        for _row in range(sums.count):
            words.append(builder.load(at(builder, where, ir.IntType(64)), align=8))
            where = builder.add(where, args[2])
        return context.make_tuple(builder, sig.return_type, words)

    return types.UniTuple(types.uint64, sums.count)(sums, types.intp, types.intp), gen


@intrinsic
def load_as(_: Any, kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """load_as(kind, address, index): activations as lanes of tables; for I16, int8 activations are widened."""
    vec = kind.dtype
    element: Any = types.float32 if vec.element == types.float32 else types.int8
    stored = Vec(element, vec.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        step = ir.Constant(ir.IntType(64), element.bitwidth // 8)
        value = load_at(builder, stored, builder.add(args[1], builder.mul(args[2], step)))
        return value if stored == vec else builder.sext(value, llvm_type(vec))

    return vec(kind, types.intp, types.intp), gen


@intrinsic
def merge(_: Any, address: Any, sums: Any) -> tuple[Any, Codegen]:
    """merge(address, sums): add each vector to the wider totals that stand there one after another."""
    vec = sums.dtype
    wide = Vec(WIDER[vec.element], vec.lanes)
    size = wide.lanes * wide.element.bitwidth // 8

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_type(wide)
        for m in range(sums.count):
            value = builder.extract_value(args[1], m)
            value = value if wide == vec else builder.sext(value, kind)
            where = at(builder, builder.add(args[0], ir.Constant(ir.IntType(64), m * size)), kind)
            builder.store(
                add(builder, wide, builder.load(where, align=VECTOR_BYTES), value),
                where,
                align=VECTOR_BYTES,
            )
        return context.get_dummy_value()

    return types.void(types.intp, sums), gen


@intrinsic
def totals_as_float(_: Any, kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """totals_as_float(kind, address, index): 16 totals from `index` on as float32; kind names the tables' lanes."""
    wide = Vec(WIDER[kind.dtype.element], LANES)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        step = ir.Constant(ir.IntType(64), wide.element.bitwidth // 8)
        value = load_at(builder, wide, builder.add(args[1], builder.mul(args[2], step)))
        floats = llvm_type(F32.dtype)
        return value if wide.element == types.float32 else builder.sitofp(value, floats)

    return F32.dtype(kind, types.intp, types.intp), gen


@helper
def build(kind: Any, tables: int, x: int, offsets: int, first: int, depth: int) -> None:
    """Tables of the 16 groups of one word, whose first k is `first`."""
    for group in range(WORD_GROUPS):
        table = tables + group * TABLE_BYTES
        k = first + group * GROUP
        if k + GROUP <= depth:
            expand(
                table,
                load_as(kind, x, get_i64(offsets, k)),
                load_as(kind, x, get_i64(offsets, k + 1)),
                load_as(kind, x, get_i64(offsets, k + 2)),
                load_as(kind, x, get_i64(offsets, k + 3)),
            )
        elif k < depth:
            x1, x2 = zero(kind), zero(kind)
            if k + 1 < depth:
                x1 = load_as(kind, x, get_i64(offsets, k + 1))
            if k + 2 < depth:
                x2 = load_as(kind, x, get_i64(offsets, k + 2))
            expand(table, load_as(kind, x, get_i64(offsets, k)), x1, x2, zero(kind))
        else:
            store(table, 0, zero(kind))


@helper
def accumulate(sums: Any, tables: int, count: int, row: int, row_bytes: int, totals: int) -> None:
    """Add the products of `count` words of as many rows as there are sums to their totals."""
    for w in range(count):
        sums = lookup(sums, tables + w * WORD_BYTES, words_of_rows(sums, row + w * 8, row_bytes))
    merge(totals, sums)


@helper
def block_totals(
    kind: Any, most: int, f: Any, x: int, words: int, tables: int, totals: int, total_bytes: int
) -> None:
    """Totals of all rows of a group over one block of positions; tables of `most` words stand at once.

    x: address of the block in the group's first channel. totals: zeroed here, `total_bytes` a row.
    """
    for i in range(f.outputs * total_bytes // VECTOR_BYTES):
        store(totals, i * LANES, zero(F32))
    row_bytes = f.row_words * 8
    for first in range(0, f.row_words, most):
        count = min(most, f.row_words - first)
        for w in range(count):
            build(kind, tables + w * WORD_BYTES, x, f.offsets, (first + w) * 64, f.depth)
        n, rows = 0, words + first * 8
        while n + CHANNELS <= f.outputs:
            none = zeros(kind, CHANNELS)
            accumulate(
                none, tables, count, rows + n * row_bytes, row_bytes, totals + n * total_bytes
            )
            n += CHANNELS
        while n < f.outputs:
            none = zeros(kind, 1)
            accumulate(
                none, tables, count, rows + n * row_bytes, row_bytes, totals + n * total_bytes
            )
            n += 1


@helper
def product(
    kind: Any,
    most: int,
    lanes: int,
    x_bytes: int,
    total_bytes: int,
    p: int,
    begin: int,
    end: int,
    part: int,
) -> None:
    """Units begin..end-1 of a product; a unit is one block of positions of one group of one image."""
    f = gemm_params(p)
    tables = f.scratch + part * f.scratch_part
    totals = tables + MOST_WORDS * WORD_BYTES
    blocks = (f.positions + lanes - 1) // lanes
    for unit in range(begin, end):
        block, group, image = unit % blocks, unit // blocks % f.groups, unit // (blocks * f.groups)
        first, channel = block * lanes, group * f.outputs
        x = f.x + (image * f.x_image + group * f.x_group + first) * x_bytes
        block_totals(
            kind, most, f, x, f.words + channel * f.row_words * 8, tables, totals, total_bytes
        )
        for n in range(f.outputs):
            for lane in range(0, min(lanes, f.positions - first), LANES):
                sums = totals_as_float(kind, totals + n * total_bytes, lane) + splat(
                    F32, get_f32(f.correction, channel + n)
                )
                finish(
                    f, sums, image, channel + n, first + lane, steps_at(F32, f, image, first + lane)
                )
            clear_margins(f, out_plane(f, image, channel + n), block == 0, block == blocks - 1)


def f32_b1_f32_planes_lookup(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations; tables and sums in float32."""
    product(F32, 2, 16, 4, 64, p, begin, end, part)


def i8_b1_f32_planes_lookup(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127; tables and sums of 32 groups in int16, totals in int32: exact."""
    product(I16, 2, 32, 1, 128, p, begin, end, part)


def s1_b1_f32_planes_lookup(p: int, begin: int, end: int, part: int) -> None:
    """Activations +-1 or 0 in int8; tables and sums of 16 groups in int8, totals in int16: exact to K = 32767."""
    product(I8, 1, 64, 1, 128, p, begin, end, part)
