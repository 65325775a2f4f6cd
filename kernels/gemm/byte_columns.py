"""What products of bytes share: columns of interleaved inputs, rows of weights, the end of sums.

A column is some positions of a plane, a lane each, with the inputs of four consecutive k next to
each other in its lane.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bwn.kernels.gemm.epilogue import fill_margins, gemm_params, is_plain, out_plane, write_row
from bwn.kernels.gemm.epilogue_tile import write_tile
from bwn.kernels.gemm.f32 import store_vectors
from bwn.kernels.gemm.i8_tile import MIDDLE, load_unsigned, write_quad
from bwn.kernels.simd.bit_lanes import signed
from bwn.kernels.simd.scalars import get_f32, get_i32, get_i64, get_u64, popcount, put_i32
from bwn.kernels.simd.vectors import I8, I8_16, I8_HALF, splat, store, zero
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import helper


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


class Columns(NamedTuple):
    """Helpers of columns of one shape.

    Attributes:
        is_half: (f, column) to whether a column has no more positions than one vector.
        bytes: (f) to the bytes of the inputs of a column.
        write: (f, x, begin, end, target): interleaves the inputs of columns begin..end-1. x:
            address of position 0 of channel 0.
    """

    is_half: Any
    bytes: Any
    write: Any


def columns_of(vectors: int, step: int) -> Columns:
    """Columns of one or two vectors of positions; zeros fill up K to a multiple of `step`."""
    size = vectors * LANES

    @helper
    def is_half(f: Any, column: int) -> bool:
        return vectors == 2 and f.positions - column * size <= LANES

    @helper
    def padded(depth: int) -> int:
        return (depth + step - 1) // step * step

    @helper
    def column_bytes(f: Any) -> int:
        return padded(f.depth) * size

    @helper
    def write(f: Any, x: int, begin: int, end: int, target: int) -> None:
        for column in range(begin, end):
            positions = LANES if is_half(f, column) else size
            if positions == LANES:
                write_inputs(I8_16, LANES, f, x + column * size, target)
            else:
                write_inputs(I8_HALF, 2 * LANES, f, x + column * size, target)
            written = (f.depth + 3) // 4 * 4 * positions
            for place in range(written, padded(f.depth) * positions, VECTOR_BYTES):
                store(target, place, zero(I8))
            target += column_bytes(f)

    return Columns(is_half, column_bytes, write)


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
def end_sums(f: Any, sums: Any, xs: Any, image: int, n: int, first: int, totals: int) -> None:
    """Outputs of channels n on at len(xs) vectors of positions from `first` on.

    sums: float32, channel by channel. totals: an address with room for them.
    """
    vectors = len(xs)
    stop = min(first + vectors * LANES, f.positions)
    if is_plain(f) and stop > first + (vectors - 1) * LANES:
        write_tile(f, sums, xs, image, n, first)
        return
    store_vectors(totals, sums)
    for row in range(len(sums) // vectors):
        write_row(f, totals + row * vectors * VECTOR_BYTES, image, n + row, first, stop)


def by_columns(compute_chunk: Any, columns: Columns, vectors: int, chunk_bytes: int) -> Any:
    """A GEMM by chunks of columns: a helper that computes units begin..end-1.

    A unit is a column of positions of a group of an image.

    Args:
        compute_chunk: (f, image, group, begin, end, scratch): computes all outputs of a group of
            an image at columns begin..end-1.
        columns: Of its inputs.
        vectors: Of positions of a column.
        chunk_bytes: Of the inputs of a chunk, which has one column at least.
    """
    size, column_bytes = vectors * LANES, columns.bytes

    @helper
    def gemm(p: int, begin: int, end: int, part: int) -> None:
        f = gemm_params(p)
        scratch = f.scratch + part * f.scratch_part
        count = (f.positions + size - 1) // size
        chunk = max(chunk_bytes // column_bytes(f), 1)
        unit = begin
        while unit < end:
            column, group = unit % count, unit // count % f.groups
            image = unit // (count * f.groups)
            unit -= column
            stop = min(count, end - unit)  # as far as this group of this image goes
            unit += stop
            while column < stop:
                after = min(column + chunk, stop)
                compute_chunk(f, image, group, column, after, scratch)
                for n in range(f.outputs if column == 0 or after == count else 0):
                    plane = out_plane(f, image, group * f.outputs + n)
                    fill_margins(f, plane, column == 0, after == count)
                column = after

    return gemm
