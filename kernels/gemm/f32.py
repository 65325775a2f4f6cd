"""Products of float32 weights and planes of activations: layers that are not binary.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p]

Positions stand in the lanes; a tile of output channels by vectors of positions stays in registers for all of k. A
weight that is loaded serves all vectors of the tile, a vector all of its channels.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import clear_margins, finish, gemm_params, out_plane
from bwn.kernels.gemm.tiles import MULTIPLY
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.scalars import get_i64
from bwn.kernels.simd.stores import steps_at
from bwn.kernels.simd.vectors import F32, Codegen, at, llvm_type, load, load_at, splat_value, zeros
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import helper, intrinsic

CHANNELS, VECTORS = MULTIPLY
TILE = CHANNELS * VECTORS


def _offset(builder: Any, address: Any, number: int) -> Any:
    """Address of a vector that stands after `number` others."""
    return builder.add(address, ir.Constant(ir.IntType(64), number * VECTOR_BYTES))


@intrinsic
def load_all(_: Any, like: Any, address: Any) -> tuple[Any, Codegen]:
    """load_all(like, address): as many vectors as `like` has, one after another."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        loaded = [
            load_at(builder, like.dtype, _offset(builder, args[1], v)) for v in range(like.count)
        ]
        return context.make_tuple(builder, sig.return_type, loaded)

    return like(like, types.intp), gen


@intrinsic
def put_all(_: Any, address: Any, sums: Any) -> tuple[Any, Codegen]:
    """put_all(address, sums): write the vectors one after another."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for m in range(sums.count):
            where = at(builder, _offset(builder, args[0], m), llvm_type(sums.dtype))
            builder.store(builder.extract_value(args[1], m), where, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, sums), gen


@intrinsic
def multiply(_: Any, sums: Any, xs: Any, weights: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """multiply(sums, xs, weights, row_bytes): sums plus each x times the weight at each row, row by row.

    sums: a tuple of rows times len(xs) vectors. weights: address of the first row's weight.
    """
    vec = sums.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = args[2]
        totals: list[Any] = []
        for _row in range(sums.count // xs.count):
            weight = splat_value(
                builder, vec, builder.load(at(builder, where, ir.FloatType()), align=4)
            )
            for v in range(xs.count):
                before = builder.extract_value(args[0], len(totals))
                totals.append(fma_value(builder, builder.extract_value(args[1], v), weight, before))
            where = builder.add(where, args[3])
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, xs, types.intp, types.intp), gen


@helper
def tile(f: Any, sums: Any, xs: Any, x: int, rows: int, totals: int) -> None:
    """Totals of as many rows and vectors of positions as there are zeroed sums and xs."""
    for k in range(f.depth):
        xs = load_all(xs, x + get_i64(f.offsets, k) * 4)
        sums = multiply(sums, xs, rows + k * 4, f.row_words * 4)
    put_all(totals, sums)


@helper
def block(
    f: Any, most: Any, one: Any, xs: Any, image: int, group: int, first: int, totals: int
) -> None:
    """All outputs of a group of an image at as many vectors of positions as there are xs, from position `first` on.

    most, one: zeroed sums of a tile, and of one row.
    """
    x = f.x + (image * f.x_image + group * f.x_group + first) * 4
    row_bytes, total_bytes, channel = f.row_words * 4, len(xs) * VECTOR_BYTES, group * f.outputs
    rows = f.words + channel * row_bytes
    n = 0
    while n < f.outputs:
        if f.outputs >= CHANNELS:
            n = min(n, f.outputs - CHANNELS)  # the last tile may lie over the one before
            tile(f, most, xs, x, rows + n * row_bytes, totals + n * total_bytes)
            n += CHANNELS
        else:
            tile(f, one, xs, x, rows + n * row_bytes, totals + n * total_bytes)
            n += 1
    for n in range(f.outputs):
        for v in range(len(xs)):
            position = first + v * LANES
            sums = load(F32, totals + n * total_bytes, v * LANES)
            finish(f, sums, image, channel + n, position, steps_at(F32, f, image, position))
        clear_margins(
            f, out_plane(f, image, channel + n), first == 0, first + len(xs) * LANES >= f.positions
        )


def f32_f32_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights. A unit is one block of 16 positions of one group of one image."""
    f = gemm_params(p)
    totals = f.scratch + part * f.scratch_part
    blocks = (f.positions + LANES - 1) // LANES
    unit = begin
    while unit < end:
        number, group, image = unit % blocks, unit // blocks % f.groups, unit // (blocks * f.groups)
        unit -= number
        stop = min(blocks, end - unit)  # as far as this group of this image goes
        unit += stop
        while number + VECTORS <= stop:
            most, one = zeros(F32, TILE), zeros(F32, VECTORS)
            block(f, most, one, zeros(F32, VECTORS), image, group, number * LANES, totals)
            number += VECTORS
        while number < stop:
            block(
                f,
                zeros(F32, CHANNELS),
                zeros(F32, 1),
                zeros(F32, 1),
                image,
                group,
                number * LANES,
                totals,
            )
            number += 1
