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

from bwn.kernels.gemm.byte_columns import (
    bits_bytes,
    by_columns,
    columns_of,
    end_sums,
    expand_bits,
    find_rows,
    stored_bytes,
)
from bwn.kernels.gemm.f32 import load_vectors
from bwn.kernels.gemm.i8_tile import (
    SIXTEENS,
    add_products,
    add_sixteen_products,
    as_floats,
    start_sums,
)
from bwn.kernels.gemm.tiles import DOTS, DOTS_CHUNK_BYTES, DOTS_COLUMN
from bwn.kernels.simd.vectors import I32, zeros
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import helper

ROWS, VECTORS = DOTS
TILE = ROWS * VECTORS
COLUMN = DOTS_COLUMN
COLUMNS = columns_of(VECTORS, 4)
is_half, column_bytes, write_columns = COLUMNS


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
    end_sums(f, as_floats(sums, xs), xs, image, n, first, totals)


def dot_products(place_weights: Any, row_bytes: Any) -> Any:
    """A GEMM by products of bytes, see `by_columns`.

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

    return by_columns(compute_chunk, COLUMNS, VECTORS, DOTS_CHUNK_BYTES)


i8_b1 = dot_products(expand_bits, bits_bytes)
i8_i8 = dot_products(find_rows, stored_bytes)


def i8_b1_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights: exact sums."""
    i8_b1(p, begin, end, part)


def i8_i8_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations and weights within +-127: exact sums."""
    i8_i8(p, begin, end, part)
