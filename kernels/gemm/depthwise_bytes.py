"""Convolutions of few 8-bit inputs an output, as depthwise ones are, with one-bit weights.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p],    w = +-1

As `depthwise.py` does with float32: positions are in the lanes, and sums stay in registers for all
inputs. Weights are packed as int8 +-1; NEON multiplies them and adds up in int16 in one
instruction. At most 258 inputs of +-127 fit an int16: exact.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import fill_margins, gemm_params, out_plane, write_row
from bwn.kernels.gemm.tiles import DEPTHWISE_CHUNK
from bwn.kernels.simd.scalars import get_f32, get_i64
from bwn.kernels.simd.vectors import (
    I16_16,
    Vec,
    at,
    llvm_type,
    load_at,
    offset_by,
    splat_value,
    zeros,
)
from bwn.kernels.simd.widths import LANES, VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@intrinsic
def add_byte_products(sums: Any, x: Any, weight: Any) -> tuple[Any, Codegen]:
    """add_byte_products(sums, x, weight): int16 sums plus a weight times each int8 from x on.

    x, weight: addresses.
    """
    octets = Vec(types.int8, sums.dtype.lanes)
    kind = llvm_type(sums.dtype)

    def gen(builder: Any, args: Any) -> Any:
        number = builder.load(at(builder, args[2], ir.IntType(8)), align=1)
        factor = builder.sext(splat_value(builder, octets, number), kind)
        totals = []
        for v in range(sums.count):
            values = load_at(builder, octets, offset_by(builder, args[1], v * octets.lanes))
            product = builder.mul(builder.sext(values, kind), factor)
            totals.append(builder.add(builder.extract_value(args[0], v), product))
        return totals

    return sums(sums, types.intp, types.intp), gen


@intrinsic
def store_floats(address: Any, sums: Any, correction: Any) -> tuple[Any, Codegen]:
    """store_floats(address, sums, correction): int16 vectors as float32, plus the correction."""
    floats = Vec(types.float32, sums.dtype.lanes)

    def gen(builder: Any, args: Any) -> None:
        kind = llvm_type(floats)
        more = splat_value(builder, floats, args[2])
        for v in range(sums.count):
            value = builder.sitofp(builder.extract_value(args[1], v), kind)
            place = offset_by(builder, args[0], v * VECTOR_BYTES)
            builder.store(builder.fadd(value, more), at(builder, place, kind), align=4)

    return types.void(types.intp, sums, types.float32), gen


@helper
def sum_positions(f: Any, sums: Any, x: int, row: int, totals: int, correction: Any) -> None:
    """Sums of as many vectors of positions as there are zeroed sums, as float32 to `totals`.

    x: address of what the first position reads by offset 0. row: address of weights.
    """
    for k in range(f.depth):
        sums = add_byte_products(sums, x + get_i64(f.offsets, k), row + k)
    store_floats(totals, sums, correction)


@helper
def sum_range(f: Any, x: int, row: int, totals: int, correction: Any, count: int) -> None:
    """Sums of `count` positions, by whole vectors."""
    vectors = (count + LANES - 1) // LANES
    while vectors >= 4:
        sum_positions(f, zeros(I16_16, 4), x, row, totals, correction)
        vectors, x, totals = vectors - 4, x + 4 * LANES, totals + 4 * VECTOR_BYTES
    if vectors >= 2:
        sum_positions(f, zeros(I16_16, 2), x, row, totals, correction)
        vectors, x, totals = vectors - 2, x + 2 * LANES, totals + 2 * VECTOR_BYTES
    if vectors >= 1:
        sum_positions(f, zeros(I16_16, 1), x, row, totals, correction)


def i8_b1_f32_planes_depthwise(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights.

    A unit is a block of 16 positions of a group of an image.
    """
    f = gemm_params(p)
    totals = f.scratch + part * f.scratch_part
    blocks = (f.positions + LANES - 1) // LANES
    unit = begin
    while unit < end:
        block, group, image = unit % blocks, unit // blocks % f.groups, unit // (blocks * f.groups)
        stop = min(blocks, block + end - unit)  # as far as this group of this image goes
        unit += stop - block
        x = f.x + image * f.x_image + group * f.x_group
        for n in range(group * f.outputs, (group + 1) * f.outputs):
            row, correction = f.words + n * f.row_words, get_f32(f.correction, n)
            for first in range(block * LANES, stop * LANES, DEPTHWISE_CHUNK):
                last = min(first + DEPTHWISE_CHUNK, stop * LANES)
                sum_range(f, x + first, row, totals, correction, last - first)
                write_row(f, totals, image, n, first, last)
            fill_margins(f, out_plane(f, image, n), block == 0, stop == blocks)
