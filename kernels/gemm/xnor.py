"""Products of signs that are packed on both sides: exclusive or and counting bits, 16 output channels in the lanes.

    sum[n, p] = inside - 2 * D,    D = how many bits of weights and activations differ

Counting every word takes three operations: exclusive or, count, add. Where a count of bytes is one instruction, as with
NEON, that is best. Elsewhere words go in pairs, and the pair's ones are added up as binary numbers, so that only the
carries are counted (`tiles.CARRIES`). With u = x1 ^ w1, v = x2 ^ w2 and the running ones s,

    s' = s ^ u ^ v = s ^ (x1 ^ x2) ^ (w1 ^ w2),    carry = (s = u ? s : not s'),    D = 2 * count(carries) + count(s)

Both sides store (x1, x1 ^ x2) instead of (x1, x2), so a pair takes five operations: u, s', carry, count, add.

A pair is one word of 64 signs by the bit rule, its halves x1 (low) and x2. Where carries are counted it is stored as
word ^ word << 32, which undoes itself. Activations stand position by position, all channels of a position together,
zeros around the image.
Zeros are not signs: `base` and `limits`, made when the plan is, take back what the weights of outside taps add to D;
one row for every set of taps that can lie inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.gemm.epilogue import clear_margins, finish, out_plane
from bwn.kernels.gemm.lut import totals_as_float
from bwn.kernels.gemm.xnor_tile import (
    MOST_PAIRS,
    PAIR_BYTES,
    VECTORS,
    WIDE,
    count_pair,
    fold,
    no_differences,
    store_sums,
    within,
)
from bwn.kernels.params import XnorParams
from bwn.kernels.simd.bit_words import clear_border, xor_halves
from bwn.kernels.simd.scalars import get_i64, get_u64, put_u64, reader
from bwn.kernels.simd.shuffles import transpose
from bwn.kernels.simd.vectors import F32, I16, splat
from bwn.kernels.simd.widths import BLOCK, BLOCK_VECTORS, LANES, VECTOR_BYTES
from bwn.kernels.target.jit import helper

xnor_fields = reader(XnorParams)


@helper
def differences(f: Any, places: Any, words: int) -> Any:
    """The state of a tile after all pairs of all runs."""
    state, room = no_differences(places), MOST_PAIRS
    for run in range(f.run_count):
        offset, left = get_i64(f.runs, run), f.run_pairs
        while left > 0:
            pairs = left if WIDE else min(left, MOST_PAIRS)
            left -= pairs
            if not WIDE:
                if pairs > room:
                    state, room = fold(state), MOST_PAIRS
                room -= pairs
            end = offset + pairs * 8
            while (
                offset + 16 <= end
            ):  # two at a time: the states change registers without being moved
                state = count_pair(state, places, offset, words)
                state = count_pair(state, places, offset + 8, words + PAIR_BYTES)
                offset += 16
                words += 2 * PAIR_BYTES
            if offset < end:
                state = count_pair(state, places, offset, words)
                offset += 8
                words += PAIR_BYTES
    return fold(state)


def b1_b1_b1_signs_xnor(p: int, begin: int, end: int, part: int) -> None:
    """ModelSpec signs to packed signs: bit = D <= limit, flipped where the scale is negative.

    A unit is one row of positions of one image, 64 output channels.
    """
    f = xnor_fields(p)
    for unit in range(begin, end):
        y, image, block = (
            unit % f.height,
            unit // f.height % f.images,
            unit // (f.height * f.images),
        )
        x = f.x + image * f.x_image + y * f.x_row + block // f.blocks * f.x_group
        words = f.words + block * f.run_count * f.run_pairs * PAIR_BYTES
        limits = f.thresholds + get_i64(f.class_y, y) * f.thresholds_row + block * BLOCK * 4
        corner = f.out + image * f.out_image + block * 8
        out = corner + (f.top + y) * f.out_row + f.left * f.out_position
        flip = get_u64(f.inverted, block)
        column = 0
        while column + 2 <= f.width:
            place = x + column * f.x_position
            places = (place, place + f.x_position)
            here = limits + get_i64(f.class_x, column) * f.thresholds_row
            both = (here, limits + get_i64(f.class_x, column + 1) * f.thresholds_row)
            a, b = flip, flip
            for v in range(0, BLOCK_VECTORS, VECTORS):
                found = within(differences(f, places, words + v * VECTOR_BYTES), both, v)
                a ^= found[0]
                b ^= found[1]
            put_u64(out + column * f.out_position, 0, xor_halves(a))
            put_u64(out + (column + 1) * f.out_position, 0, xor_halves(b))
            column += 2
        if column < f.width:
            one = (limits + get_i64(f.class_x, column) * f.thresholds_row,)
            a = flip
            for v in range(0, BLOCK_VECTORS, VECTORS):
                state = differences(f, (x + column * f.x_position,), words + v * VECTOR_BYTES)
                a ^= within(state, one, v)[0]
            put_u64(out + column * f.out_position, 0, xor_halves(a))
        clear_border(f, corner, y)


@helper
def sums_of(f: Any, x: int, words: int, block: int, first: int, sums: int) -> None:
    """GemmSpec of the block's channels at 16 positions of a plane from `first` on; in the slack they stay as they are."""
    i, end = 0, min(LANES, f.positions - first)
    while i < end:
        y, column = (first + i) // f.plane_row, (first + i) % f.plane_row
        if column >= f.width:
            i += 1
            continue
        place = x + y * f.x_row + column * f.x_position
        bases = f.thresholds + get_i64(f.class_y, y) * f.thresholds_row + block * BLOCK * 4
        here = bases + get_i64(f.class_x, column) * f.thresholds_row
        if i + 2 <= end and column + 2 <= f.width:
            both = (here, bases + get_i64(f.class_x, column + 1) * f.thresholds_row)
            for v in range(0, BLOCK_VECTORS, VECTORS):
                state = differences(f, (place, place + f.x_position), words + v * VECTOR_BYTES)
                store_sums(sums + i * BLOCK * 4, state, both, v)
            i += 2
        else:
            for v in range(0, BLOCK_VECTORS, VECTORS):
                state = differences(f, (place,), words + v * VECTOR_BYTES)
                store_sums(sums + i * BLOCK * 4, state, (here,), v)
            i += 1


def b1_b1_f32_planes_xnor(p: int, begin: int, end: int, part: int) -> None:
    """ModelSpec signs to float32 planes, by the same formula as every other product.

    A unit is 16 positions of the planes of one image, 64 output channels.
    """
    f = xnor_fields(p)
    sums = f.scratch + part * f.scratch_part
    turned = sums + LANES * BLOCK * 4
    chunks = (f.positions + LANES - 1) // LANES
    step = splat(F32, np.float32(1.0))
    for unit in range(begin, end):
        chunk, image, block = unit % chunks, unit // chunks % f.images, unit // (chunks * f.images)
        x = f.x + image * f.x_image + block // f.blocks * f.x_group
        words = f.words + block * f.run_count * f.run_pairs * PAIR_BYTES
        sums_of(f, x, words, block, chunk * LANES, sums)
        for v in range(BLOCK_VECTORS):
            transpose(turned + v * LANES * VECTOR_BYTES, sums + v * VECTOR_BYTES, BLOCK * 4)
        for n in range(block * BLOCK, min(f.outputs, block * BLOCK + BLOCK)):
            total = totals_as_float(I16, turned + n % BLOCK * VECTOR_BYTES, 0)
            finish(f, total, image, n, chunk * LANES, step)
            clear_margins(f, out_plane(f, image, n), chunk == 0, chunk == chunks - 1)
