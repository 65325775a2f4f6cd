"""Convolutions of few inputs an output, as depthwise ones are.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p]

Positions are in the lanes. What `f32.py` does once for a tile of channels, loading inputs and
ending sums, happens here for every output, so sums go from registers to the output. One-bit weights
are packed as float32 +-1, and sums taken in the order of `f32.py`.

With a stride, positions are those of the output, and a row of them reads every stride-th input of a
row: input k of position p of row y lies at offset[k] + y * x_row + p * x_step.
Planes of one or two vectors are summed several channels at a time: a sum alone would wait for each
of its products.
"""

from __future__ import annotations

from typing import Any

from numba import types

from bwn.kernels.gemm.epilogue import (
    fill_margins,
    gemm_params,
    is_plain,
    out_plane,
    write_row,
)
from bwn.kernels.gemm.epilogue_tile import write_tile
from bwn.kernels.gemm.f32 import store_vectors, sum_rows
from bwn.kernels.gemm.gemm_params import StridedParams
from bwn.kernels.gemm.tiles import DEPTHWISE_CHUNK
from bwn.kernels.simd.arithmetic import add_product, add_product_value
from bwn.kernels.simd.scalars import get_f32, get_i64, reader
from bwn.kernels.simd.shuffles import load_apart, load_second
from bwn.kernels.simd.vectors import (
    F32,
    lanes_of,
    load,
    load_at,
    offset_by,
    pick,
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
            write_row(f, totals, image, n, start, end)
    fill_margins(f, out_plane(f, image, n), first == 0, stop >= f.positions)


@intrinsic
def add_products(
    sums: Any, xs: Any, x: Any, x_bytes: Any, weights: Any, row_bytes: Any
) -> tuple[Any, Codegen]:
    """add_products(sums, xs, x, x_bytes, weights, row_bytes): sums plus x times their weights.

    sums: a tuple of channels times len(xs) vectors. x, weights: addresses of the first channel's.
    """
    vec, count = sums.dtype, xs.count

    def gen(builder: Any, args: Any) -> Any:
        before, _, x, x_bytes, weights, row_bytes = args
        totals: list[Any] = []
        for _channel in range(sums.count // count):
            weight = splat_at(builder, vec, weights)
            for v in range(count):
                values = load_at(builder, vec, offset_by(builder, x, v * VECTOR_BYTES))
                total = builder.extract_value(before, len(totals))
                totals.append(add_product_value(builder, values, weight, total))
            x, weights = builder.add(x, x_bytes), builder.add(weights, row_bytes)
        return totals

    return sums(sums, xs, *[types.intp] * 4), gen


@helper
def compute_planes(f: Any, sums: Any, xs: Any, image: int, n: int, totals: int) -> None:
    """Whole planes of len(xs) vectors of channels n on, each alone in its group.

    sums: zeroed, as many as channels times len(xs).
    """
    x = f.x + (image * f.x_image + n * f.x_group) * 4
    row = f.words + n * f.row_words * 4
    for k in range(f.depth):
        at = x + get_i64(f.offsets, k) * 4
        sums = add_products(sums, xs, at, f.x_group * 4, row + k * 4, f.row_words * 4)
    if is_plain(f):
        write_tile(f, sums, xs, image, n, 0)
    else:
        store_vectors(totals, sums)
    for channel in range(len(sums) // len(xs)):
        if not is_plain(f):
            start = totals + channel * len(xs) * VECTOR_BYTES
            write_row(f, start, image, n + channel, 0, f.positions)
        fill_margins(f, out_plane(f, image, n + channel), True, True)


@helper
def compute_units(p: int, begin: int, end: int, part: int) -> None:
    """Units begin..end-1, each a block of 16 positions of a group of an image."""
    f = gemm_params(p)
    totals = f.scratch + part * f.scratch_part
    blocks = (f.positions + LANES - 1) // LANES
    block, group, image = begin % blocks, begin // blocks % f.groups, begin // (blocks * f.groups)
    unit = begin
    while unit < end:
        several = block == 0 and f.outputs == 1
        planes = min(f.groups - group, (end - unit) // blocks)
        if several and blocks == 1 and planes >= 4:
            compute_planes(f, zeros(F32, 4), zeros(F32, 1), image, group, totals)
            unit, group = unit + 4, group + 4
        elif several and blocks == 2 and planes >= 2:
            compute_planes(f, zeros(F32, 4), zeros(F32, 2), image, group, totals)
            unit, group = unit + 4, group + 2
        else:
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
                sums = add_product(take(f, start + get_i64(f.offsets, k) * 4), weight, sums)
            store(totals, y * f.out_row + column, sums)


@intrinsic
def second_neighbors(xs: Any, address: Any) -> tuple[Any, Codegen]:
    """second_neighbors(xs, address): what 16 outputs with stride 2 read by each neighboring tap.

    xs: a tuple of as many vectors as taps. address: of what the first output reads by the first
    tap; 48 float32 are read.
    """

    def gen(builder: Any, args: Any) -> Any:
        parts = [
            load_at(builder, xs.dtype, offset_by(builder, args[1], i * VECTOR_BYTES))
            for i in range(3)
        ]
        rows = []
        for first in (0, 1):
            here = builder.shuffle_vector(*parts[:2], lanes_of(range(first, 2 * LANES, 2)))
            rows.append((here, pick(builder, parts[2], [*range(first, LANES, 2)] * 2)))
        return [
            builder.shuffle_vector(*rows[tap % 2], lanes_of(range(tap // 2, tap // 2 + LANES)))
            for tap in range(xs.count)
        ]

    return xs(xs, types.intp), gen


@intrinsic
def add_taps(sums: Any, xs: Any, weights: Any) -> tuple[Any, Codegen]:
    """add_taps(sums, xs, weights): a vector of sums plus each x times its weight."""

    def gen(builder: Any, args: Any) -> Any:
        total = args[0]
        for tap in range(xs.count):
            weight = splat_at(builder, sums, offset_by(builder, args[2], 4 * tap))
            total = add_product_value(builder, builder.extract_value(args[1], tap), weight, total)
        return total

    return sums(sums, xs, types.intp), gen


@helper
def sum_neighbors(xs: Any, f: Any, x: int, row: int, totals: int) -> None:
    """As `sum_strided` with stride 2 of rows and columns, where the window has no gaps.

    xs: a tuple of as many vectors as the window has columns. Two rows of outputs share the rows
    of inputs that both read.
    """
    height, bytes_ = f.depth // len(xs), len(xs) * 4
    for y in range(0, f.height, 2):
        pair = y + 1 < f.height
        # From the right: the vector at a row's end reaches into the next, whose own follows.
        for column in range((f.width - 1) // LANES * LANES, -1, -LANES):
            at = x + (y * f.x_row + column * 2 + get_i64(f.offsets, 0)) * 4
            sums, below = zero(F32), zero(F32)
            for k in range(height + 2 if pair else height):
                xs = second_neighbors(xs, at)
                if k < height:
                    sums = add_taps(sums, xs, row + k * bytes_)
                if k >= 2:
                    below = add_taps(below, xs, row + (k - 2) * bytes_)
                at += f.x_row // 2 * 4
            store(totals, y * f.out_row + column, sums)
            if pair:
                store(totals, (y + 1) * f.out_row + column, below)


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
            sum_neighbors(zeros(F32, 3), f, x, row, totals)
        elif f.x_step == 2 and f.neighbors == 5:
            sum_neighbors(zeros(F32, 5), f, x, row, totals)
        elif f.x_step == 2:
            sum_strided(load_stride_2, f, x, row, totals)
        else:
            sum_strided(load_stride, f, x, row, totals)
        if is_plain(f):
            for position in range(0, f.positions, LANES):
                sums = (load(F32, totals, position),)
                write_tile(f, sums, sums, image, n, position)
        else:
            write_row(f, totals, image, n, 0, f.positions)
        fill_margins(f, out_plane(f, image, n), True, True)
