"""GEMM of float32 weights and planes whose outputs are only read as signs: written packed, never as
numbers.

The sum is taken as in `f32.py`, input after input, and ends by the formula of `epilogue.py`, so
every sign is the sign of the number that would have been written there. Words are those of
`xnor.py`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.f32 import sum_rows
from bwn.kernels.gemm.gemm_params import F32ToBitsParams
from bwn.kernels.gemm.tiles import MULTIPLY_SIGNS
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.bit_words import HALF, WORD_SIGNS, clear_border, store_words, xor_halves
from bwn.kernels.simd.scalars import get_f32, get_u64, put_u64, reader
from bwn.kernels.simd.vectors import (
    F32,
    I32,
    llvm_type,
    offset_by,
    splat_at,
    splat_value,
    zeros,
)
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import Codegen, helper, intrinsic

CHANNELS, VECTORS = MULTIPLY_SIGNS
TILE = CHANNELS * VECTORS
"""A tile: output channels by vectors of positions. Channels divide HALF."""

f32_to_bits_params = reader(F32ToBitsParams)


@intrinsic
def add_signs(
    words: Any, sums: Any, scale: Any, bias: Any, low: Any, high: Any, bit: Any
) -> tuple[Any, Codegen]:
    """add_signs(words, sums, scale, bias, low, high, bit): words with a tile's signs, from `bit`
    on.

    words: VECTORS vectors of int32. scale, bias: addresses of the first row's. low, high: bounds.
    """
    vec, rows = sums.dtype, sums.count // VECTORS

    def gen(builder: Any, args: Any) -> Any:
        marked = [builder.extract_value(args[0], v) for v in range(VECTORS)]
        zero = ir.Constant(llvm_type(vec), None)
        lower, upper = (splat_value(builder, vec, bound) for bound in args[4:6])
        first_bit = builder.trunc(args[6], ir.IntType(32))
        for row in range(rows):
            a, b = (
                splat_at(builder, vec, offset_by(builder, start, row * 4)) for start in args[2:4]
            )
            bit = builder.shl(ir.Constant(ir.IntType(32), 1 << row), first_bit)
            mark = splat_value(builder, words.dtype, bit)
            for v in range(VECTORS):
                y = fma_value(builder, builder.extract_value(args[1], row * VECTORS + v), a, b)
                y = builder.select(builder.fcmp_ordered(">", lower, y), lower, y)
                y = builder.select(builder.fcmp_ordered("<", upper, y), upper, y)
                plus = builder.fcmp_ordered(">=", y, zero)
                marked[v] = builder.select(plus, builder.or_(marked[v], mark), marked[v])
        return marked

    return words(words, sums, types.intp, types.intp, types.float32, types.float32, types.intp), gen


@helper
def half_words(f: Any, x: int, first: int, count: int) -> Any:
    """Bits of `count` channels from `first` on, at VECTORS vectors of positions at address x."""
    words = zeros(I32, VECTORS)
    low, high = get_f32(f.bounds, 0), get_f32(f.bounds, 1)
    row_bytes = f.row_words * 4
    n = 0
    while n < count:
        weights = f.words + (first + n) * row_bytes
        scale, bias = f.scale + (first + n) * 4, f.bias + (first + n) * 4
        if n + CHANNELS <= count:
            sums = sum_rows(f, zeros(F32, TILE), zeros(F32, VECTORS), x, weights)
            words = add_signs(words, sums, scale, bias, low, high, n)
            n += CHANNELS
        else:
            row = sum_rows(f, zeros(F32, VECTORS), zeros(F32, VECTORS), x, weights)
            words = add_signs(words, row, scale, bias, low, high, n)
            n += 1
    return words


def f32_f32_b1_signs_multiply(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights to packed signs. A unit is a tile's positions of an image."""
    f = f32_to_bits_params(p)
    lanes = VECTORS * LANES
    blocks = (f.positions + lanes - 1) // lanes
    tile = f.scratch + part * f.scratch_part
    for unit in range(begin, end):
        first, image = unit % blocks * lanes, unit // blocks
        count = min(lanes, f.positions - first)
        x = f.x + (image * f.x_image + first) * 4
        for word in range((f.outputs + WORD_SIGNS - 1) // WORD_SIGNS):
            channel = word * WORD_SIGNS
            low = half_words(f, x, channel, min(HALF, f.outputs - channel))
            high = half_words(f, x, channel + HALF, min(HALF, f.outputs - channel - HALF))
            for v in range(VECTORS):
                store_words(tile + v * LANES * 8, low[v], high[v])
            corner = f.out + image * f.out_image + word * 8
            y, column = first // f.plane_row, first % f.plane_row
            for i in range(count):
                if column == 0:
                    clear_border(f, corner, y)
                if column < f.width:
                    out = corner + (f.top + y) * f.out_row + (f.left + column) * f.out_position
                    put_u64(out, 0, xor_halves(get_u64(tile, i)))
                column += 1
                if column == f.plane_row:
                    y, column = y + 1, 0
