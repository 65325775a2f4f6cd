"""Products for few positions, where nothing fills the lanes of a lookup: one position at a time, lanes along k.

    sum[n] = sum_k s[n, k] * x[k]

The inputs of the position are gathered into scratch once, then every row of weights is read once. A unit of work is
one output channel; each part gathers for itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.gemm.epilogue import blank, finish_one, gemm_params, out_plane, step_at
from bwn.kernels.simd.arithmetic import fma, widen
from bwn.kernels.simd.bit_lanes import signed
from bwn.kernels.simd.scalars import gather, get_f32, get_i8, get_i32, get_u64, put_f32, put_i8
from bwn.kernels.simd.shuffles import halves, total
from bwn.kernels.simd.vectors import F32, I8, I16, I32, load, zero
from bwn.kernels.target.jit import helper

I16_SAFE_WORDS = 128
"""Words of 8-bit inputs after which int16 lanes are widened: each word adds at most 2 * 127 to a lane."""


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
    """Sum of +-x over one packed row, exact. x: (64 * row_words,) int8, zeros past the row's end."""
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
        sums = fma(load(F32, x, k), load(F32, row, k), sums)
        k += 16
    result = total(sums)
    while k < depth:
        result += get_f32(x, k) * get_f32(row, k)
        k += 1
    return result


@helper
def product(
    get: Any,
    put: Any,
    dot: Any,
    by_words: bool,
    row_bytes: int,
    x_bytes: int,
    p: int,
    begin: int,
    end: int,
    part: int,
) -> None:
    """Output channels begin..end-1, over all images and positions. by_words: whether `dot` counts words or inputs."""
    f = gemm_params(p)
    inputs = f.scratch + part * f.scratch_part
    length = f.row_words if by_words else f.depth
    for image in range(f.images):
        blank(f, out_plane(f, image, begin), 0, (end - begin) * f.out_plane)
        for group in range(begin // f.outputs, (end + f.outputs - 1) // f.outputs):
            for position in range(f.positions):
                if get_i32(f.mask, position) == 0:
                    continue
                x = f.x + (image * f.x_image + group * f.x_group + position) * x_bytes
                gather(get, put, x, f.offsets, f.depth, (f.depth + 63) // 64 * 64, inputs)
                step = step_at(f, image, position)
                for n in range(max(begin, group * f.outputs), min(end, (group + 1) * f.outputs)):
                    total = np.float32(
                        dot(inputs, f.words + n * f.row_words * row_bytes, length)
                    ) + get_f32(f.correction, n)
                    finish_one(f, total, image, n, position, step)


def f32_b1_f32_planes_single(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights."""
    product(get_f32, put_f32, f32_signed_dot, True, 8, 4, p, begin, end, part)


def i8_b1_f32_planes_single(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights: exact sums."""
    product(get_i8, put_i8, i8_signed_dot, True, 8, 1, p, begin, end, part)


def f32_f32_f32_planes_single(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights; words is the address of float32 rows."""
    product(get_f32, put_f32, f32_dot, False, 4, 4, p, begin, end, part)
