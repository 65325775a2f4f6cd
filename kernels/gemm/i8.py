"""GEMM of 8-bit activations by dot products of bytes, for AVX-512 VNNI and AVX-VNNI.

    sum[n, p] = sum_k s[n, k] * x[offset[k] + p],    s = +-1

`vpdpbusd` adds 4 products of unsigned by signed bytes to each int32 lane; it does not saturate.

1. Positions are in the lanes, and a lane takes 4 consecutive k: the inputs of a column of positions
   are interleaved once, as x + 128, which is unsigned.
2. The bits of a tile of output channels become bytes +-1 once for all columns of a chunk.
3. Sums start at -128 times the sum of a row's weights, and so end as the sums of x: exact.

An instruction does 64 multiply-accumulates (32 of AVX-VNNI), a lookup more; but no table is made.
That pays where few outputs or shallow products would share one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.gemm.epilogue import (
    fill_margins,
    gemm_params,
    is_plain,
    out_plane,
    write_row,
    write_tile,
)
from bwn.kernels.gemm.f32 import load_vectors, store_vectors
from bwn.kernels.gemm.i8_tile import (
    MIDDLE,
    add_products,
    as_floats,
    load_unsigned,
    start_sums,
    write_quad,
)
from bwn.kernels.gemm.tiles import DOTS, DOTS_CHUNK_BYTES, DOTS_COLUMN
from bwn.kernels.simd.bit_lanes import signed
from bwn.kernels.simd.scalars import get_i64, get_u64, popcount, put_i32
from bwn.kernels.simd.vectors import I8, I8_16, I8_HALF, I32, splat, store, zero, zeros
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import helper

ROWS, VECTORS = DOTS
TILE = ROWS * VECTORS
COLUMN = DOTS_COLUMN


@helper
def write_inputs(kind: Any, positions: int, f: Any, x: int, target: int) -> None:
    """Interleave the inputs of some positions by fours.

    kind: I8_16 or I8_HALF, a lane a position. x: address of the first in channel 0.
    """
    whole = f.depth // 4 * 4
    for k in range(0, whole, 4):
        write_quad(
            target + k * positions,
            load_unsigned(kind, x + get_i64(f.offsets, k)),
            load_unsigned(kind, x + get_i64(f.offsets, k + 1)),
            load_unsigned(kind, x + get_i64(f.offsets, k + 2)),
            load_unsigned(kind, x + get_i64(f.offsets, k + 3)),
        )
    if whole < f.depth:  # what is missing is 0, whatever its weight
        x1, x2 = zero(kind), zero(kind)
        if whole + 1 < f.depth:
            x1 = load_unsigned(kind, x + get_i64(f.offsets, whole + 1))
        if whole + 2 < f.depth:
            x2 = load_unsigned(kind, x + get_i64(f.offsets, whole + 2))
        x0 = load_unsigned(kind, x + get_i64(f.offsets, whole))
        write_quad(target + whole * positions, x0, x1, x2, zero(kind))


@helper
def write_weights(f: Any, words: int, rows: int, weights: int, starts: int) -> None:
    """Bytes +-1 of some rows' bits, and what their sums start at."""
    for row in range(rows):
        word, target = words + row * f.row_words * 8, weights + row * row_bytes(f)
        ones = np.int64(0)
        for w in range(f.row_words):
            bits = get_u64(word, w)
            store(target, w * 64, signed(splat(I8, np.int8(1)), bits))
            ones += np.int64(popcount(bits))
        put_i32(starts, row, np.int32(-MIDDLE * (2 * ones - f.depth)))


@helper
def row_bytes(f: Any) -> int:
    """Bytes from one row of expanded weights to the next: an odd number of lines.

    Rows of 4096 bytes would all lie in one set of the cache.
    """
    return (f.row_words | 1) * 64


@helper
def is_half(f: Any, column: int) -> bool:
    """Whether a column has no more positions than one vector."""
    return VECTORS == 2 and f.positions - column * COLUMN <= LANES


@helper
def column_bytes(f: Any) -> int:
    """Bytes of the interleaved inputs of a column."""
    return (f.depth + 3) // 4 * 4 * COLUMN


