"""GEMM of float32 weights and planes of activations: layers that are not binary, or too shallow for
the tables of `lut.py` to pay.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p]

Positions are in the lanes; a tile of output channels by vectors of positions stays in registers for
all of k. Each weight that is loaded serves all vectors of the tile, each vector all of its
channels.
"""

from __future__ import annotations

from typing import Any

from numba import types

from bwn.kernels.gemm.epilogue import (
    fill_margins,
    gemm_params,
    is_plain,
    out_plane,
    write_positions,
    write_tile,
)
from bwn.kernels.gemm.tiles import MULTIPLY
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.scalars import get_i64
from bwn.kernels.simd.stores import x_scales_at
from bwn.kernels.simd.vectors import (
    F32,
    at,
    llvm_type,
    load,
    load_at,
    offset_by,
    splat_at,
    zeros,
)
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, helper, intrinsic

CHANNELS, VECTORS = MULTIPLY
TILE = CHANNELS * VECTORS


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
                totals.append(fma_value(builder, builder.extract_value(args[1], v), weight, before))
            address = builder.add(address, args[3])
        return totals

    return sums(sums, xs, types.intp, types.intp), gen


@helper
def sum_rows(f: Any, sums: Any, xs: Any, x: int, rows: int) -> Any:
    """Sums of as many rows and vectors of positions as there are zeroed sums and xs."""
    for k in range(f.depth):
        xs = load_vectors(xs, x + get_i64(f.offsets, k) * 4)
        sums = multiply_add(sums, xs, rows + k * 4, f.row_words * 4)
    return sums


@helper
def compute_block(
    f: Any,
    tile_zeros: Any,
    row_zeros: Any,
    xs: Any,
    image: int,
    group: int,
    first: int,
    totals: int,
) -> None:
    """All outputs of a group of an image at len(xs) vectors of positions, from position `first` on.

    tile_zeros, row_zeros: zeroed sums of a tile, and of one row.
    """
    x = f.x + (image * f.x_image + group * f.x_group + first) * 4
    row_bytes, total_bytes, channel = f.row_words * 4, len(xs) * VECTOR_BYTES, group * f.outputs
    rows = f.words + channel * row_bytes
    plain = is_plain(f)
    n = 0
    while n < f.outputs:
        if f.outputs >= CHANNELS:
            n = min(n, f.outputs - CHANNELS)  # the last tile may overlap the one before
            sums = sum_rows(f, tile_zeros, xs, x, rows + n * row_bytes)
            if plain:
                write_tile(f, sums, xs, image, channel + n, first)
            else:
                store_vectors(totals + n * total_bytes, sums)
            n += CHANNELS
        else:
            row = sum_rows(f, row_zeros, xs, x, rows + n * row_bytes)
            if plain:
                write_tile(f, row, xs, image, channel + n, first)
            else:
                store_vectors(totals + n * total_bytes, row)
            n += 1
    last = first + len(xs) * LANES >= f.positions
    for n in range(0 if plain else f.outputs):
        for v in range(len(xs)):
            position = first + v * LANES
            total = load(F32, totals + n * total_bytes, v * LANES)
            x_scales = x_scales_at(F32, f, image, position)
            write_positions(f, total, image, channel + n, position, x_scales)
    for n in range(f.outputs if first == 0 or last else 0):
        fill_margins(f, out_plane(f, image, channel + n), first == 0, last)


@helper
def multiply(p: int, begin: int, end: int, part: int) -> None:
    """Units begin..end-1, each a block of 16 positions of a group of an image."""
    f = gemm_params(p)
    totals = f.scratch + part * f.scratch_part
    blocks = (f.positions + LANES - 1) // LANES
    unit = begin
    while unit < end:
        block, group, image = unit % blocks, unit // blocks % f.groups, unit // (blocks * f.groups)
        unit -= block
        stop = min(blocks, end - unit)  # as far as this group of this image goes
        unit += stop
        while block + VECTORS <= stop:
            tile, row, xs = zeros(F32, TILE), zeros(F32, VECTORS), zeros(F32, VECTORS)
            compute_block(f, tile, row, xs, image, group, block * LANES, totals)
            block += VECTORS
        while block < stop:
            tile, row, xs = zeros(F32, CHANNELS), zeros(F32, 1), zeros(F32, 1)
            compute_block(f, tile, row, xs, image, group, block * LANES, totals)
            block += 1


def f32_f32_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights."""
    multiply(p, begin, end, part)


def f32_b1_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights, which are packed as float32 +-1."""
    multiply(p, begin, end, part)
