"""Lookup-accumulate inside registers, for AVX-512: output channels stand in the lanes, tables in two registers.

    sum[n, p] = sum_t sum_c s[n, t, c] * x[c, p + shift[t]],    s = +-1

1. For G consecutive channels at one position, the 2**G sums +-x0 +-x1 ... make one table of 128 bytes: 32 float32
   (G = 5) or 64 int16 (G = 6). It serves all taps that fall on that position, and all outputs.
2. The weights' bits are laid out once (`permute_layout.prepare`): a lane of an index vector holds table indices of one
   output, 6 of 5 bits (float32) or 2 of 6 bits (int16).
3. One permute looks up 16 or 32 outputs at once: 80 or 192 multiply-accumulates for a permute and an add.

Positions are those of the padded plane, so a tap is a shift. Channels are taken in chunks: the tables of a chunk
around 4 positions stay in L1 while all taps and outputs read them. A tile is 4 positions by 4 vectors of outputs.

8-bit activations are within +-128, so int16 sums are widened after 255 inputs: exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import blank, out_plane, put, step_at
from bwn.kernels.gemm.lut import load_as, merge, totals_as_float
from bwn.kernels.gemm.lut_permute_packing import OUTPUT_BYTES, TABLE_BYTES, TILE
from bwn.kernels.params import LutPermuteParams
from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.arithmetic import fma, fma_value
from bwn.kernels.simd.scalars import get_f32, get_i16, get_i64, reader
from bwn.kernels.simd.shuffles import take_value, transpose
from bwn.kernels.simd.stores import clamp
from bwn.kernels.simd.vectors import (
    F32,
    F32_4,
    I16,
    I32,
    I32_4,
    Codegen,
    Vec,
    add,
    at,
    llvm_type,
    load,
    load_at,
    splat,
    splat_value,
    store,
    sub,
    zero,
    zeros,
)
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import helper, intrinsic

permute_fields = reader(LutPermuteParams)

I16_GROUPS = 255 // 6
"""Groups of 6 inputs within +-128 whose sum fits int16."""
ANY_GROUPS = 1 << 40


@intrinsic
def write_table(_: Any, kind: Any, table: Any, inputs: Any) -> tuple[Any, Codegen]:
    """write_table(F32, table, inputs): all signed sums; bit j of an entry's number is the sign of input j."""
    vec = kind.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        shape = llvm_type(vec)
        spread = [
            splat_value(builder, vec, builder.extract_value(args[2], j))
            for j in range(inputs.count)
        ]
        entries = ir.Constant(shape, None)
        for bit, value in enumerate(spread[:-1]):
            plus = [i >> bit & 1 for i in range(vec.lanes)]
            if vec.element == types.float32:
                signs = ir.Constant(shape, [1.0 if one else -1.0 for one in plus])
                entries = (
                    fma_value(builder, value, signs, entries) if bit else builder.fmul(value, signs)
                )
            else:
                signs = ir.Constant(ir.VectorType(ir.IntType(1), vec.lanes), plus)
                more, less = builder.add(entries, value), builder.sub(entries, value)
                entries = builder.select(signs, more, less)
        where = at(builder, args[1], shape)
        builder.store(sub(builder, vec, entries, spread[-1]), where, align=VECTOR_BYTES)
        upper = builder.add(args[1], ir.Constant(ir.IntType(64), VECTOR_BYTES))
        builder.store(
            add(builder, vec, entries, spread[-1]), at(builder, upper, shape), align=VECTOR_BYTES
        )
        return context.get_dummy_value()

    return types.void(kind, types.intp, inputs), gen


@intrinsic
def load_indices(_: Any, sums: Any, address: Any, stride: Any) -> tuple[Any, Codegen]:
    """load_indices(sums, address, stride): an index vector for each vector of outputs, `stride` bytes apart."""
    vec = sums.dtype
    index = Vec(types.int32 if vec.element == types.float32 else types.int16, vec.lanes)
    count = sums.count // TILE

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where, loaded = args[1], []
        for _vector in range(count):
            loaded.append(load_at(builder, index, where))
            where = builder.add(where, args[2])
        return context.make_tuple(builder, sig.return_type, loaded)

    return types.UniTuple(index, count)(sums, types.intp, types.intp), gen


