"""LUT GEMM whose tables serve all taps of a window, for NEON and AVX2.

    sum[n, y, x] = sum_t sum_c s[n, t, c] * x[c, y + dy[t], x + dx[t]],    s = +-1

1. A tile is a block of outputs for each lane of a register: 2 x 2 to 8 x 2 outputs of
   neighboring blocks, which may lie in different rows or images. So output (i, j) of all blocks is
   a register, and the input that a tap adds to it is one too: no load is unaligned.
2. For 6 consecutive channels, on AVX2 for 5, all 64 or 32 sums +-x0 ... +-x5 are computed once for
   every input position around a block. An entry holds that sum for all of these positions, column
   by column. It serves all taps: tap (dy, dx) reads registers from `dx * rows + dy` on, on AVX2
   at immediate offsets, on NEON by loads of up to four registers that move the address on. Where
   there is one tap, free columns hold the sums of the next channels.
3. The weights' bits are packed once (`lut_window_packing.py`): a word holds the table indices of
   all taps of one output for these channels.

| | lanes of float32, of int16 | channels | table | one lookup of 8 registers |
|---|---|---|---|---|
| NEON | 4, 8 | 6 | 24 to 27 KiB | 192 or 384 multiply-accumulates, 12 instructions |
| NEON, L1 of 64 KiB | 4, 8 | 6 | 36 or 40 KiB | 16 registers: 384 or 768, 22 instructions |
| AVX2 | 8, 16 | 5 | 16 to 27 KiB | 320 or 640 multiply-accumulates, 12 instructions |

The table stays in L1; the sums of all outputs stream through it. 8-bit activations are within
+-127, so int16 sums are widened after 43 lookups (51): exact.
"""

from __future__ import annotations

from typing import Any

from bwn.kernels.gemm.gemm_params import LutWindowParams
from bwn.kernels.gemm.lut_window_ends import fill_around, run_ender
from bwn.kernels.gemm.lut_window_packing import (
    F32_7X2,
    F32_8X2,
    F32_SQUARE,
    F32_TALL,
    F32_WIDE,
    I8_7X2,
    I8_8X2,
    I8_SQUARE,
    I8_TALL,
    I8_WIDE,
    RECTANGLES,
    REGISTER,
    RUN_FIELDS,
    Tile,
)
from bwn.kernels.gemm.lut_window_sums import rectangle_summer, sums_writer, widener
from bwn.kernels.gemm.lut_window_tables import table_writer
from bwn.kernels.simd.scalars import get_f32, get_i64, put_i64, reader
from bwn.kernels.simd.vectors import F32_4, F32_HALF, I16_8, I16_16
from bwn.kernels.target.jit import helper

lut_window_params = reader(LutWindowParams)
FLOATS, SHORTS = (F32_4, I16_8) if REGISTER == 16 else (F32_HALF, I16_16)
"""Registers of sums."""


