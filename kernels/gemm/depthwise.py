"""Convolutions of few inputs an output, as depthwise ones are.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p]

Positions are in the lanes. What `f32.py` does once for a tile of channels, loading inputs and
ending sums, happens here for every output, so sums go from registers to the output. One-bit weights
are packed as float32 +-1, and sums taken in the order of `f32.py`.

With a stride, positions are those of the output, and a row of them reads every stride-th input of a
row: input k of position p of row y lies at offset[k] + y * x_row + p * x_step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import (
    fill_margins,
    gemm_params,
    is_plain,
    out_plane,
    write_positions,
    write_tile,
)
from bwn.kernels.gemm.f32 import store_vectors, sum_rows
from bwn.kernels.gemm.gemm_params import StridedParams
from bwn.kernels.gemm.tiles import DEPTHWISE_CHUNK
from bwn.kernels.simd.arithmetic import fma, fma_value
from bwn.kernels.simd.scalars import get_f32, get_i64, reader
from bwn.kernels.simd.shuffles import load_apart, load_second
from bwn.kernels.simd.stores import x_scales_at
from bwn.kernels.simd.vectors import (
    F32,
    load,
    load_at,
    offset_by,
    splat,
    splat_at,
    store,
    zero,
    zeros,
)
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, helper, intrinsic

strided_params = reader(StridedParams)


@helper
def write_totals(f: Any, totals: int, image: int, n: int, first: int, stop: int) -> None:
    """Write outputs first..stop-1 of channel n from their sums at `totals`, by whole vectors."""
    position = first
    while position < stop:
        sums = load(F32, totals, position - first)
        write_positions(f, sums, image, n, position, x_scales_at(F32, f, image, position))
        position += LANES


@helper
def sum_positions(
    f: Any, sums: Any, x: int, row: int, totals: int, image: int, n: int, p: int
) -> None:
    """Sums of as many vectors of positions as there are zeroed sums, from position p on.

    x: address of what position 0 reads. totals: where they go; 0 to write outputs.
    """
    sums = sum_rows(f, sums, sums, x + p * 4, row)
    if totals == 0:
        write_tile(f, sums, sums, image, n, p)
    else:
        store_vectors(totals, sums)


@helper
def sum_range(f: Any, x: int, row: int, totals: int, image: int, n: int, p: int, stop: int) -> None:
    """Sums of positions p..stop-1 of channel n, by whole vectors. totals: as `sum_positions`."""
    step = VECTOR_BYTES if totals else 0
    while p + 3 * LANES < stop:
        sum_positions(f, zeros(F32, 4), x, row, totals, image, n, p)
        p, totals = p + 4 * LANES, totals + 4 * step
    if p + LANES < stop:
        sum_positions(f, zeros(F32, 2), x, row, totals, image, n, p)
        p, totals = p + 2 * LANES, totals + 2 * step
    if p < stop:
        sum_positions(f, zeros(F32, 1), x, row, totals, image, n, p)


@helper
def compute_channel(
    f: Any, row: int, image: int, group: int, n: int, first: int, stop: int, totals: int
) -> None:
    """Outputs first..stop-1 of channel n; stop is a multiple of LANES. row: address of weights."""
    x = f.x + (image * f.x_image + group * f.x_group) * 4
    if is_plain(f):
        sum_range(f, x, row, 0, image, n, first, stop)
    else:
        for start in range(first, stop, DEPTHWISE_CHUNK):
            end = min(start + DEPTHWISE_CHUNK, stop)
            sum_range(f, x, row, totals, image, n, start, end)
            write_totals(f, totals, image, n, start, end)
    fill_margins(f, out_plane(f, image, n), first == 0, stop >= f.positions)


@helper
def compute_units(p: int, begin: int, end: int, part: int) -> None:
    """Units begin..end-1, each a block of 16 positions of a group of an image."""
    f = gemm_params(p)
    totals = f.scratch + part * f.scratch_part
    blocks = (f.positions + LANES - 1) // LANES
    block, group, image = begin % blocks, begin // blocks % f.groups, begin // (blocks * f.groups)
    unit = begin
    while unit < end:
        stop = min(blocks, block + end - unit)  # as far as this group of this image goes
        for n in range(group * f.outputs, (group + 1) * f.outputs):
            row = f.words + n * f.row_words * 4
            compute_channel(f, row, image, group, n, block * LANES, stop * LANES, totals)
        unit += stop - block
        block, group = 0, group + 1
        if group == f.groups:
            group, image = 0, image + 1


def f32_f32_f32_planes_depthwise(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights."""
    compute_units(p, begin, end, part)


