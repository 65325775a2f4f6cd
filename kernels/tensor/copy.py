"""Moving tensors between layouts: a four-axis strided copy, and clearing.

Everything that is not arithmetic is one or more of these copies: the user's array into padded
planes, the phases of a strided convolution, flattening, a batch into the lanes and back. Rows whose
elements are neighbours in the target, and neighbours or at every second place in the source, are
moved as vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.simd.scalars import get_f32, get_i8, get_i64, put_f32, put_i8, reader
from bwn.kernels.simd.shuffles import load_second
from bwn.kernels.simd.stores import fill_bytes
from bwn.kernels.simd.vectors import F32, F32_4, I8_4, I8_16, load, splat, store
from bwn.kernels.simd.widths import LANES, NARROW
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.tensor_params import ClearParams, CopyParams, RearrangeParams

copy_params = reader(CopyParams)
rearrange_params = reader(RearrangeParams)
clear_params = reader(ClearParams)


@helper
def move(kind: Any, lanes: int, take: Any, source: int, step: int, target: int, count: int) -> None:
    """Copy `count` elements, at least `lanes`. take: load for a step of 1, load_second for 2."""
    d = 0
    while d < count:
        d = min(d, count - lanes)  # the last vector may overlap the one before
        store(target, d, take(kind, source, d * step))
        d += lanes


@helper
def move_row(
    wide: Any, narrow: Any, take: Any, source: int, step: int, target: int, count: int
) -> None:
    """Copy `count` elements by the wider vectors that they fill."""
    if count >= LANES:
        move(wide, LANES, take, source, step, target, count)
    else:
        move(narrow, NARROW, take, source, step, target, count)


@helper
def load_same(kind: Any, address: int, index: int) -> Any:
    """One float32 in every lane."""
    return splat(kind, get_f32(address, index))


@helper
def copy(
    get: Any, put: Any, size: int, wide: Any, narrow: Any, p: int, begin: int, end: int
) -> None:
    """Units begin..end-1 of a copy of elements of `size` bytes. get, put: move one element."""
    f = copy_params(p)
    has_lanes = f.out3 == 1 and f.n3 >= NARROW
    for unit in range(begin, end):
        a, b = unit // f.n1, unit % f.n1
        for c in range(f.n2):
            source = f.x + (a * f.x0 + b * f.x1 + c * f.x2) * size
            target = f.out + (a * f.out0 + b * f.out1 + c * f.out2) * size
            if has_lanes and f.x3 == 1:
                move_row(wide, narrow, load, source, 1, target, f.n3)
            elif has_lanes and f.x3 == 2:
                move_row(wide, narrow, load_second, source, 2, target, f.n3)
            else:
                for d in range(f.n3):
                    put(target, d * f.out3, get(source, d * f.x3))


def f32_f32_copy(p: int, begin: int, end: int, part: int) -> None:
    """out[a, b, c, d] = x[a, b, c, d] of float32."""
    copy(get_f32, put_f32, 4, F32, F32_4, p, begin, end)


def i8_i8_copy(p: int, begin: int, end: int, part: int) -> None:
    """out[a, b, c, d] = x[a, b, c, d] of int8."""
    copy(get_i8, put_i8, 1, I8_16, I8_4, p, begin, end)


def f32_f32_rearrange(p: int, begin: int, end: int, part: int) -> None:
    """Copy rows of float32 that begin anywhere; an element that is repeated has step 0."""
    f = rearrange_params(p)
    has_lanes = f.out_step == 1 and f.length >= NARROW
    for unit in range(begin, end):
        image, row = unit // f.rows, unit % f.rows
        source = f.x + (image * f.x_image + get_i64(f.x_rows, row)) * 4
        target = f.out + (image * f.out_image + get_i64(f.out_rows, row)) * 4
        if has_lanes and f.x_step == 1:
            move_row(F32, F32_4, load, source, 1, target, f.length)
        elif has_lanes and f.x_step == 2:
            move_row(F32, F32_4, load_second, source, 2, target, f.length)
        elif has_lanes and f.x_step == 0:
            move_row(F32, F32_4, load_same, source, 0, target, f.length)
        else:
            for d in range(f.length):
                put_f32(target, d * f.out_step, get_f32(source, d * f.x_step))


def clear(p: int, begin: int, end: int, part: int) -> None:
    """Write one value to all bytes."""
    f = clear_params(p)
    for unit in range(begin, end):
        fill_bytes(f.out + unit * f.chunk, min(f.chunk, f.size - unit * f.chunk), np.int8(f.value))
