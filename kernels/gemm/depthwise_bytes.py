"""Convolutions of few 8-bit inputs an output, as depthwise ones are, with one-bit or int8 weights.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p],    w = +-1, or an integer within +-127

As `depthwise.py` does with float32: positions are in the lanes, and sums stay in registers for all
inputs. One-bit weights are packed as int8 +-1; NEON multiplies them and adds up in int16 in one
instruction. At most 258 inputs of +-127 fit an int16: exact. Those of int8 weights are added up in
int32.
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
from bwn.kernels.gemm.f32 import store_vectors
from bwn.kernels.gemm.tiles import DEPTHWISE_CHUNK
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.scalars import get_f32, get_i32, get_i64
from bwn.kernels.simd.vectors import (
    I16_16,
    I32,
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
    """add_byte_products(sums, x, weight): integer sums plus a weight times each int8 from x on.

    x, weight: addresses.
    """
    octets, shorts = (Vec(element, sums.dtype.lanes) for element in (types.int8, types.int16))
    wide = sums.dtype != shorts

    def gen(builder: Any, args: Any) -> Any:
        number = builder.load(at(builder, args[2], ir.IntType(8)), align=1)
        # Hidden, so that LLVM knows no half of it and multiplies upper halves where they are.
        factor = hidden(builder, splat_value(builder, octets, number))
        factor = builder.sext(factor, llvm_type(shorts))
        totals = []
        for v in range(sums.count):
            values = load_at(builder, octets, offset_by(builder, args[1], v * octets.lanes))
            product = builder.mul(builder.sext(values, llvm_type(shorts)), factor)  # fits
            if wide:
                product = builder.sext(product, llvm_type(sums.dtype))
            totals.append(builder.add(builder.extract_value(args[0], v), product))
        return totals

    return sums(sums, types.intp, types.intp), gen


@intrinsic
def corrected(sums: Any, correction: Any) -> tuple[Any, Codegen]:
    """corrected(sums, correction): integers as float32, plus the correction.

    An int32 correction is added before they become float32.
    """
    floats = Vec(types.float32, sums.dtype.lanes)

    def gen(builder: Any, args: Any) -> Any:
        kind, whole = llvm_type(floats), correction == types.int32
        more = splat_value(builder, sums.dtype if whole else floats, args[1])
        values = [builder.extract_value(args[0], v) for v in range(sums.count)]
        if whole:
            return [builder.sitofp(builder.add(value, more), kind) for value in values]
        return [builder.fadd(builder.sitofp(value, kind), more) for value in values]

    return types.UniTuple(floats, sums.count)(sums, correction), gen


@helper
def sum_positions(
    f: Any, sums: Any, x: int, row: int, totals: int, correction: Any, image: int, n: int, p: int
) -> None:
    """Sums of as many vectors of positions as there are zeroed sums, from position p on.

    x: address of what position p reads by offset 0. row: address of weights. totals: where they
    go; 0 to write outputs.
    """
    for k in range(f.depth):
        sums = add_byte_products(sums, x + get_i64(f.offsets, k), row + k)
    outputs = corrected(sums, correction)
    if totals == 0:
        write_tile(f, outputs, outputs, image, n, p)
    else:
        store_vectors(totals, outputs)


def by_channels(prepare: Any, compute_channel: Any) -> Any:
    """A convolution channel by channel: a helper that computes units begin..end-1.

    A unit is a block of 16 positions of a group of an image.

    Args:
        prepare: (f, scratch): what a call does once; returns what `compute_channel` needs of it.
        compute_channel: (f, x, prepared, scratch, image, n, p, stop): computes outputs p..stop-1
            of channel n, by whole vectors. x: address of position 0 of its group.
    """

    @helper
    def convolve(p: int, begin: int, end: int, part: int) -> None:
        f = gemm_params(p)
        scratch = f.scratch + part * f.scratch_part
        prepared = prepare(f, scratch)
        blocks = (f.positions + LANES - 1) // LANES
        unit = begin
        while unit < end:
            block, group = unit % blocks, unit // blocks % f.groups
            image = unit // (blocks * f.groups)
            stop = min(blocks, block + end - unit)  # as far as this group of this image goes
            unit += stop - block
            x = f.x + image * f.x_image + group * f.x_group
            for n in range(group * f.outputs, (group + 1) * f.outputs):
                compute_channel(f, x, prepared, scratch, image, n, block * LANES, stop * LANES)
                fill_margins(f, out_plane(f, image, n), block == 0, stop == blocks)

    return convolve


@helper
def nothing(f: Any, scratch: int) -> int:
    """Prepares nothing."""
    return 0


def byte_depthwise(kind: Any, get_correction: Any) -> Any:
    """A convolution of few inputs, see `by_channels`.

    Args:
        kind: The vectors of sums.
        get_correction: Reads the correction of an output channel.
    """

    @helper
    def sum_range(
        f: Any, x: int, row: int, totals: int, correction: Any, image: int, n: int, p: int,
        stop: int,
    ) -> None:  # fmt: skip
        """Sums of positions p..stop-1 of channel n, by whole vectors. totals: as above."""
        step = VECTOR_BYTES if totals else 0
        while p + 3 * LANES < stop:
            sum_positions(f, zeros(kind, 4), x + p, row, totals, correction, image, n, p)
            p, totals = p + 4 * LANES, totals + 4 * step
        if p + LANES < stop:
            sum_positions(f, zeros(kind, 2), x + p, row, totals, correction, image, n, p)
            p, totals = p + 2 * LANES, totals + 2 * step
        if p < stop:
            sum_positions(f, zeros(kind, 1), x + p, row, totals, correction, image, n, p)

    @helper
    def compute_channel(
        f: Any, x: int, prepared: int, totals: int, image: int, n: int, p: int, stop: int
    ) -> None:
        """Outputs p..stop-1 of channel n. totals: room for the sums of a chunk."""
        row, correction = f.words + n * f.row_words, get_correction(f.correction, n)
        if is_plain(f):
            sum_range(f, x, row, 0, correction, image, n, p, stop)
            return
        for first in range(p, stop, DEPTHWISE_CHUNK):
            last = min(first + DEPTHWISE_CHUNK, stop)
            sum_range(f, x, row, totals, correction, image, n, first, last)
            write_row(f, totals, image, n, first, last)

    return by_channels(nothing, compute_channel)


i8_b1 = byte_depthwise(I16_16, get_f32)
i8_i8 = byte_depthwise(I32, get_i32)


def i8_b1_f32_planes_depthwise(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights."""
    i8_b1(p, begin, end, part)


def i8_i8_f32_planes_depthwise(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations and weights within +-127."""
    i8_i8(p, begin, end, part)