@helper
def compute_tile(
    f: Any, sums: Any, xs: Any, x: int, weights: int, starts: int, image: int, n: int, first: int,
    totals: int,
) -> None:  # fmt: skip
    """Outputs of channels n on at len(xs) vectors of positions from `first` on.

    sums, xs: zeros, of as many channels and vectors. x: address of the inputs. weights, starts: of
    channel n. totals: address for the sums.
    """
    vectors, stride = len(xs), row_bytes(f)
    sums = start_sums(sums, xs, starts)
    for _quad in range((f.depth + 3) // 4):
        xs = load_vectors(xs, x)
        sums = add_products(sums, xs, weights, stride)
        x += vectors * VECTOR_BYTES
        weights += 4
    outputs = as_floats(sums, xs, f.correction + n * 4)
    stop = min(first + vectors * LANES, f.positions)
    if is_plain(f) and stop > first + (vectors - 1) * LANES:
        write_tile(f, outputs, xs, image, n, first)
        return
    store_vectors(totals, outputs)
    for row in range(len(sums) // vectors):
        write_row(f, totals + row * vectors * VECTOR_BYTES, image, n + row, first, stop)


@helper
def compute_rows(
    f: Any, tile: Any, half: Any, inputs: int, weights: int, image: int, n: int, begin: int,
    end: int, totals: int,
) -> None:  # fmt: skip
    """Outputs of as many channels from n on as `half` has, at columns begin..end-1.

    tile, half: zeroed sums of these channels, of a column's vectors and of one. inputs: of column
    `begin`. n: counted over all groups.
    """
    starts = totals + TILE * VECTOR_BYTES
    write_weights(f, f.words + n * f.row_words * 8, len(half), weights, starts)
    for column in range(begin, end):
        first = column * COLUMN
        if is_half(f, column):
            xs = zeros(I32, 1)
            compute_tile(f, half, xs, inputs, weights, starts, image, n, first, totals)
        else:
            all_xs = zeros(I32, VECTORS)
            compute_tile(f, tile, all_xs, inputs, weights, starts, image, n, first, totals)
        inputs += column_bytes(f)


@helper
def compute_chunk(f: Any, image: int, group: int, begin: int, end: int, scratch: int) -> None:
    """All outputs of a group of an image at columns begin..end-1."""
    weights = scratch + (TILE + 1) * VECTOR_BYTES  # after the sums of a tile, and their starts
    inputs = weights + ROWS * row_bytes(f)
    x = f.x + image * f.x_image + group * f.x_group
    for column in range(begin, end):
        target = inputs + (column - begin) * column_bytes(f)
        if is_half(f, column) or VECTORS == 1:
            write_inputs(I8_16, LANES, f, x + column * COLUMN, target)
        else:
            write_inputs(I8_HALF, 2 * LANES, f, x + column * COLUMN, target)
    channel, n = group * f.outputs, 0
    while n < f.outputs:
        if f.outputs >= ROWS:
            n = min(n, f.outputs - ROWS)  # the last tile may overlap the one before
            tile, half = zeros(I32, TILE), zeros(I32, ROWS)
            compute_rows(f, tile, half, inputs, weights, image, channel + n, begin, end, scratch)
            n += ROWS
        else:
            tile, half = zeros(I32, VECTORS), zeros(I32, 1)
            compute_rows(f, tile, half, inputs, weights, image, channel + n, begin, end, scratch)
            n += 1
    columns = (f.positions + COLUMN - 1) // COLUMN
    for n in range(f.outputs if begin == 0 or end == columns else 0):
        fill_margins(f, out_plane(f, image, channel + n), begin == 0, end == columns)


@helper
def dots(p: int, begin: int, end: int, part: int) -> None:
    """Units begin..end-1, each a column of positions of a group of an image."""
    f = gemm_params(p)
    scratch = f.scratch + part * f.scratch_part
    columns = (f.positions + COLUMN - 1) // COLUMN
    chunk = max(DOTS_CHUNK_BYTES // column_bytes(f), 1)
    unit = begin
    while unit < end:
        column, group = unit % columns, unit // columns % f.groups
        image = unit // (columns * f.groups)
        unit -= column
        stop = min(columns, end - unit)  # as far as this group of this image goes
        unit += stop
        while column < stop:
            after = min(column + chunk, stop)
            compute_chunk(f, image, group, column, after, scratch)
            column = after


def i8_b1_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights: exact sums."""
    dots(p, begin, end, part)
