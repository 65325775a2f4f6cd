"""LUT GEMM whose tables serve all taps of a window, for NEON.

    sum[n, y, x] = sum_t sum_c s[n, t, c] * x[c, y + dy[t], x + dx[t]],    s = +-1

1. A tile is 4 or 8 blocks of outputs, one in each lane of a register: 4 x 2 or 7 x 1 outputs of
   neighboring blocks, which may lie in different rows or images. So output (i, j) of all blocks is
   a register, and the input that a tap adds to it is one too: no load is unaligned.
2. For 6 consecutive channels, all 64 sums +-x0 ... +-x5 are computed once for every input position
   around a block. An entry holds that sum for all of these positions, column by column. It serves
   all taps: tap (dy, dx) reads registers from `dx * rows + dy` on, at immediate offsets.
3. The weights' bits are packed once (`lut_window_packing.py`): a word holds the table indices of
   all taps of one output for 6 channels.

One lookup of 8 registers, 14 instructions, does 192 multiply-accumulates of float32 or 384 of int16
lanes. The table of a group of channels takes 24 to 27 KiB and stays in L1; the sums of all outputs
stream through it.

8-bit activations are within +-127, so int16 sums are widened after 43 lookups: exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bwn.kernels.gemm.epilogue import (
    end_in_bytes,
    fill_padding,
    is_plain,
    is_quantized,
    out_plane,
    quantized_end,
    write_one,
    write_outputs,
    x_scale_at,
)
from bwn.kernels.gemm.gemm_params import LutWindowParams
from bwn.kernels.gemm.lut_window_packing import (
    F32_TALL,
    F32_WIDE,
    I8_TALL,
    I8_WIDE,
    RECTANGLES,
    RUN_FIELDS,
    Tile,
)
from bwn.kernels.gemm.lut_window_sums import rectangle_summer, row_writer, widener
from bwn.kernels.gemm.lut_window_tables import load_addresses, table_writer
from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.arithmetic import fma, maximum, minimum
from bwn.kernels.simd.scalars import get_f32, get_i64, put_f32, put_i64, reader
from bwn.kernels.simd.stores import clamp, x_scales_at
from bwn.kernels.simd.vectors import (
    F32,
    F32_4,
    F32_HALF,
    I16_8,
    I32,
    I32_4,
    I32_HALF,
    like,
    load,
    splat,
    store,
)
from bwn.kernels.target.jit import helper

lut_window_params = reader(LutWindowParams)
FLOATS = {4: (F32_4, I32_4), 8: (F32_HALF, I32_HALF), 16: (F32, I32)}
"""Vectors of outputs, and of their mask."""


def block_placer(tile: Tile, input_bytes: int) -> Any:
    """A helper that finds where the blocks of a tile lie."""
    lanes, rows, columns = tile.lanes, tile.rows, tile.columns

    @helper
    def place_blocks(f: Any, number: int, x: int, addresses: int, runs: int) -> int:
        """Write the address of the first input of each lane, and the runs of outputs in a row of
        blocks; how many runs. number: of the tile. x: address of the group's first channel.
        """
        across = (f.width + columns - 1) // columns
        blocks = (f.height + rows - 1) // rows * across
        count, last_row = 0, -1
        for lane in range(lanes):
            block = min(number * lanes + lane, f.images * blocks - 1)
            image, row, column = block // blocks, block // across, block % across
            top, left = row % (blocks // across) * rows, column * columns
            offset = image * f.x_image + top * f.x_row + left
            put_i64(addresses, lane, x + offset * input_bytes)
            if number * lanes + lane < f.images * blocks:
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
                    count, last_row = count + 1, row
        return count

    return place_blocks


@helper
def end_outputs(
    kind: Any, mask_kind: Any, f: Any, sums: int, image: int, n: int, position: int
) -> None:
    """Write as many neighboring outputs of channel n as `kind` has lanes, from their sums."""
    x_scale = x_scales_at(kind, f, image, position)
    scale = like(x_scale, get_f32(f.scale, n)) * x_scale
    y = fma(load(kind, sums, 0), scale, like(x_scale, get_f32(f.bias, n)))
    y = activate(f.activation, clamp(f, y, 0))
    write_outputs(kind, mask_kind, f, y, image, n, position)


class PlainEnd(NamedTuple):
    """What ends the sums of a channel in one image, where `is_plain` is."""

    scale: Any
    bias: Any
    low: Any
    high: Any


@helper
def end_plainly(kind: Any, sums: int, out: int, end: Any) -> None:
    """As `end_outputs`, to an address, where scale, bias and bounds are all."""
    y = fma(load(kind, sums, 0), splat(kind, end.scale), splat(kind, end.bias))
    y = minimum(maximum(y, splat(kind, end.low)), splat(kind, end.high))
    store(out, 0, y)


def run_ender(tile: Tile) -> Any:
    """A helper that writes the outputs of a channel from the rows of their sums."""
    whole = tile.row_outputs
    kind, mask_kind = FLOATS[whole]
    row_bytes = whole * 4

    @helper
    def end_run_plainly(f: Any, rows: int, run: int, n: int, bounds: Any) -> None:
        low, high = bounds
        image, length = get_i64(run, 0), get_i64(run, 3)
        scale = get_f32(f.scale, n) * get_f32(f.x_scales, image)
        end = PlainEnd(scale, get_f32(f.bias, n), low, high)
        out = out_plane(f, image, n) + (f.out_lead + get_i64(run, 1)) * 4
        sums = rows + get_i64(run, 2) * 4
        for _row in range(get_i64(run, 4)):
            if length == whole:
                end_plainly(kind, sums, out, end)
            else:
                for i in range(0, length - 3, 4):
                    end_plainly(F32_4, sums + i * 4, out + i * 4, end)
                if length & 3 and length > 4:  # some of the last four once more
                    end_plainly(F32_4, sums + (length - 4) * 4, out + (length - 4) * 4, end)
                elif length < 4:
                    for i in range(length):
                        y = fma(get_f32(sums, i), end.scale, end.bias)
                        put_f32(out, i, minimum(maximum(y, low), high))
            sums += row_bytes
            out += f.out_row * 4

    @helper
    def end_run(f: Any, rows: int, run: int, n: int) -> None:
        image, position = get_i64(run, 0), get_i64(run, 1)
        sums, length = rows + get_i64(run, 2) * 4, get_i64(run, 3)
        for _row in range(get_i64(run, 4)):
            if length == whole:
                end_outputs(kind, mask_kind, f, sums, image, n, position)
            elif length >= 4:
                for i in range(0, length, 4):
                    start = min(i, length - 4)  # the last four may overlap those before
                    end_outputs(F32_4, I32_4, f, sums + start * 4, image, n, position + start)
            else:
                for i in range(length):
                    x_scale = x_scale_at(f, image, position + i)
                    write_one(f, get_f32(sums, i), image, n, position + i, x_scale)
            sums += row_bytes
            position += f.out_row

    @helper
    def end_run_in_bytes(f: Any, rows: int, run: int, n: int) -> None:
        image, position, length = get_i64(run, 0), get_i64(run, 1), get_i64(run, 3)
        end, out = quantized_end(f, image, n), out_plane(f, image, n) + f.out_lead + position
        sums = rows + get_i64(run, 2) * 4
        for _row in range(get_i64(run, 4)):
            if length == whole:
                store(out, 0, end_in_bytes(kind, load(kind, sums, 0), end))
            elif length >= 4:
                for i in range(0, length, 4):
                    start = min(i, length - 4)  # the last four may overlap those before
                    octets = end_in_bytes(F32_4, load(F32_4, sums, start), end)
                    store(out + start, 0, octets)
            else:
                for i in range(length):
                    write_one(
                        f, get_f32(sums, i), image, n, position + i, get_f32(f.x_scales, image)
                    )
            sums += row_bytes
            out += f.out_row
            position += f.out_row

    @helper
    def end_channel(f: Any, rows: int, runs: int, count: int, n: int, bounds: Any) -> None:
        """runs: address of so many. bounds: of the outputs."""
        for run in range(runs, runs + count * (RUN_FIELDS * 8), RUN_FIELDS * 8):
            if is_quantized(f):
                end_run_in_bytes(f, rows, run, n)
            elif is_plain(f):
                end_run_plainly(f, rows, run, n, bounds)
            else:
                end_run(f, rows, run, n)

    return end_channel


@helper
def fill_around(f: Any, image: int, n: int) -> None:
    """Fill the padding of an output plane: before, between and after its rows."""
    plane, slack = out_plane(f, image, n), f.out_row - f.width
    fill_padding(f, plane, 0, f.out_lead)
    for row in range(f.height):
        fill_padding(f, plane, f.out_lead + row * f.out_row + f.width, slack)
    end = f.out_lead + f.height * f.out_row
    fill_padding(f, plane, end, f.out_plane - end)


def channel_summer(kind: Any, tile: Tile, input_bytes: int) -> Any:
    """A helper that sums all channels of a tile."""
    group, safe, most = tile.group, tile.safe_lookups, RECTANGLES[0][0] * RECTANGLES[0][1]
    rows_before, columns_before = tile.rows - 1, tile.columns - 1
    write_table = table_writer(kind, tile, input_bytes)
    sum_nine, sum_four, sum_down, sum_across, sum_one = (
        rectangle_summer(kind, tile, *size) for size in RECTANGLES
    )
    widen = widener(kind, tile)

    @helper
    def sum_channels(
        f: Any, words: int, count: int, addresses: int, inputs: int, table: int, totals: int,
        wide: int,
    ) -> None:  # fmt: skip
        """words: of the first output. count: outputs."""
        lanes = load_addresses(kind, addresses)
        pend, first, widened = 0, True, 2
        for rectangle in range(f.rectangles):
            fields = f.taps + rectangle * 24
            rows, columns = get_i64(fields, 0), get_i64(fields, 1)
            for channel in range(0, f.channels, group):
                offset = (get_i64(fields, 2) + channel * f.x_plane) * input_bytes
                left = min(group, f.channels - channel)
                write_table(
                    f, lanes, offset, left, rows + rows_before, columns + columns_before,
                    inputs, table,
                )  # fmt: skip
                pend += rows * columns
                last = rectangle == f.rectangles - 1 and channel + group >= f.channels
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


def lut_window_gemm(kind: Any, tile: Tile, input_bytes: int) -> Any:
    """A GEMM by tables shared by taps: a helper that computes units begin..end-1.

    A unit is one tile and a share of the outputs of one group.
    """
    sum_channels = channel_summer(kind, tile, input_bytes)
    place_blocks = block_placer(tile, input_bytes)
    end_channel, write_rows = run_ender(tile), row_writer(kind, tile)
    lanes, rows, columns = tile.lanes, tile.rows, tile.columns
    inputs_at = lanes * 8 * (1 + RUN_FIELDS)
    rows_at = inputs_at + tile.group * tile.channel_bytes
    table_at, totals_at = rows_at + rows * tile.row_outputs * 4, tile.small_bytes
    sum_bytes, wide_bytes = tile.registers * 16, tile.registers * lanes * tile.wide_bytes

    @helper
    def gemm(p: int, begin: int, end: int, part: int) -> None:
        f = lut_window_params(p)
        addresses = f.scratch + part * f.scratch_part
        runs, inputs, row_sums = addresses + lanes * 8, addresses + inputs_at, addresses + rows_at
        table, totals = addresses + table_at, addresses + totals_at
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
            run_count = place_blocks(f, number, x, addresses, runs)
            words = f.words + group * f.words_group + start * 8
            sum_channels(f, words, count, addresses, inputs, table, totals, wide)
            # The padding of an image belongs to whoever has its first block.
            first_image = (number * lanes + blocks - 1) // blocks
            end_image = min(f.images, ((number + 1) * lanes + blocks - 1) // blocks)
            ended, each = (wide, wide_bytes) if wide_bytes else (totals, sum_bytes)
            for i in range(count):
                n = group * f.outputs + start + i
                write_rows(kind, row_sums, ended + i * each, get_f32(f.correction, n))
                end_channel(f, row_sums, runs, run_count, n, bounds)
                for image in range(first_image, end_image):
                    fill_around(f, image, n)

    return gemm


f32_wide = lut_window_gemm(F32_4, F32_WIDE, 4)
f32_tall = lut_window_gemm(F32_4, F32_TALL, 4)
i8_wide = lut_window_gemm(I16_8, I8_WIDE, 1)
i8_tall = lut_window_gemm(I16_8, I8_TALL, 1)


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
