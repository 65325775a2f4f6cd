"""GEMM of 8-bit activations by products of bytes, with one-bit or int8 weights.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p],    w = +-1, or an integer within +-127

`byte_products.py` adds four products to each int32 lane, by one instruction where there is one.

1. Positions are in the lanes, and a lane takes 4 consecutive k: the inputs of a column of positions
   are interleaved once, for `vpdpbusd` as x + 128, which is unsigned.
2. The bits of a tile of output channels become bytes +-1 once for all columns of a chunk; int8
   weights are read where they are (`byte_rows.py`).
3. Sums start at the zero-point correction; for `vpdpbusd` also at -128 times the sum of a row's
   weights, and so end as the sums of x: exact.

With one bit a weight, `vpdpbusd` does 64 multiply-accumulates an instruction (32 of AVX-VNNI, 16 of
`sdot`), a lookup more; but no table is made. That pays where few outputs or shallow products would
share one.
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
)
from bwn.kernels.gemm.epilogue_tile import write_tile
from bwn.kernels.gemm.f32 import load_vectors, store_vectors
from bwn.kernels.gemm.i8_tile import (
    MIDDLE,
    SIXTEENS,
    add_products,
    add_sixteen_products,
    as_floats,
    load_unsigned,
    start_sums,
    write_quad,
)
from bwn.kernels.gemm.tiles import DOTS, DOTS_CHUNK_BYTES, DOTS_COLUMN
from bwn.kernels.simd.bit_lanes import signed
from bwn.kernels.simd.scalars import get_f32, get_i32, get_i64, get_u64, popcount, put_i32
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
def bits_bytes(f: Any) -> int:
    """Bytes from one row of expanded bits to the next: an odd number of lines, see `byte_row`."""
    return (f.row_words | 1) * 64


@helper
def expand_bits(f: Any, n: int, rows: int, weights: int, starts: int) -> int:
    """Write bytes +-1 of the bits of rows from n on to `weights`, and what their sums start at.

    Returns the address of the bytes.
    """
    for row in range(rows):
        word, target = f.words + (n + row) * f.row_words * 8, weights + row * bits_bytes(f)
        ones = np.int64(0)
        for w in range(f.row_words):
            bits = get_u64(word, w)
            store(target, w * 64, signed(splat(I8, np.int8(1)), bits))
            ones += np.int64(popcount(bits))
        correction = np.int64(get_f32(f.correction, n + row))
        put_i32(starts, row, np.int32(correction - MIDDLE * (2 * ones - f.depth)))
    return weights


@helper
def stored_bytes(f: Any) -> int:
    """Bytes from one row of int8 weights to the next."""
    return f.row_words


@helper
def find_rows(f: Any, n: int, rows: int, weights: int, starts: int) -> int:
    """Write what the sums of rows of int8 weights from n on start at. Returns their address."""
    first = f.words + n * f.row_words
    for row in range(rows):
        total = get_i32(first, ((row + 1) * f.row_words - 4) // 4)
        put_i32(starts, row, get_i32(f.correction, n + row) - np.int32(MIDDLE) * total)
    return first


@helper
def is_half(f: Any, column: int) -> bool:
    """Whether a column has no more positions than one vector."""
    return VECTORS == 2 and f.positions - column * COLUMN <= LANES


@helper
def column_bytes(f: Any) -> int:
    """Bytes of the interleaved inputs of a column."""
    return (f.depth + 3) // 4 * 4 * COLUMN


@helper
def write_columns(f: Any, x: int, begin: int, end: int, target: int) -> None:
    """Interleave the inputs of columns begin..end-1. x: address of position 0 of channel 0."""
    for column in range(begin, end):
        if is_half(f, column) or VECTORS == 1:
            write_inputs(I8_16, LANES, f, x + column * COLUMN, target)
        else:
            write_inputs(I8_HALF, 2 * LANES, f, x + column * COLUMN, target)
        target += column_bytes(f)


@helper
def compute_tile(
    f: Any, sums: Any, xs: Any, x: int, weights: int, stride: int, starts: int, image: int, n: int,
    first: int, totals: int,
) -> None:  # fmt: skip
    """Outputs of channels n on at len(xs) vectors of positions from `first` on.

    sums, xs: zeros, of as many channels and vectors. x: address of the inputs. weights, starts: of
    channel n. stride: bytes from one row of weights to the next. totals: address for the sums.
    """
    vectors = len(xs)
    sums, sixteens = start_sums(sums, xs, starts), f.depth // 16 if SIXTEENS else 0
    for _sixteen in range(sixteens):
        sums = add_sixteen_products(sums, xs, x, weights, stride)
        x += 4 * VECTOR_BYTES
        weights += 16
    for _quad in range((f.depth + 3) // 4 - 4 * sixteens):
        xs = load_vectors(xs, x)
        sums = add_products(sums, xs, weights, stride)
        x += vectors * VECTOR_BYTES
        weights += 4
    outputs = as_floats(sums, xs)
    stop = min(first + vectors * LANES, f.positions)
    if is_plain(f) and stop > first + (vectors - 1) * LANES:
        write_tile(f, outputs, xs, image, n, first)
        return
    store_vectors(totals, outputs)
    for row in range(len(sums) // vectors):
        write_row(f, totals + row * vectors * VECTOR_BYTES, image, n + row, first, stop)


def dot_products(place_weights: Any, row_bytes: Any) -> Any:
    """A GEMM by products of bytes: a helper that computes units begin..end-1.

    A unit is a column of positions of a group of an image.

    Args:
        place_weights: (f, n, rows, room, starts) to the address of the weights of rows n on.
        row_bytes: (f,) to the bytes from one row of them to the next.
    """

    @helper
    def compute_rows(
        f: Any, tile: Any, half: Any, inputs: int, room: int, image: int, n: int, begin: int,
        end: int, totals: int,
    ) -> None:  # fmt: skip
        """Outputs of as many channels from n on as `half` has, at columns begin..end-1.

        tile, half: zeroed sums of these channels, of a column's vectors and of one. inputs: of
        column `begin`. room: for weights. n: counted over all groups.
        """
        starts, stride = totals + TILE * VECTOR_BYTES, row_bytes(f)
        weights = place_weights(f, n, len(half), room, starts)
        for column in range(begin, end):
            first = column * COLUMN
            if is_half(f, column):
                xs = zeros(I32, 1)
                compute_tile(f, half, xs, inputs, weights, stride, starts, image, n, first, totals)
            else:
                all_xs = zeros(I32, VECTORS)
                compute_tile(
                    f, tile, all_xs, inputs, weights, stride, starts, image, n, first, totals
                )
            inputs += column_bytes(f)

    @helper
    def compute_chunk(f: Any, image: int, group: int, begin: int, end: int, scratch: int) -> None:
        """All outputs of a group of an image at columns begin..end-1."""
        room = scratch + (TILE + 1) * VECTOR_BYTES  # after the sums of a tile, and their starts
        inputs = room + ROWS * row_bytes(f)
        write_columns(f, f.x + image * f.x_image + group * f.x_group, begin, end, inputs)
        channel, n = group * f.outputs, 0
        while n < f.outputs:
            if f.outputs >= ROWS:
                n = min(n, f.outputs - ROWS)  # the last tile may overlap the one before
                tile, half = zeros(I32, TILE), zeros(I32, ROWS)
                compute_rows(f, tile, half, inputs, room, image, channel + n, begin, end, scratch)
                n += ROWS
            else:
                tile, half = zeros(I32, VECTORS), zeros(I32, 1)
                compute_rows(f, tile, half, inputs, room, image, channel + n, begin, end, scratch)
                n += 1
        columns = (f.positions + COLUMN - 1) // COLUMN
        for n in range(f.outputs if begin == 0 or end == columns else 0):
            fill_margins(f, out_plane(f, image, channel + n), begin == 0, end == columns)

    @helper
    def gemm(p: int, begin: int, end: int, part: int) -> None:
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

    return gemm


i8_b1 = dot_products(expand_bits, bits_bytes)
i8_i8 = dot_products(find_rows, stored_bytes)


def i8_b1_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights: exact sums."""
    i8_b1(p, begin, end, part)


def i8_i8_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations and weights within +-127: exact sums."""
    i8_i8(p, begin, end, part)