@intrinsic
def next_indices(_: Any, indices: Any) -> tuple[Any, Codegen]:
    """next_indices(indices): the next group's table indices in the low bits."""
    index = indices.dtype
    bits = 5 if index.element == types.int32 else 6

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        by = ir.Constant(llvm_type(index), [bits] * index.lanes)
        moved = [builder.lshr(builder.extract_value(args[0], v), by) for v in range(indices.count)]
        return context.make_tuple(builder, sig.return_type, moved)

    return indices(indices), gen


@intrinsic
def look_up(_: Any, sums: Any, table: Any, stride: Any, indices: Any) -> tuple[Any, Codegen]:
    """look_up(sums, table, stride, indices): sums plus the entries that the indices' low bits name.

    sums: vectors of outputs by positions. table: address of the first position's; `stride` bytes to the next.
    """
    vec = sums.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        totals = [builder.extract_value(args[0], i) for i in range(sums.count)]
        picks = [builder.extract_value(args[3], v) for v in range(indices.count)]
        where = args[1]
        for p in range(TILE):
            low = load_at(builder, vec, where)
            high = load_at(
                builder, vec, builder.add(where, ir.Constant(ir.IntType(64), VECTOR_BYTES))
            )
            for v, pick in enumerate(picks):
                i = v * TILE + p
                totals[i] = add(
                    builder, vec, totals[i], take_value(builder, vec, [low, high], pick)
                )
            where = builder.add(where, args[2])
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, types.intp, types.intp, indices), gen


@intrinsic
def keep_rolled(_: Any) -> tuple[Any, Codegen]:
    """keep_rolled(): nothing, in a loop that LLVM must not unroll: twice a tile's registers are more than there are."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), ()), "", "", side_effect=True)
        builder.call(nothing, (), attrs=("convergent",))
        return context.get_dummy_value()

    return types.void(), gen


@helper
def rows_f32(x: int, plane: int, count: int, span: int, room: int) -> Any:
    """float32 activations stay where they are: their address, and elements from one channel to the next."""
    return x, plane


@helper
def rows_i8(x: int, plane: int, count: int, span: int, room: int) -> Any:
    """`count` channels of `span` int8 activations as int16 rows in `room`, so that one load spreads one of them."""
    step = (span + 31) // 32 * 32
    for channel in range(count):
        for i in range(0, span, 32):
            store(room, channel * step + i, load_as(I16, x + channel * plane, i))
    return room, step


@helper
def five(x: int, i: int, plane: int, count: int) -> Any:
    """The inputs of a table of float32; 0 where there are fewer."""
    none = np.float32(0.0)
    return (
        get_f32(x, i),
        get_f32(x, i + plane) if count > 1 else none,
        get_f32(x, i + 2 * plane) if count > 2 else none,
        get_f32(x, i + 3 * plane) if count > 3 else none,
        get_f32(x, i + 4 * plane) if count > 4 else none,
    )


@helper
def six(x: int, i: int, plane: int, count: int) -> Any:
    """The inputs of a table of int16; 0 where there are fewer."""
    none = np.int16(0)
    return (
        get_i16(x, i),
        get_i16(x, i + plane) if count > 1 else none,
        get_i16(x, i + 2 * plane) if count > 2 else none,
        get_i16(x, i + 3 * plane) if count > 3 else none,
        get_i16(x, i + 4 * plane) if count > 4 else none,
        get_i16(x, i + 5 * plane) if count > 5 else none,
    )


@helper
def write_tables(
    kind: Any, size: int, rows: Any, take: Any, f: Any, x: int, x_bytes: int, first: int, count: int, span: int,
    tables: int, room: int,
) -> None:  # fmt: skip
    """Tables first..first+count-1 of `span` positions. x: address of the first position in the segment's channel 0."""
    stride = f.chunk * TABLE_BYTES
    left = min(count * size, f.channels - first * size)
    source, step = rows(x + first * size * f.x_plane * x_bytes, f.x_plane, left, span, room)
    for t in range(count):
        start, table = t * size * step, tables + t * TABLE_BYTES
        if left >= size:
            for i in range(span):
                write_table(kind, table + i * stride, take(source, start + i, step, size))
        else:
            for i in range(span):
                write_table(kind, table + i * stride, take(source, start + i, step, left))
        left -= size