def f32_b1_f32_planes_depthwise(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights, which are packed as float32 +-1."""
    compute_units(p, begin, end, part)


@helper
def load_stride_1(f: Any, address: int) -> Any:
    """Neighbors."""
    return load(F32, address, 0)


@helper
def load_stride_2(f: Any, address: int) -> Any:
    """Every second element."""
    return load_second(F32, address, 0)


@helper
def load_stride(f: Any, address: int) -> Any:
    """Elements x_step apart, one by one."""
    return load_apart(F32, address, f.x_step * 4)


@helper
def sum_strided(take: Any, f: Any, x: int, row: int, totals: int) -> None:
    """Sums of all outputs of a channel, to `totals`. take: loads a vector by its stride."""
    for y in range(f.height):
        for column in range(0, f.width, LANES):
            start = x + (y * f.x_row + column * f.x_step) * 4
            sums = zero(F32)
            for k in range(f.depth):
                weight = splat(F32, get_f32(row, k))
                sums = fma(take(f, start + get_i64(f.offsets, k) * 4), weight, sums)
            store(totals, y * f.out_row + column, sums)


@intrinsic
def add_taps(sums: Any, address: Any, weights: Any, taps: Any) -> tuple[Any, Codegen] | None:
    """add_taps(sums, address, weights, 3): sums plus a row of neighboring taps, with stride 2.

    address: of what the first output reads by the first tap; 48 float32 are read.
    """
    if not isinstance(taps, types.IntegerLiteral):
        return None

    def gen(builder: Any, args: Any) -> Any:
        total = args[0]
        parts = [
            load_at(builder, sums, offset_by(builder, args[1], i * VECTOR_BYTES)) for i in range(3)
        ]
        rows = []
        for first in (0, 1):
            here = pick(builder, parts[0], parts[1], range(first, 2 * LANES, 2))
            next_half = [*range(first, LANES, 2)]
            rows.append((here, pick(builder, parts[2], parts[2], next_half * 2)))
        for tap in range(taps.literal_value):
            x = pick(builder, *rows[tap % 2], range(tap // 2, tap // 2 + LANES))
            weight = splat_at(builder, sums, offset_by(builder, args[2], 4 * tap))
            total = fma_value(builder, x, weight, total)
        return total

    return sums(sums, types.intp, types.intp, taps), gen


def pick(builder: Any, low: Any, high: Any, lanes: Sequence[int]) -> Any:
    """LLVM value of these lanes of two vectors in a row."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(low, high, order)


@helper
def sum_neighbors(taps: int, f: Any, x: int, row: int, totals: int) -> None:
    """As `sum_strided` with stride 2, where rows of the window are `taps` neighbors."""
    for y in range(f.height):
        for column in range(0, f.width, LANES):
            start = x + (y * f.x_row + column * 2) * 4
            sums = zero(F32)
            for k in range(0, f.depth, taps):
                sums = add_taps(sums, start + get_i64(f.offsets, k) * 4, row + k * 4, taps)
            store(totals, y * f.out_row + column, sums)


def f32_f32_f32_planes_strided(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights, with a stride. A unit is a channel of an image."""
    f = strided_params(p)
    totals, channels = f.scratch + part * f.scratch_part, f.groups * f.outputs
    for unit in range(begin, end):
        image, n = unit // channels, unit % channels
        x = f.x + (image * f.x_image + n // f.outputs * f.x_group) * 4
        row = f.words + n * f.row_words * 4
        if f.x_step == 1:
            sum_strided(load_stride_1, f, x, row, totals)
        elif f.x_step == 2 and f.neighbors == 3:
            sum_neighbors(3, f, x, row, totals)
        elif f.x_step == 2 and f.neighbors == 5:
            sum_neighbors(5, f, x, row, totals)
        elif f.x_step == 2:
            sum_strided(load_stride_2, f, x, row, totals)
        else:
            sum_strided(load_stride, f, x, row, totals)
        if is_plain(f):
            for position in range(0, f.positions, LANES):
                sums = (load(F32, totals, position),)
                write_tile(f, sums, sums, image, n, position)
        else:
            write_totals(f, totals, image, n, 0, f.positions)
        fill_margins(f, out_plane(f, image, n), True, True)
