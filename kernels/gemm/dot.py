"""Dot products: a GEMM one position at a time with the lanes along k, for few positions.

    sum[n] = sum_k w[n, k] * x[k],    w = +-1, int8 or float32

The inputs of a position are gathered into scratch once, then every row of weights is read once. A
unit of work is one output channel; each part gathers for itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.gemm.epilogue import fill_padding, gemm_params, out_plane, write_one, x_scale_at
from bwn.kernels.simd.arithmetic import add_product, widen
from bwn.kernels.simd.bit_lanes import signed
from bwn.kernels.simd.scalars import gather, get_f32, get_i8, get_i32, get_u64, put_f32, put_i8
from bwn.kernels.simd.shuffles import halves, total
from bwn.kernels.simd.vectors import F32, I8, I16, I32, load, zero
from bwn.kernels.target.jit import helper

I16_SAFE_WORDS = 128
"""Words of 8-bit inputs before int16 lanes are widened: each adds at most 2 * 127 to a lane."""


@helper
def f32_signed_dot(x: int, row: int, row_words: int) -> Any:
    """Sum of +-x over one packed row. x: (64 * row_words,) float32, zeros past the row's end."""
    a, b = zero(F32), zero(F32)
    for w in range(row_words):
        word, k = get_u64(row, w), w * 64
        a += signed(load(F32, x, k), word)
        b += signed(load(F32, x, k + 16), word >> np.uint64(16))
        a += signed(load(F32, x, k + 32), word >> np.uint64(32))
        b += signed(load(F32, x, k + 48), word >> np.uint64(48))
    return total(a + b)


@helper
def i8_signed_dot(x: int, row: int, row_words: int) -> Any:
    """Exact sum of +-x over one packed row. x: (64 * row_words,) int8, zeros past the end."""
    sums = zero(I32)
    w = 0
    while w < row_words:
        short = zero(I16)
        for word in range(w, min(w + I16_SAFE_WORDS, row_words)):
            low, high = halves(signed(load(I8, x, word * 64), get_u64(row, word)))
            short += widen(low) + widen(high)
        w += I16_SAFE_WORDS
        low16, high16 = halves(short)
        sums += widen(low16) + widen(high16)
    return np.int64(total(sums))


@helper
def f32_dot(x: int, row: int, depth: int) -> Any:
    """Sum of products of two float32 rows."""
    sums = zero(F32)
    k = 0
    while k + 16 <= depth:
        sums = add_product(load(F32, x, k), load(F32, row, k), sums)
        k += 16
    result = total(sums)
    while k < depth:
        result += get_f32(x, k) * get_f32(row, k)
        k += 1
    return result


@helper
def i8_dot(x: int, row: int, depth: int) -> Any:
    """Exact sum of products of two int8 rows within +-127. x: zeros past the row's end."""
    sums = zero(I32)
    for k in range(0, depth, 64):
        x_low, x_high = halves(load(I8, x, k))
        w_low, w_high = halves(load(I8, row, k))
        pairs = widen(x_low) * widen(w_low) + widen(x_high) * widen(w_high)  # fit an int16
        low, high = halves(pairs)
        sums += widen(low) + widen(high)
    return np.int64(total(sums))


@helper
def floats_corrected(f: Any, total: Any, n: int) -> Any:
    """A sum of channel n as float32, plus its correction."""
    return np.float32(total) + get_f32(f.correction, n)


@helper
def integers_corrected(f: Any, total: Any, n: int) -> Any:
    """The same of an integer correction, which is added first."""
    return np.float32(total + np.int64(get_i32(f.correction, n)))


def dot_gemm(
    *,
    get: Any,
    put: Any,
    x_bytes: int,
    dot: Any,
    weight_bytes: int,
    corrected: Any = floats_corrected,
) -> Any:
    """A GEMM by dot products: a helper that computes output channels begin..end-1 of all images.

    Args:
        get: Reads an input.
        put: Writes an input.
        x_bytes: Bytes of an input.
        dot: (inputs, row of weights, length) to their dot product.
        weight_bytes: Of an element of a row: 8 are words of signs, whose length is in words; others
            are weights, whose length is K.
        corrected: (f, sum, channel) to the float32 sum with its correction.
    """
    packed = weight_bytes == 8

    @helper
    def gemm(p: int, begin: int, end: int, part: int) -> None:
        f = gemm_params(p)
        inputs = f.scratch + part * f.scratch_part
        length = f.row_words if packed else f.depth
        for image in range(f.images):
            fill_padding(f, out_plane(f, image, begin), 0, (end - begin) * f.out_plane)
            for group in range(begin // f.outputs, (end + f.outputs - 1) // f.outputs):
                first, last = max(begin, group * f.outputs), min(end, (group + 1) * f.outputs)
                for position in range(f.positions):
                    if get_i32(f.mask, position) == 0:
                        continue
                    x = f.x + (image * f.x_image + group * f.x_group + position) * x_bytes
                    gather(get, put, x, f.offsets, f.depth, (f.depth + 63) // 64 * 64, inputs)
                    x_scale = x_scale_at(f, image, position)
                    for n in range(first, last):
                        row = f.words + n * f.row_words * weight_bytes
                        total = corrected(f, dot(inputs, row, length), n)
                        write_one(f, total, image, n, position, x_scale)

    return gemm


f32_b1 = dot_gemm(get=get_f32, put=put_f32, x_bytes=4, dot=f32_signed_dot, weight_bytes=8)
i8_b1 = dot_gemm(get=get_i8, put=put_i8, x_bytes=1, dot=i8_signed_dot, weight_bytes=8)
f32_f32 = dot_gemm(get=get_f32, put=put_f32, x_bytes=4, dot=f32_dot, weight_bytes=4)
i8_i8 = dot_gemm(
    get=get_i8, put=put_i8, x_bytes=1, dot=i8_dot, weight_bytes=1, corrected=integers_corrected
)


def f32_b1_f32_planes_single(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights."""
    f32_b1(p, begin, end, part)


def i8_b1_f32_planes_single(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights: exact sums."""
    i8_b1(p, begin, end, part)


def f32_f32_f32_planes_single(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights; words is the address of float32 rows."""
    f32_f32(p, begin, end, part)


def i8_i8_f32_planes_single(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations and weights within +-127: exact sums."""
    i8_i8(p, begin, end, part)
