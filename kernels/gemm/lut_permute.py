"""LUT GEMM inside registers, for AVX-512: output channels in the lanes, tables in two registers.

    sum[n, p] = sum_t sum_c s[n, t, c] * x[c, p + shift[t]],    s = +-1

1. For G consecutive channels at one position, the 2**G sums +-x0 +-x1 ... make one table of 128
   bytes: 32 float32 (G = 5) or 64 int16 (G = 6). It serves all taps that fall on that position, and
   all outputs.
2. The weights' bits are packed once (`lut_permute_packing.py`): a lane of an index vector holds
   table indices of one output, 6 of 5 bits (float32) or 2 of 6 bits (int16).
3. One permute looks up 16 or 32 outputs at once: 80 or 192 multiply-accumulates for a permute and
   an add.

Positions are those of the padded plane, so a tap is a shift. Channels are taken in chunks: the
tables of a chunk around 4 positions stay in L1 while all taps and outputs read them. A tile is 4
positions by 4 vectors of outputs.

8-bit activations are within +-128, so int16 sums are widened after 255 inputs: exact.
"""

from __future__ import annotations

from typing import Any

from bwn.kernels.gemm.epilogue import fill_padding, out_plane, write_outputs, x_scale_at
from bwn.kernels.gemm.gemm_params import LutPermuteParams
from bwn.kernels.gemm.lut import totals_as_float
from bwn.kernels.gemm.lut_permute_packing import (
    F32_LAYOUT,
    I8_LAYOUT,
    OUTPUT_BYTES,
    TABLE_BYTES,
    TILE,
    Layout,
)
from bwn.kernels.gemm.lut_permute_tables import (
    five_f32,
    rows_of_f32,
    rows_of_i8,
    six_i16,
    table_writer,
)
from bwn.kernels.gemm.lut_permute_tile import Chunk, chunk_summer
from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.arithmetic import fma
from bwn.kernels.simd.scalars import get_i64, reader
from bwn.kernels.simd.shuffles import transpose
from bwn.kernels.simd.stores import clamp
from bwn.kernels.simd.vectors import F32, F32_4, I16, I32, I32_4, load, splat, store, zero
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import helper

lut_permute_params = reader(LutPermuteParams)


@helper
def outputs_at(kind: Any, f: Any, total: int, n: int, image: int, position: int) -> Any:
    """16 outputs at one position, before planes are added.

    total: address of their totals. n: the first of them, counted with each group padded.
    """
    x_scale = splat(F32, x_scale_at(f, image, position))
    sums = totals_as_float(kind, total, 0) + load(F32, f.correction, n)
    y = fma(sums, load(F32, f.scale, n) * x_scale, load(F32, f.bias, n))
    return activate(f.activation, clamp(f, y, 0))


@helper
def write_blocks(
    f: Any, outputs: int, image: int, channel: int, block: int, count: int, rows: int
) -> None:
    """Write `count` blocks of neighbouring positions of `outputs` channels, and the padding after
    them.

    rows: address of 16 float32 outputs of each channel.
    """
    start, end = get_i64(f.starts, block), get_i64(f.starts, block + count)
    after = start + count * TILE
    for i in range(outputs):
        n = channel + i
        if count == 4:
            write_outputs(F32, I32, f, load(F32, rows, i * 16), image, n, start)
        else:
            for b in range(count):
                y = load(F32_4, rows, i * 16 + b * TILE)
                write_outputs(F32_4, I32_4, f, y, image, n, start + b * TILE)
        plane = out_plane(f, image, n)
        fill_padding(f, plane, f.out_lead + after, max(0, end - after))
        if block == 0:
            fill_padding(f, plane, 0, f.out_lead + start)