@helper
def tile(
    none: Any, held: int, most: int, f: Any, tables: int, count: int, begin: int, end: int, indices: int, step: int,
    totals: int,
) -> None:  # fmt: skip
    """Add taps begin..end-1 of a chunk of `count` tables to the totals of one tile.

    none: no sums, as many as the tile has. tables: of the tile's first position at shift 0. step: bytes of index
    vectors from one tap to the next. most: tables whose sums need no widening.
    """
    stride = f.chunk * TABLE_BYTES
    vector_step = (f.chunk + held - 1) // held * VECTOR_BYTES
    sums, since = none, 0
    for t in range(begin, end):
        table = tables + get_i64(f.shifts, t) * stride
        if since + count > most:
            merge(totals, sums)
            sums, since = none, 0
        word = indices
        left = count
        while left > 0:
            picks = load_indices(sums, word, vector_step)
            here = min(held, left)
            for _group in range(here):
                keep_rolled()
                sums = look_up(sums, table, stride, picks)
                picks = next_indices(picks)
                table += TABLE_BYTES
            word += VECTOR_BYTES
            left -= held
        since += count
        indices += step
    merge(totals, sums)


@helper
def chunk_totals(
    kind: Any, lanes: int, held: int, most: int, f: Any, tables: int, count: int, begin: int, end: int,
    indices: int, first: int, last: int, totals: int,
) -> None:  # fmt: skip
    """Add one chunk to the totals of blocks first..last-1. tables: those of position 0."""
    vectors, total_bytes = (f.outputs + lanes - 1) // lanes, TILE * lanes * 4
    stride = f.chunk * TABLE_BYTES
    vector_step = (f.chunk + held - 1) // held * VECTOR_BYTES
    step = vectors * vector_step
    for block in range(first, last):
        table = tables + get_i64(f.starts, block) * stride
        total = totals + (block - first) * vectors * total_bytes
        v = 0
        v = tiles(
            zeros(kind, 16),
            v,
            vectors,
            lanes,
            held,
            most,
            f,
            table,
            count,
            begin,
            end,
            indices,
            step,
            total,
        )
        v = tiles(
            zeros(kind, 8),
            v,
            vectors,
            lanes,
            held,
            most,
            f,
            table,
            count,
            begin,
            end,
            indices,
            step,
            total,
        )
        v = tiles(
            zeros(kind, 4),
            v,
            vectors,
            lanes,
            held,
            most,
            f,
            table,
            count,
            begin,
            end,
            indices,
            step,
            total,
        )


@helper
def tiles(
    none: Any, v: int, vectors: int, lanes: int, held: int, most: int, f: Any, table: int, count: int, begin: int,
    end: int, indices: int, step: int, total: int,
) -> int:  # fmt: skip
    """Tiles as wide as there are no sums, from vector v of outputs on; the first vector that they leave."""
    wide, vector_step = len(none) // TILE, (f.chunk + held - 1) // held * VECTOR_BYTES
    while v + wide <= vectors:
        at_vector = total + v * TILE * lanes * 4
        tile(
            none,
            held,
            most,
            f,
            table,
            count,
            begin,
            end,
            indices + v * vector_step,
            step,
            at_vector,
        )
        v += wide
    return v


@helper
def outputs_at(kind: Any, f: Any, total: int, n: int, image: int, position: int) -> Any:
    """16 outputs at one position. total: address of their totals. n: the first of them among the padded outputs."""
    step = step_at(f, image, position)
    sums = totals_as_float(kind, total, 0) + load(F32, f.correction, n)
    y = fma(sums, load(F32, f.scale, n) * splat(F32, step), load(F32, f.bias, n))
    return activate(f.activation, clamp(f, y, 0))