def block_placer(tile: Tile) -> Any:
    """A helper that finds where the blocks of a tile lie."""
    lanes, rows, columns, input_bytes = tile.lanes, tile.rows, tile.columns, tile.input_bytes

    @helper
    def place_blocks(f: Any, number: int, x: int, runs: int) -> int:
        """Write the runs of neighboring blocks of a tile; how many. number: of the tile. x: address
        of the group's first channel.
        """
        across = (f.width + columns - 1) // columns
        blocks = (f.height + rows - 1) // rows * across
        count, last_row = 0, -1
        for lane in range(min(lanes, f.images * blocks - number * lanes)):
            block = number * lanes + lane
            image, row, column = block // blocks, block // across, block % across
            top, left = row % (blocks // across) * rows, column * columns
            length = min(columns, f.width - left)
            if row == last_row:
                run = runs + (count - 1) * (RUN_FIELDS * 8)
                put_i64(run, 3, get_i64(run, 3) + length)
            else:
                run = runs + count * (RUN_FIELDS * 8)
                put_i64(run, 0, image)
                put_i64(run, 1, top * f.out_row + left)
                put_i64(run, 2, lane * columns)
                put_i64(run, 3, length)
                put_i64(run, 4, min(rows, f.height - top))
                put_i64(run, 5, x + (image * f.x_image + top * f.x_row + left) * input_bytes)
                count, last_row = count + 1, row
        return count

    return place_blocks


def channel_summer(kind: Any, tile: Tile) -> Any:
    """A helper that sums all channels of a tile."""
    group, safe, most = tile.group, tile.safe_lookups, RECTANGLES[0][0] * RECTANGLES[0][1]
    rows_before, columns_before, single = tile.rows - 1, tile.columns - 1, tile.single
    write_table, table_at, input_bytes = table_writer(kind, tile), tile.table_at, tile.input_bytes
    sum_nine, sum_four, sum_down, sum_across, sum_one = (
        rectangle_summer(kind, tile, *size) for size in RECTANGLES
    )
    widen = widener(kind, tile)

    @helper
    def sum_channels(
        f: Any, words: int, count: int, scratch: int, runs: int, totals: int, wide: int
    ) -> None:
        """words: of the first output. count: outputs. runs: how many."""
        table = scratch + table_at
        pend, first, widened = 0, True, 2
        for rectangle in range(f.rectangles):
            fields = f.taps + rectangle * 24
            rows, columns = get_i64(fields, 0), get_i64(fields, 1)
            groups = single if rows * columns == 1 else 1
            step = group * groups
            for channel in range(0, f.channels, step):
                offset = (get_i64(fields, 2) + channel * f.x_plane) * input_bytes
                left = min(step, f.channels - channel)
                write_table(
                    f, scratch, runs, offset, left, groups, rows + rows_before,
                    columns + columns_before,
                )  # fmt: skip
                pend += rows * columns * groups
                last = rectangle == f.rectangles - 1 and channel + step >= f.channels
                widens = widened if last or pend + most > safe else 0
                if rows * columns == 9:
                    sum_nine(table, words, count, totals, wide, first, widens)
                elif rows * columns == 4:
                    sum_four(table, words, count, totals, wide, first, widens)
                elif rows == 2:
                    sum_down(table, words, count, totals, wide, first, widens)
                elif columns == 2:
                    sum_across(table, words, count, totals, wide, first, widens)
                else:
                    sum_one(table, words, count, totals, wide, first, widens)
                words += f.outputs * 8
                if first and last:
                    widen(count, totals, wide, widens >> 1)
                first = widens > 0
                if first:
                    pend, widened = 0, 1

    return sum_channels


def lut_window_gemm(kind: Any, tile: Tile) -> Any:
    """A GEMM by tables shared by taps: a helper that computes units begin..end-1.

    A unit is one tile and a share of the outputs of one group.
    """
    sum_channels, place_blocks = channel_summer(kind, tile), block_placer(tile)
    end_channel, write_sums = run_ender(tile), sums_writer(kind, tile)
    lanes, rows, columns = tile.lanes, tile.rows, tile.columns
    rows_at, totals_at, input_bytes = tile.rows_at, tile.totals_at, tile.input_bytes
    sum_bytes, wide_bytes = tile.registers * REGISTER, tile.registers * lanes * tile.wide_bytes

    @helper
    def gemm(p: int, begin: int, end: int, part: int) -> None:
        f = lut_window_params(p)
        scratch = f.scratch + part * f.scratch_part  # begins with the runs
        row_sums, totals = scratch + rows_at, scratch + totals_at
        blocks = (f.height + rows - 1) // rows * ((f.width + columns - 1) // columns)
        tiles = (f.images * blocks + lanes - 1) // lanes
        most = (f.outputs + f.shares - 1) // f.shares
        wide = totals + most * sum_bytes
        bounds = get_f32(f.bounds, 0), get_f32(f.bounds, 1)
        for unit in range(begin, end):
            share, number = unit % f.shares, unit // f.shares % tiles
            group = unit // (f.shares * tiles)
            start = min(share * most, f.outputs)
            count = min(most, f.outputs - start)
            x = f.x + group * f.x_group * input_bytes
            runs = place_blocks(f, number, x, scratch)
            words = f.words + group * f.words_group + start * 8
            sum_channels(f, words, count, scratch, runs, totals, wide)
            # The padding of an image belongs to whoever has its first block.
            first_image = (number * lanes + blocks - 1) // blocks
            end_image = min(f.images, ((number + 1) * lanes + blocks - 1) // blocks)
            ended, each = (wide, wide_bytes) if wide_bytes else (totals, sum_bytes)
            for i in range(count):
                n = group * f.outputs + start + i
                write_sums(kind, row_sums, ended + i * each, get_f32(f.correction, n))
                end_channel(f, row_sums, scratch, runs, n, bounds)
                for image in range(first_image, end_image):
                    fill_around(f, image, n)

    return gemm


f32_wide, f32_tall, f32_square, f32_7x2, f32_8x2 = (
    lut_window_gemm(FLOATS, tile) for tile in (F32_WIDE, F32_TALL, F32_SQUARE, F32_7X2, F32_8X2)
)
i8_wide, i8_tall, i8_square, i8_7x2, i8_8x2 = (
    lut_window_gemm(SHORTS, tile) for tile in (I8_WIDE, I8_TALL, I8_SQUARE, I8_7X2, I8_8X2)
)


def f32_b1_f32_planes_wide(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, blocks of 4 x 2 outputs."""
    f32_wide(p, begin, end, part)


def f32_b1_f32_planes_tall(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, blocks of 7 x 1 outputs."""
    f32_tall(p, begin, end, part)


def i8_b1_f32_planes_wide(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, blocks of 4 x 2 outputs: exact sums."""
    i8_wide(p, begin, end, part)


def i8_b1_f32_planes_tall(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, blocks of 7 x 1 outputs: exact sums."""
    i8_tall(p, begin, end, part)


def f32_b1_f32_planes_square(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, blocks of 2 x 2 outputs."""
    f32_square(p, begin, end, part)


def i8_b1_f32_planes_square(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, blocks of 2 x 2 outputs: exact sums."""
    i8_square(p, begin, end, part)


def f32_b1_f32_planes_7x2(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, blocks of 7 x 2 outputs."""
    f32_7x2(p, begin, end, part)


def i8_b1_f32_planes_7x2(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, blocks of 7 x 2 outputs: exact sums."""
    i8_7x2(p, begin, end, part)


def f32_b1_f32_planes_8x2(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, blocks of 8 x 2 outputs."""
    f32_8x2(p, begin, end, part)


def i8_b1_f32_planes_8x2(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, blocks of 8 x 2 outputs: exact sums."""
    i8_8x2(p, begin, end, part)
