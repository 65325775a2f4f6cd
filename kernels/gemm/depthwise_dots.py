"""Convolutions of few 8-bit inputs an output by products of bytes, with one-bit or int8 weights.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p],    w = +-1, or an integer within +-127

A run is up to four inputs at neighboring offsets, as the taps of a row are. One product of bytes
(`byte_products.py`) adds a run to the sums of every fourth position, whose inputs lie 4 bytes
apart; read from 1, 2 and 3 bytes further on, it adds to those of the others. So 64 positions take
four instructions of AVX-512 a run, and nothing is widened. Quantized outputs are put into order by
three shifts.

Which inputs form runs is found once a call, by their offsets. Where outputs read every second
input of a row, a run is added to those of every second output at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils

from bwn.kernels.gemm.byte_products import dot, four_weights
from bwn.kernels.gemm.depthwise_bytes import by_channels
from bwn.kernels.gemm.epilogue import (
    fill_margins,
    is_plain,
    is_quantized,
    out_plane,
    quantized_end,
    write_row,
)
from bwn.kernels.gemm.epilogue_tile import write_tile
from bwn.kernels.gemm.f32 import store_vectors
from bwn.kernels.gemm.gemm_params import StridedParams
from bwn.kernels.gemm.i8_tile import MIDDLE, unsigned_at
from bwn.kernels.gemm.tiles import RUN_FIELDS, RUNS_STEP
from bwn.kernels.gemm.tiles import strided_scratch as strided_bytes
from bwn.kernels.simd.arithmetic import fma, to_float
from bwn.kernels.simd.quantizing import quantized_in_turn, store_octets
from bwn.kernels.simd.scalars import get_f32, get_i8, get_i32, get_i64, put_i8, put_i64, reader
from bwn.kernels.simd.vectors import (
    F32,
    I8,
    I8_16,
    I32,
    I32_64,
    Vec,
    join,
    llvm_type,
    load,
    offset_by,
    pick,
    splat,
    store,
)
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import Codegen, helper, intrinsic

strided_params = reader(StridedParams)
strided_scratch = helper(strided_bytes)
FOUR = 4
"""Inputs of a run, and positions from one sum of a vector to the next."""
STEP = RUNS_STEP
"""Positions at a time."""
NONE = -1
RECENT = 8
"""Runs that may still grow: as many as there are columns from one output to the next, or more."""


@intrinsic
def add_run(sums: Any, x: Any, weights: Any) -> tuple[Any, Codegen]:
    """add_run(sums, x, weights): vectors of sums plus a run of inputs times its weights.

    sums: four vectors; two where the stride is 2. x, weights: addresses.
    """
    stride = FOUR // sums.count

    def gen(builder: Any, args: Any) -> Any:
        factors = four_weights(builder, args[2])
        return [
            dot(
                builder,
                builder.extract_value(args[0], i),
                unsigned_at(builder, I8.dtype, offset_by(builder, args[1], i * stride)),
                factors,
            )
            for i in range(sums.count)
        ]

    return sums(sums, types.intp, types.intp), gen


@intrinsic
def by_position(sums: Any) -> tuple[Any, Codegen]:
    """by_position(sums): the vectors of sums as float32, in the order of their positions."""
    floats, lanes, count = Vec(types.float32, sums.dtype.lanes), sums.dtype.lanes, sums.count
    order = [lanes * (p % count) + p // count for p in range(count * lanes)]

    def gen(builder: Any, args: Any) -> Any:
        every = join(builder, cgutils.unpack_tuple(builder, args[0]))
        parts = [order[start : start + lanes] for start in range(0, len(order), lanes)]
        return [builder.sitofp(pick(builder, every, part), llvm_type(floats)) for part in parts]

    return types.UniTuple(floats, count)(sums), gen


@helper
def find_place(runs: int, count: int, offset: int) -> int:
    """Number of the field where an input at an offset goes in the last runs, 0 for none."""
    for run in range(max(count - RECENT, 0) * RUN_FIELDS, count * RUN_FIELDS, RUN_FIELDS):
        place = offset - get_i64(runs, run)
        # Taken where two inputs have one offset: in windows wider than a row.
        if 0 < place < FOUR and get_i64(runs, run + 1 + place) == NONE:
            return run + 1 + place
    return 0


@helper
def find_runs(f: Any, runs: int) -> int:
    """Write each run's first offset and the inputs at it and the three after it; how many."""
    count = 0
    for k in range(f.depth):
        offset = get_i64(f.offsets, k)
        place = find_place(runs, count, offset)
        if place == 0:
            run = count * RUN_FIELDS
            put_i64(runs, run, offset)
            for other in range(run + 2, run + RUN_FIELDS):
                put_i64(runs, other, NONE)
            place, count = run + 1, count + 1
        put_i64(runs, place, k)
    return count


