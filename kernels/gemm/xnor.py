"""GEMM of packed signs on both sides: exclusive or and counting bits, 16 output channels in the
lanes.

    sum[n, p] = inside - 2 * D,    D = how many bits of weights and activations differ

Counting every word takes three operations: exclusive or, count, add. Where a count of bytes is one
instruction, as with NEON, that is best. Elsewhere words go in pairs, and the pair's ones are added
up as binary numbers, so that only the carries are counted (`widths.CARRIES`). With u = x1 ^ w1, v =
x2 ^ w2 and the running ones s,

    s' = s ^ u ^ v = s ^ (x1 ^ x2) ^ (w1 ^ w2)
    carry = (s = u ? s : not s')
    D = 2 * count(carries) + count(s)

Both sides store (x1, x1 ^ x2) instead of (x1, x2), so a pair takes five operations: u, s', carry,
count, add.

A pair is one word of 64 signs by the bit rule, its halves x1 (low) and x2. Where carries are
counted it is stored as word ^ word << 32, which undoes itself. Activations are stored position by
position, all channels of a position together, with zeros around the image.

Those zeros are not signs: `xnor_packing.py` corrects what the weights of taps outside the image add
to D, in one row of numbers for every set of taps that can be inside (zero-padding correction, as in
Larq).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.gemm.epilogue import fill_margins, out_plane, write_positions
from bwn.kernels.gemm.gemm_params import XnorParams
from bwn.kernels.gemm.lut import totals_as_float
from bwn.kernels.gemm.xnor_tile import (
    MAX_PAIRS,
    PAIR_BYTES,
    VECTORS,
    WIDE,
    count_pair,
    fold,
    no_differences,
    store_sums,
    within,
)
from bwn.kernels.simd.bit_words import clear_border, xor_halves
from bwn.kernels.simd.scalars import get_i64, get_u64, put_u64, reader
from bwn.kernels.simd.shuffles import transpose
from bwn.kernels.simd.vectors import F32, I16, splat
from bwn.kernels.simd.widths import BLOCK, BLOCK_VECTORS, LANES, VECTOR_BYTES
from bwn.kernels.target.jit import helper

xnor_params = reader(XnorParams)


@helper
def differences(f: Any, inputs: Any, words: int) -> Any:
    """The state of a tile after all pairs of all runs.

    inputs: tuple of the addresses of what tap 0 of each position reads. words: of the weights.
    """
    state, room = no_differences(inputs), MAX_PAIRS
    for run in range(f.run_count):
        offset, left = get_i64(f.runs, run), f.run_pairs
        while left > 0:
            pairs = left if WIDE else min(left, MAX_PAIRS)
            left -= pairs
            if not WIDE:
                if pairs > room:
                    state, room = fold(state), MAX_PAIRS
                room -= pairs
            end = offset + pairs * 8
            while offset + 16 <= end:  # two at a time: states swap registers without being moved
                state = count_pair(state, inputs, offset, words)
                state = count_pair(state, inputs, offset + 8, words + PAIR_BYTES)
                offset += 16
                words += 2 * PAIR_BYTES
            if offset < end:
                state = count_pair(state, inputs, offset, words)
                offset += 8
                words += PAIR_BYTES
    return fold(state)


def b1_b1_b1_signs_xnor(p: int, begin: int, end: int, part: int) -> None:
    """Packed signs to packed signs: bit = D <= threshold, inverted where the scale is negative.

    A unit is one row of positions of one image, 64 output channels.
    """
    f = xnor_params(p)
    for unit in range(begin, end):
        y, image = unit % f.height, unit // f.height % f.images
        block = unit // (f.height * f.images)
        x = f.x + image * f.x_image + y * f.x_row + block // f.blocks * f.x_group
        words = f.words + block * f.run_count * f.run_pairs * PAIR_BYTES
        row = f.thresholds + get_i64(f.class_y, y) * f.thresholds_row + block * BLOCK * 4
        corner = f.out + image * f.out_image + block * 8
        out = corner + (f.top + y) * f.out_row + f.left * f.out_position
        inverted = get_u64(f.inverted, block)
        column = 0
        while column + 2 <= f.width:
            first = x + column * f.x_position
            inputs = (first, first + f.x_position)
            thresholds = (
                row + get_i64(f.class_x, column) * f.thresholds_row,
                row + get_i64(f.class_x, column + 1) * f.thresholds_row,
            )
            a, b = inverted, inverted
            for v in range(0, BLOCK_VECTORS, VECTORS):
                bits = within(differences(f, inputs, words + v * VECTOR_BYTES), thresholds, v)
                a ^= bits[0]
                b ^= bits[1]
            put_u64(out + column * f.out_position, 0, xor_halves(a))
            put_u64(out + (column + 1) * f.out_position, 0, xor_halves(b))
            column += 2
        if column < f.width:
            last_inputs = (x + column * f.x_position,)
            last_thresholds = (row + get_i64(f.class_x, column) * f.thresholds_row,)
            a = inverted
            for v in range(0, BLOCK_VECTORS, VECTORS):
                state = differences(f, last_inputs, words + v * VECTOR_BYTES)
                a ^= within(state, last_thresholds, v)[0]
            put_u64(out + column * f.out_position, 0, xor_halves(a))
        clear_border(f, corner, y)


@helper
def write_sums(f: Any, x: int, words: int, block: int, first: int, sums: int) -> None:
    """Sums of the block's channels at 16 positions of a plane from `first` on, an int32 row of
    each.

    Rows of positions in the slack of the plane stay as they are.
    """
    i, end = 0, min(LANES, f.positions - first)
    while i < end:
        y, column = (first + i) // f.plane_row, (first + i) % f.plane_row
        if column >= f.width:
            i += 1
            continue
        inputs = x + y * f.x_row + column * f.x_position
        row = f.thresholds + get_i64(f.class_y, y) * f.thresholds_row + block * BLOCK * 4
        base = row + get_i64(f.class_x, column) * f.thresholds_row
        if i + 2 <= end and column + 2 <= f.width:
            bases = (base, row + get_i64(f.class_x, column + 1) * f.thresholds_row)
            for v in range(0, BLOCK_VECTORS, VECTORS):
                both = (inputs, inputs + f.x_position)
                state = differences(f, both, words + v * VECTOR_BYTES)
                store_sums(sums + i * BLOCK * 4, state, bases, v)
            i += 2
        else:
            for v in range(0, BLOCK_VECTORS, VECTORS):
                state = differences(f, (inputs,), words + v * VECTOR_BYTES)
                store_sums(sums + i * BLOCK * 4, state, (base,), v)
            i += 1


def b1_b1_f32_planes_xnor(p: int, begin: int, end: int, part: int) -> None:
    """Packed signs to float32 planes, by the epilogue of every GEMM over planes.

    A unit is 16 positions of the planes of one image, 64 output channels.
    """
    f = xnor_params(p)
    sums = f.scratch + part * f.scratch_part
    transposed = sums + LANES * BLOCK * 4
    chunks = (f.positions + LANES - 1) // LANES
    x_scale = splat(F32, np.float32(1.0))
    for unit in range(begin, end):
        chunk, image, block = unit % chunks, unit // chunks % f.images, unit // (chunks * f.images)
        x = f.x + image * f.x_image + block // f.blocks * f.x_group
        words = f.words + block * f.run_count * f.run_pairs * PAIR_BYTES
        write_sums(f, x, words, block, chunk * LANES, sums)
        for v in range(BLOCK_VECTORS):
            rows = transposed + v * LANES * VECTOR_BYTES
            transpose(rows, sums + v * VECTOR_BYTES, BLOCK * 4)
        for n in range(block * BLOCK, min(f.outputs, block * BLOCK + BLOCK)):
            total = totals_as_float(I16, transposed + n % BLOCK * VECTOR_BYTES, 0)
            write_positions(f, total, image, n, chunk * LANES, x_scale)
            fill_margins(f, out_plane(f, image, n), chunk == 0, chunk == chunks - 1)