@helper
def write_outputs(
    kind: Any,
    lanes: int,
    f: Any,
    image: int,
    group: int,
    first: int,
    last: int,
    totals: int,
    room: int,
) -> None:
    """Outputs of blocks first..last-1 from their totals, 16 positions at once where they are neighbours."""
    vectors = (f.outputs + lanes - 1) // lanes
    row, turned = (
        lanes * 4,
        room + OUTPUT_BYTES // 2,
    )  # row: bytes of the totals of one vector at one position
    for n in range(0, f.outputs, 16):
        padded = group * vectors * lanes + n
        block = first
        while block < last:
            start, count = get_i64(f.starts, block), 0
            while (
                count < 4
                and block + count < last
                and get_i64(f.starts, block + count) == start + count * TILE
            ):
                total = (
                    totals
                    + ((block + count - first) * vectors + n // lanes) * TILE * row
                    + n % lanes * 4
                )
                for p in range(TILE):
                    i = count * TILE + p
                    store(
                        room, i * 16, outputs_at(kind, f, total + p * row, padded, image, start + i)
                    )
                count += 1
            transpose(turned, room, VECTOR_BYTES)
            end = get_i64(f.starts, block + count)
            for i in range(min(16, f.outputs - n)):
                channel = group * f.outputs + n + i
                if count == 4:
                    put(F32, I32, f, load(F32, turned, i * 16), image, channel, start)
                else:
                    for b in range(count):
                        y = load(F32_4, turned, i * 16 + b * TILE)
                        put(F32_4, I32_4, f, y, image, channel, start + b * TILE)
                plane = out_plane(f, image, channel)
                blank(
                    f, plane, f.out_lead + start + count * TILE, max(0, end - start - count * TILE)
                )
                if block == 0:
                    blank(f, plane, 0, f.out_lead + start)
            block += count


@helper
def product(
    kind: Any, size: int, lanes: int, held: int, most: int, rows: Any, take: Any, x_bytes: int,
    p: int, begin: int, end: int, part: int,
) -> None:  # fmt: skip
    """Units begin..end-1; a unit is one band of blocks of one group of one image."""
    f = permute_fields(p)
    outputs = f.scratch + part * f.scratch_part
    totals = outputs + OUTPUT_BYTES
    bands = (f.blocks + f.band - 1) // f.band
    vectors = (f.outputs + lanes - 1) // lanes
    vector_step = (f.chunk + held - 1) // held * VECTOR_BYTES
    stride = f.chunk * TABLE_BYTES
    room = totals + f.band * vectors * TILE * lanes * 4
    tables = room + f.rows_bytes
    for unit in range(begin, end):
        band, group, image = unit % bands, unit // bands % f.groups, unit // (bands * f.groups)
        first, last = band * f.band, min(f.blocks, (band + 1) * f.band)
        origin = get_i64(f.starts, first) + f.min_shift
        span = get_i64(f.starts, last - 1) + TILE + f.max_shift - origin
        for i in range((last - first) * vectors * TILE * lanes // 16):
            store(totals, i * 16, zero(F32))
        indices = f.indices + group * f.index_group
        for segment in range(f.segments):
            tap, tap_end = get_i64(f.taps, segment), get_i64(f.taps, segment + 1)
            x = (
                f.x
                + (image * f.x_image + group * f.x_group + segment * f.x_segment + origin) * x_bytes
            )
            for table in range(0, (f.channels + size - 1) // size, f.chunk):
                count = min(f.chunk, (f.channels + size - 1) // size - table)
                write_tables(
                    kind, size, rows, take, f, x, x_bytes, table, count, span, tables, room
                )
                at_zero = tables - origin * stride
                chunk_totals(
                    kind, lanes, held, most, f, at_zero, count, tap, tap_end, indices, first, last, totals
                )  # fmt: skip
                indices += (tap_end - tap) * vectors * vector_step
        write_outputs(kind, lanes, f, image, group, first, last, totals, outputs)


def f32_b1_f32_planes_permute(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations."""
    product(F32, 5, 16, 6, ANY_GROUPS, rows_f32, five, 4, p, begin, end, part)


def i8_b1_f32_planes_permute(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-128: exact sums."""
    product(I16, 6, 32, 2, I16_GROUPS, rows_i8, six, 1, p, begin, end, part)