@helper
def write_weights(row: int, runs: int, count: int, fours: int) -> Any:
    """Write the weights of each run, 0 where it has no input; their sum. row: of a channel."""
    total = np.int64(0)
    for r in range(count):
        for place in range(FOUR):
            k = get_i64(runs, r * RUN_FIELDS + 1 + place)
            weight = get_i8(row, k) if k != NONE else np.int8(0)
            put_i8(fours, r * FOUR + place, weight)
            total += weight
    return total


@helper
def sum_runs(sums: Any, x: int, runs: int, count: int, fours: int) -> Any:
    """Sums of neighboring positions, in turn in four vectors; in two where the stride is 2.

    sums: what they start at. x: address of what the first reads by offset 0.
    """
    for r in range(count):
        sums = add_run(sums, x + get_i64(runs, r * RUN_FIELDS), fours + r * FOUR)
    return sums


@helper
def first_sums(correction: Any, weights: Any) -> Any:
    """What the sums of a channel start at, whose weights add up to so much."""
    return splat(I32, np.int32(np.int64(correction) - MIDDLE * weights))


@helper
def scaled(sums: Any, end: Any) -> Any:
    """sums * scale + bias. sums: I32."""
    return fma(to_float(sums), splat(F32, end.scale), splat(F32, end.bias))


@helper
def write_quantized(f: Any, sums: Any, end: Any, plane: int, p: int, stop: int, room: int) -> None:
    """Write 8-bit outputs p..stop-1, at most 64. plane: address of the channel's."""
    s0, s1, s2, s3 = sums
    values = scaled(s0, end), scaled(s1, end), scaled(s2, end), scaled(s3, end)
    octets = quantized_in_turn(values, end.low, end.high, end.reciprocal, end.rest, end.middle)
    target, zero = f.out_lead + p, np.int8(-end.middle)
    if stop - p >= STEP:
        store_octets(plane, target, octets, load(I32_64, f.mask, p), zero)
    else:
        store(room, 0, octets)
        for i in range(0, stop - p, LANES):
            part, mask = load(I8_16, room, i), load(I32, f.mask, p + i)
            store_octets(plane, target + i, part, mask, zero)


@helper
def prepare_runs(f: Any, scratch: int) -> int:
    """Find the runs of a call; how many. They come after the sums of a step."""
    return find_runs(f, scratch + STEP * 4)


def run_depthwise(get_correction: Any) -> Any:
    """A convolution of few inputs, see `by_channels`.

    Args:
        get_correction: Reads the correction of an output channel.
    """

    @helper
    def compute_channel(
        f: Any, x: int, count: int, scratch: int, image: int, n: int, p: int, stop: int
    ) -> None:
        """Outputs p..stop-1 of channel n. count: runs, which `prepare_runs` has found."""
        runs = scratch + STEP * 4
        fours = runs + f.depth * RUN_FIELDS * 8
        weights = write_weights(f.words + n * f.row_words, runs, count, fours)
        start = first_sums(get_correction(f.correction, n), weights)
        sums = (start, start, start, start)
        if is_quantized(f):
            end, plane = quantized_end(f, image, n), out_plane(f, image, n)
            for first in range(p, stop, STEP):
                totals = sum_runs(sums, x + first, runs, count, fours)
                write_quantized(f, totals, end, plane, first, min(first + STEP, stop), scratch)
            return
        for first in range(p, stop, STEP):
            outputs = by_position(sum_runs(sums, x + first, runs, count, fours))
            last = min(first + STEP, stop)
            if is_plain(f) and last - first == STEP:
                write_tile(f, outputs, outputs, image, n, first)
            else:
                store_vectors(scratch, outputs)
                write_row(f, scratch, image, n, first, last)

    return by_channels(prepare_runs, compute_channel)


i8_b1 = run_depthwise(get_f32)
i8_i8 = run_depthwise(get_i32)


def i8_b1_f32_planes_runs(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights: exact sums."""
    i8_b1(p, begin, end, part)


def i8_i8_f32_planes_runs(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations and weights within +-127: exact sums."""
    i8_i8(p, begin, end, part)


def i8_i8_f32_planes_strided(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations, one-bit or int8 weights as bytes, every second input of a row.

    A unit is a channel of an image.
    """
    f = strided_params(p)
    totals, channels = f.scratch + part * f.scratch_part, f.groups * f.outputs
    runs = totals + strided_scratch(f.positions)
    count = find_runs(f, runs)
    fours = runs + f.depth * RUN_FIELDS * 8
    for unit in range(begin, end):
        image, n = unit // channels, unit % channels
        x = f.x + image * f.x_image + n // f.outputs * f.x_group
        weights = write_weights(f.words + n * f.row_words, runs, count, fours)
        start = first_sums(get_i32(f.correction, n), weights)
        for y in range(f.height):
            for column in range(0, f.width, 2 * LANES):
                at = x + y * f.x_row + column * 2
                sums = sum_runs((start, start), at, runs, count, fours)
                # Past the end of a row the next one's follow.
                store_vectors(totals + (y * f.out_row + column) * 4, by_position(sums))
        write_row(f, totals, image, n, 0, f.positions)
        fill_margins(f, out_plane(f, image, n), True, True)
