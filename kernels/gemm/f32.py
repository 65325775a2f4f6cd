"""GEMM of float32 weights and planes of activations: layers that are not binary, or too shallow for
the tables of `lut.py` to pay.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p]

Positions are in the lanes; a tile of output channels by vectors of positions stays in registers for
all of k. Each weight that is loaded serves all vectors of the tile, each vector all of its
channels. A tile of channels goes over as many positions as have their inputs in the cache, so that
outputs are written in long rows.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import (
    fill_margins,
    gemm_params,
    is_plain,
    out_plane,
    write_row,
)
from bwn.kernels.gemm.epilogue_tile import write_tile
from bwn.kernels.gemm.tiles import MULTIPLY
from bwn.kernels.simd.arithmetic import add_product_value
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.scalars import get_i64
from bwn.kernels.simd.vectors import (
    F32,
    Vec,
    at,
    llvm_type,
    load_at,
    offset_by,
    pick,
    splat_at,
    zeros,
)
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, helper, intrinsic

CHANNELS, VECTORS = MULTIPLY
TILE = CHANNELS * VECTORS
TILE_BYTES = VECTORS * VECTOR_BYTES
LANE_FACTORS = "neon" in features()
"""Whether a product takes a lane of a register as a factor."""
CHUNK_BYTES = 1 << 14
"""Of the inputs that are read again for every tile of channels: half of a first-level cache."""


@intrinsic
def load_vectors(like: Any, address: Any) -> tuple[Any, Codegen]:
    """load_vectors(like, address): as many vectors as `like` has, one after another."""

    def gen(builder: Any, args: Any) -> Any:
        return [
            load_at(builder, like.dtype, offset_by(builder, args[1], v * VECTOR_BYTES))
            for v in range(like.count)
        ]

    return like(like, types.intp), gen


@intrinsic
def store_vectors(address: Any, vectors: Any) -> tuple[Any, Codegen]:
    """store_vectors(address, vectors): write the vectors one after another."""

    def gen(builder: Any, args: Any) -> None:
        for v in range(vectors.count):
            target = offset_by(builder, args[0], v * VECTOR_BYTES)
            pointer = at(builder, target, llvm_type(vectors.dtype))
            builder.store(builder.extract_value(args[1], v), pointer, align=4)

    return types.void(types.intp, vectors), gen


@intrinsic
def multiply_add(sums: Any, xs: Any, weights: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """multiply_add(sums, xs, weights, row_bytes): sums plus each x times the weight of each row.

    sums: a tuple of rows times len(xs) vectors, row by row. weights: address of the first row's.
    """
    vec = sums.dtype

    def gen(builder: Any, args: Any) -> Any:
        address = args[2]
        totals: list[Any] = []
        for _row in range(sums.count // xs.count):
            weight = splat_at(builder, vec, address)
            for v in range(xs.count):
                before = builder.extract_value(args[0], len(totals))
                totals.append(
                    add_product_value(builder, builder.extract_value(args[1], v), weight, before)
                )
            address = builder.add(address, args[3])
        return totals

    return sums(sums, xs, types.intp, types.intp), gen


@intrinsic
def multiply_add_four(
    sums: Any, xs: Any, x: Any, offsets: Any, weights: Any, row_bytes: Any
) -> tuple[Any, Codegen]:
    """The same for four inputs, of which `offsets` is the address: a load brings four weights.

    For NEON, whose products take a lane of a register as a factor.
    """
    vec, i64 = sums.dtype, ir.IntType(64)
    four = Vec(types.float32, 4)

    def gen(builder: Any, args: Any) -> Any:
        rows, row = [], args[4]
        for _row in range(sums.count // xs.count):
            rows.append(load_at(builder, four, row))
            row = builder.add(row, args[5])
        totals = [builder.extract_value(args[0], i) for i in range(sums.count)]
        for k in range(4):
            offset = builder.load(at(builder, offset_by(builder, args[3], 8 * k), i64), align=8)
            address = builder.add(args[2], builder.shl(offset, ir.Constant(i64, 2)))
            for v in range(xs.count):
                values = load_at(builder, vec, offset_by(builder, address, v * VECTOR_BYTES))
                for i in range(v, sums.count, xs.count):
                    weight = pick(builder, rows[i // xs.count], [k] * vec.lanes)
                    totals[i] = hidden(
                        builder, add_product_value(builder, values, weight, totals[i])
                    )
        return totals

    return sums(sums, xs, types.intp, types.intp, types.intp, types.intp), gen


@helper
def sum_rows(f: Any, sums: Any, xs: Any, x: int, rows: int) -> Any:
    """Sums of as many rows and vectors of positions as there are zeroed sums and xs."""
    fours = f.depth // 4 * 4 if LANE_FACTORS else 0
    for k in range(0, fours, 4):
        offsets, weights = f.offsets + k * 8, rows + k * 4
        sums = multiply_add_four(sums, xs, x, offsets, weights, f.row_words * 4)
    for k in range(fours, f.depth):
        xs = load_vectors(xs, x + get_i64(f.offsets, k) * 4)
        sums = multiply_add(sums, xs, rows + k * 4, f.row_words * 4)
    return sums


@helper
def compute_tile(
    f: Any, sums: Any, xs: Any, x: int, weights: int, image: int, n: int, first: int, totals: int
) -> None:
    """Outputs of channels n on at len(xs) vectors of positions from `first` on.

    sums: zeroed, of as many channels and vectors. x: address of what position 0 reads. weights:
    address of the row of channel n. totals: address for the sums.
    """
    sums = sum_rows(f, sums, xs, x + first * 4, weights)
    if is_plain(f):
        write_tile(f, sums, xs, image, n, first)
        return
    store_vectors(totals, sums)
    for row in range(len(sums) // len(xs)):
        start = totals + row * len(xs) * VECTOR_BYTES
        write_row(f, start, image, n + row, first, first + len(xs) * LANES)


@helper
def compute_channels(
    f: Any, tile: Any, column: Any, image: int, group: int, n: int, begin: int, end: int,
    totals: int,
) -> None:  # fmt: skip
    """Outputs of some channels of a group, from its channel n on, at positions begin..end-1.

    tile, column: zeroed sums of these channels, of VECTORS vectors of positions, and of one.
    """
    x = f.x + (image * f.x_image + group * f.x_group) * 4
    channel = group * f.outputs + n
    weights = f.words + channel * f.row_words * 4
    position = begin
    while position + VECTORS * LANES <= end:
        xs = zeros(F32, VECTORS)
        compute_tile(f, tile, xs, x, weights, image, channel, position, totals)
        position += VECTORS * LANES
    while position < end:
        compute_tile(f, column, zeros(F32, 1), x, weights, image, channel, position, totals)
        position += LANES


@helper
def compute_chunk(f: Any, image: int, group: int, begin: int, end: int, totals: int) -> None:
    """All outputs of a group of an image at positions begin..end-1."""
    n = 0
    while n < f.outputs:
        if f.outputs >= CHANNELS:
            n = min(n, f.outputs - CHANNELS)  # the last tile may overlap the one before
            tile, column = zeros(F32, TILE), zeros(F32, CHANNELS)
            compute_channels(f, tile, column, image, group, n, begin, end, totals)
            n += CHANNELS
        else:
            tile, column = zeros(F32, VECTORS), zeros(F32, 1)
            compute_channels(f, tile, column, image, group, n, begin, end, totals)
            n += 1
    last = end >= f.positions
    for n in range(f.outputs if begin == 0 or last else 0):
        fill_margins(f, out_plane(f, image, group * f.outputs + n), begin == 0, last)


@helper
def multiply(p: int, begin: int, end: int, part: int) -> None:
    """Units begin..end-1, each a block of 16 positions of a group of an image."""
    f = gemm_params(p)
    totals = f.scratch + part * f.scratch_part
    blocks = (f.positions + LANES - 1) // LANES
    chunk = max(CHUNK_BYTES // (f.depth * TILE_BYTES), 1) * VECTORS
    unit = begin
    while unit < end:
        block, group, image = unit % blocks, unit // blocks % f.groups, unit // (blocks * f.groups)
        unit -= block
        stop = min(blocks, end - unit)  # as far as this group of this image goes
        unit += stop
        while block < stop:
            after = min(block + chunk, stop)
            compute_chunk(f, image, group, block * LANES, after * LANES, totals)
            block = after


def f32_f32_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights."""
    multiply(p, begin, end, part)


def f32_b1_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights, which are packed as float32 +-1."""
    multiply(p, begin, end, part)
