"""Bitpacked tensors, whose signs are stored position by position (see `gemm/xnor.py`): packed from
planes, unpacked to planes, and pooled.

A maximum of signs is an or of bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bwn.kernels.simd.arithmetic import keep, to_float
from bwn.kernels.simd.bit_words import HALF, WORD_SIGNS, clear_border, store_words, xor_halves
from bwn.kernels.simd.scalars import get_u64, put_u64, reader
from bwn.kernels.simd.stores import clear_bytes
from bwn.kernels.simd.vectors import (
    F32,
    I32,
    at,
    llvm_type,
    load,
    pick,
    splat_value,
    store,
    store_bytes,
    zero,
)
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import Codegen, helper, intrinsic
from bwn.kernels.tensor.tensor_params import BitpackedParams

bitpacked_params = reader(BitpackedParams)


@intrinsic
def add_bit(words: Any, values: Any, bit: Any) -> tuple[Any, Codegen]:
    """add_bit(words, values, i): int32 lanes with bit i set where values >= 0."""

    def gen(builder: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        plus = builder.fcmp_ordered(">=", args[1], ir.Constant(args[1].type, None))
        bit = builder.shl(ir.Constant(i32, 1), builder.trunc(args[2], i32))
        marked = builder.or_(args[0], splat_value(builder, words, bit))
        return builder.select(plus, marked, args[0])

    return words(words, values, types.intp), gen


def f32_b1_sign(p: int, begin: int, end: int, part: int) -> None:
    """Planes to packed signs: bit 1 where x >= 0. A unit is one row of one image, 64 channels."""
    f = bitpacked_params(p)
    words = f.scratch + part * f.scratch_part
    for unit in range(begin, end):
        y, image, word = unit % f.height, unit // f.height % f.images, unit // (f.height * f.images)
        first = word * WORD_SIGNS
        count = min(WORD_SIGNS, f.channels - first)
        corner = f.out + image * f.out_image + word * 8
        out = corner + (f.top + y) * f.out_row + f.left * f.out_position
        for column in range(0, f.width, LANES):
            x = f.x + (image * f.x_image + first * f.x_plane + f.x_lead + y * f.x_row + column) * 4
            low, high = zero(I32), zero(I32)
            for c in range(min(HALF, count)):
                low = add_bit(low, load(F32, x, c * f.x_plane), c)
            for c in range(HALF, count):
                high = add_bit(high, load(F32, x, c * f.x_plane), c - HALF)
            store_words(words, low, high)
            for i in range(min(LANES, f.width - column)):
                put_u64(out + (column + i) * f.out_position, 0, xor_halves(get_u64(words, i)))
        clear_border(f, corner, y)


def b1_b1_max_pool(p: int, begin: int, end: int, part: int) -> None:
    """Maximum of packed signs over windows; the zeros around an image never win.

    A unit is one row of the output of one image, 64 channels. x: what the first window reads first;
    x_row, x_position: from one window to the next.
    """
    f = bitpacked_params(p)
    for unit in range(begin, end):
        y, image, word = unit % f.height, unit // f.height % f.images, unit // (f.height * f.images)
        x = f.x + image * f.x_image + y * f.x_row + word * 8
        corner = f.out + image * f.out_image + word * 8
        out = corner + (f.top + y) * f.out_row + f.left * f.out_position
        for tap in range(f.kernel_y * f.kernel_x):
            row = x + tap // f.kernel_x * f.tap_row + tap % f.kernel_x * f.tap_position
            for column in range(f.width):
                top = xor_halves(get_u64(row + column * f.x_position, 0))
                if tap > 0:
                    top |= get_u64(out + column * f.out_position, 0)
                put_u64(out + column * f.out_position, 0, top)
        for column in range(f.width):
            target = out + column * f.out_position
            put_u64(target, 0, xor_halves(get_u64(target, 0)))
        clear_border(f, corner, y)


@intrinsic
def load_halves(address: Any, half: Any) -> tuple[Any, Codegen]:
    """load_halves(address, half): the low (0) or high (1) halves of 16 uint64 as int32 lanes."""
    vec = I32.dtype

    def gen(builder: Any, args: Any) -> Any:
        halves = ir.VectorType(ir.IntType(32), 2 * vec.lanes)
        offset = builder.mul(args[1], ir.Constant(ir.IntType(64), 4))
        pairs = builder.load(at(builder, builder.add(args[0], offset), halves), align=4)
        return pick(builder, pairs, range(0, 2 * vec.lanes, 2))

    return vec(types.intp, types.intp), gen


@intrinsic
def sign_of_bit(words: Any, bit: Any) -> tuple[Any, Codegen]:
    """sign_of_bit(words, i): int32 lanes, +1 where bit i is 1, else -1."""

    def gen(builder: Any, args: Any) -> Any:
        kind, i32 = llvm_type(words), ir.IntType(32)
        bit = builder.shl(ir.Constant(i32, 1), builder.trunc(args[1], i32))
        marked = builder.and_(args[0], splat_value(builder, words, bit))
        plus, minus = (ir.Constant(kind, [value] * words.lanes) for value in (1, -1))
        is_set = builder.icmp_unsigned("!=", marked, ir.Constant(kind, None))
        return builder.select(is_set, plus, minus)

    return words(words, types.intp), gen


@helper
def gather_words(f: Any, x: int, first: int, to: int) -> None:
    """The words at 16 positions of a plane from `first` on; zeros in its slack."""
    y, column = first // f.out_row, first % f.out_row
    for i in range(LANES):
        word = np.uint64(0)
        if column < f.width and y < f.height:
            word = xor_halves(get_u64(x + y * f.x_row + column * f.x_position, 0))
        put_u64(to, i, word)
        column += 1
        if column == f.out_row:
            y, column = y + 1, 0


@helper
def unpack(as_float: bool, p: int, begin: int, end: int, part: int) -> None:
    """Planes of +-1, zeros around, as float32 or int8. A unit is 64 channels of one image."""
    f = bitpacked_params(p)
    size = 4 if as_float else 1
    words, tile = (f.channels + WORD_SIGNS - 1) // WORD_SIGNS, f.scratch + part * f.scratch_part
    for unit in range(begin, end):
        image, word = unit // words, unit % words
        count = min(WORD_SIGNS, f.channels - word * WORD_SIGNS)
        planes = f.out + (image * f.out_image + word * WORD_SIGNS * f.out_plane) * size
        x = f.x + image * f.x_image + f.x_top * f.x_row + f.x_left * f.x_position + word * 8
        clear_bytes(planes, count * f.out_plane * size)
        for first in range(0, f.height * f.out_row, LANES):
            gather_words(f, x, first, tile)
            mask = load(I32, f.mask, first)
            for half in range(2):
                bits = load_halves(tile, half)
                for c in range(half * HALF, min(count, half * HALF + HALF)):
                    signs = sign_of_bit(bits, c - half * HALF)
                    plane = planes + c * f.out_plane * size
                    if as_float:
                        store(plane, f.out_lead + first, keep(to_float(signs), mask))
                    else:
                        store_bytes(plane, f.out_lead + first, signs, mask)


def b1_f32_unpack(p: int, begin: int, end: int, part: int) -> None:
    """Packed signs to float32 planes."""
    unpack(True, p, begin, end, part)


def b1_s1_unpack(p: int, begin: int, end: int, part: int) -> None:
    """Packed signs to int8 planes."""
    unpack(False, p, begin, end, part)