def band_writer(kind: Any, layout: Layout) -> Any:
    """A helper that writes outputs from totals, 16 positions at once where they are neighbours."""
    lanes = layout.lanes
    row_bytes = lanes * 4  # of the totals of one vector at one position

    @helper
    def write_band(
        f: Any, image: int, group: int, first: int, last: int, totals: int, scratch: int
    ) -> None:
        """Write outputs of blocks first..last-1."""
        vectors = (f.outputs + lanes - 1) // lanes
        transposed = scratch + OUTPUT_BYTES // 2
        for n in range(0, f.outputs, 16):
            padded = group * vectors * lanes + n
            channel, channels = group * f.outputs + n, min(16, f.outputs - n)
            block = first
            while block < last:
                start, count = get_i64(f.starts, block), 0
                while (
                    count < 4
                    and block + count < last
                    and get_i64(f.starts, block + count) == start + count * TILE
                ):
                    vector = (block + count - first) * vectors + n // lanes
                    total = totals + vector * TILE * row_bytes + n % lanes * 4
                    for p in range(TILE):
                        i = count * TILE + p
                        y = outputs_at(kind, f, total + p * row_bytes, padded, image, start + i)
                        store(scratch, i * 16, y)
                    count += 1
                transpose(transposed, scratch, VECTOR_BYTES)
                write_blocks(f, channels, image, channel, block, count, transposed)
                block += count

    return write_band


def segment_summer(kind: Any, layout: Layout, write_tables: Any) -> Any:
    """A helper that adds a segment to the totals of blocks. write_tables: by `table_writer`."""
    group_inputs, lanes, held = layout.group, layout.lanes, layout.held
    sum_chunk = chunk_summer(kind, layout)

    @helper
    def sum_segment(
        f: Any, x: int, segment: int, indices: int, origin: int, first: int, last: int, totals: int
    ) -> int:
        """Add the channels of a segment to the totals of blocks first..last-1; the next indices.

        x: address of position `origin` of the first channel.
        """
        vectors = (f.outputs + lanes - 1) // lanes
        tap_bytes = vectors * ((f.chunk + held - 1) // held * VECTOR_BYTES)
        first_tap, end_tap = get_i64(f.taps, segment), get_i64(f.taps, segment + 1)
        rows = totals + f.band * vectors * TILE * lanes * 4
        tables = rows + f.rows_bytes
        span = get_i64(f.starts, last - 1) + TILE + f.max_shift - origin
        for channel in range(0, f.channels, f.chunk * group_inputs):
            start = x + channel * f.x_plane * layout.input_bytes
            count = write_tables(f, start, f.channels - channel, span, tables, rows)
            at_zero = tables - origin * f.chunk * TABLE_BYTES
            chunk = Chunk(at_zero, count, first_tap, end_tap, indices)
            sum_chunk(f, chunk, first, last, totals)
            indices += (end_tap - first_tap) * tap_bytes
        return indices

    return sum_segment


def lut_permute_kernel(kind: Any, layout: Layout, rows_of: Any, inputs_of: Any) -> Any:
    """A GEMM by tables in registers: a helper that computes units begin..end-1.

    A unit is one band of blocks of one group of one image. kind: of the tables, F32 or I16;
    `rows_of`, `inputs_of`: see `table_writer`.
    """
    lanes = layout.lanes
    sum_segment = segment_summer(kind, layout, table_writer(kind, layout, rows_of, inputs_of))
    write_band = band_writer(kind, layout)

    @helper
    def gemm(p: int, begin: int, end: int, part: int) -> None:
        f = lut_permute_params(p)
        outputs = f.scratch + part * f.scratch_part
        totals = outputs + OUTPUT_BYTES
        bands = (f.blocks + f.band - 1) // f.band
        vectors = (f.outputs + lanes - 1) // lanes
        for unit in range(begin, end):
            band, group = unit % bands, unit // bands % f.groups
            image = unit // (bands * f.groups)
            first, last = band * f.band, min(f.blocks, (band + 1) * f.band)
            origin = get_i64(f.starts, first) + f.min_shift
            for i in range((last - first) * vectors * TILE * lanes // 16):
                store(totals, i * 16, zero(F32))
            indices = f.indices + group * f.index_group
            for segment in range(f.segments):
                offset = image * f.x_image + group * f.x_group + segment * f.x_segment + origin
                x = f.x + offset * layout.input_bytes
                indices = sum_segment(f, x, segment, indices, origin, first, last, totals)
            write_band(f, image, group, first, last, totals, outputs)

    return gemm


f32_b1 = lut_permute_kernel(F32, F32_LAYOUT, rows_of_f32, five_f32)
i8_b1 = lut_permute_kernel(I16, I8_LAYOUT, rows_of_i8, six_i16)


def f32_b1_f32_planes_permute(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations."""
    f32_b1(p, begin, end, part)


def i8_b1_f32_planes_permute(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-128: exact sums."""
    i8_b1(p, begin, end, part)
