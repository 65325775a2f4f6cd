"""GEMM of 8-bit activations by AMX's tiles, with one-bit or int8 weights.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p],    w = +-1, or an integer within +-127

`tdpbsud` does 16,384 multiply-accumulates in 16 cycles, eight times as many as `vpdpbusd` of 512
bits does on the same core (Intel, Optimization Reference Manual, chapter 20). A step is 64 k of 32
output channels at 32 positions: four products of two tiles of weights by two of inputs.

1. Inputs are interleaved as for `i8.py`: 16 rows of a column are a tile. K is filled up with zeros.
2. Bits become bytes +-1 in scratch, 32 channels at a time, once for all columns of a chunk.
3. Sums leave by memory, where the zero-point correction is added: exact.

Fewer than 32 channels go 16 at a time; where a group has fewer than 16, tiles have as few rows.
"""

from __future__ import annotations

from typing import Any

from bwn.kernels.gemm.amx_tile import (
    add_step,
    clear_sums,
    configure,
    release,
    store_sums,
    stored_floats,
)
from bwn.kernels.gemm.byte_columns import (
    bits_bytes,
    by_columns,
    columns_of,
    end_sums,
    expand_bits,
    find_rows,
    stored_bytes,
)
from bwn.kernels.gemm.epilogue import gemm_params
from bwn.kernels.gemm.tiles import (
    AMX_BLOCKS,
    AMX_CHUNK_BYTES,
    AMX_COLUMN,
    AMX_ROWS,
    AMX_STEP,
    AMX_VECTORS,
)
from bwn.kernels.simd.vectors import I32, zeros
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import helper

COLUMNS = columns_of(AMX_VECTORS, AMX_STEP)
is_half, column_bytes, write_columns = COLUMNS
TILE = AMX_BLOCKS * AMX_ROWS * AMX_VECTORS
"""Vectors of the sums of a step."""
ENDED = 8
"""Channels whose sums end together, in registers."""


@helper
def end_rows(
    f: Any, rows: Any, xs: Any, totals: int, starts: int, image: int, n: int, first: int
) -> None:
    """Outputs of channels n on, as many as `rows`, from the sums in memory at `totals`."""
    sums = stored_floats(rows, xs, totals, starts)
    end_sums(f, sums, xs, image, n, first, totals)


@helper
def compute_tile(
    f: Any, blocks: Any, xs: Any, x: int, weights: int, stride: int, totals: int, image: int,
    n: int, first: int,
) -> None:  # fmt: skip
    """Outputs of len(blocks) blocks of channels from n on at len(xs) vectors of positions.

    blocks, xs: zeros, a vector each. x: address of the inputs. weights: of channel n. stride: bytes
    from one row of them to the next. totals: address for the sums; after them what they start at.
    """
    clear_sums(blocks, xs)
    for step in range((f.depth + AMX_STEP - 1) // AMX_STEP):
        inputs = x + step * (AMX_STEP // 4 * len(xs) * VECTOR_BYTES)
        add_step(blocks, xs, inputs, weights + step * AMX_STEP, stride)
    store_sums(blocks, xs, totals)
    starts, line = totals + TILE * VECTOR_BYTES, len(xs) * VECTOR_BYTES
    if f.outputs < AMX_ROWS:
        for row in range(f.outputs):
            one, place = zeros(I32, 1), totals + row * line
            end_rows(f, one, xs, place, starts + row * 4, image, n + row, first)
        return
    for row in range(0, len(blocks) * AMX_ROWS, ENDED):
        some, place = zeros(I32, ENDED), totals + row * line
        end_rows(f, some, xs, place, starts + row * 4, image, n + row, first)


def tiles(place_weights: Any, row_bytes: Any) -> Any:
    """A GEMM by tiles, see `by_columns`.

    Args:
        place_weights: (f, n, rows, room, starts) to the address of the weights of rows n on.
        row_bytes: (f,) to the bytes from one row of them to the next.
    """

    @helper
    def compute_rows(
        f: Any, blocks: Any, inputs: int, room: int, image: int, n: int, begin: int, end: int,
        totals: int,
    ) -> None:  # fmt: skip
        """Outputs of len(blocks) blocks of channels from n on at columns begin..end-1.

        inputs: of column `begin`. room: for weights. n: counted over all groups.
        """
        stride, rows = row_bytes(f), min(f.outputs, len(blocks) * AMX_ROWS)
        weights = place_weights(f, n, rows, room, totals + TILE * VECTOR_BYTES)
        for column in range(begin, end):
            first = column * AMX_COLUMN
            if is_half(f, column):
                one = zeros(I32, 1)
                compute_tile(f, blocks, one, inputs, weights, stride, totals, image, n, first)
            else:
                all_xs = zeros(I32, AMX_VECTORS)
                compute_tile(f, blocks, all_xs, inputs, weights, stride, totals, image, n, first)
            inputs += column_bytes(f)

    @helper
    def compute_chunk(f: Any, image: int, group: int, begin: int, end: int, scratch: int) -> None:
        """All outputs of a group of an image at columns begin..end-1."""
        room = scratch + (TILE + 2) * VECTOR_BYTES  # after the sums of a step, and their starts
        inputs = room + AMX_BLOCKS * AMX_ROWS * row_bytes(f)
        write_columns(f, f.x + image * f.x_image + group * f.x_group, begin, end, inputs)
        channel, n = group * f.outputs, 0
        while n < f.outputs:
            if f.outputs >= AMX_BLOCKS * AMX_ROWS:
                n = min(n, f.outputs - AMX_BLOCKS * AMX_ROWS)  # the last may overlap
                both = zeros(I32, AMX_BLOCKS)
                compute_rows(f, both, inputs, room, image, channel + n, begin, end, scratch)
                n += AMX_BLOCKS * AMX_ROWS
            else:
                n = max(min(n, f.outputs - AMX_ROWS), 0)
                one = zeros(I32, 1)
                compute_rows(f, one, inputs, room, image, channel + n, begin, end, scratch)
                n += AMX_ROWS

    gemm = by_columns(compute_chunk, COLUMNS, AMX_VECTORS, AMX_CHUNK_BYTES)

    @helper
    def with_tiles(p: int, begin: int, end: int, part: int) -> None:
        f = gemm_params(p)
        configure(f.scratch + part * f.scratch_part, min(f.outputs, AMX_ROWS))
        gemm(p, begin, end, part)
        release()

    return with_tiles


i8_b1 = tiles(expand_bits, bits_bytes)
i8_i8 = tiles(find_rows, stored_bytes)


def i8_b1_f32_planes_tiles(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights: exact sums."""
    i8_b1(p, begin, end, part)


def i8_i8_f32_planes_tiles(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations and weights within +-127: exact sums."""
    i8_i8(p, begin, end, part)
