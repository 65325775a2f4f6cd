"""Maximum and average over windows. A unit of work is one channel of one image.

Outputs whose windows' columns are all inside the image stand in lanes, along the row; those at its left and right edge
are taken one by one, and so are all where the stride is above 2. Rows outside the image are left out of a window, so
padding never wins a maximum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.params import PoolParams
from bwn.kernels.simd.arithmetic import greatest, share
from bwn.kernels.simd.scalars import get_f32, get_i8, put_f32, put_i8, reader
from bwn.kernels.simd.shuffles import load_second
from bwn.kernels.simd.stores import clear_bytes
from bwn.kernels.simd.vectors import F32, F32_4, I8_4, I8_16, load, store
from bwn.kernels.simd.widths import LANES, NARROW
from bwn.kernels.target.jit import helper

WIDE = LANES

pool_fields = reader(PoolParams)


@helper
def add(a: Any, b: Any) -> Any:
    """What an average does with two numbers of a window."""
    return a + b


@helper
def same(f: Any, value: Any, rows: int, columns: int) -> Any:
    """What a maximum does at the end of a window."""
    return value


@helper
def mean(f: Any, value: Any, rows: int, columns: int) -> Any:
    """What an average does with the sum of a window, of which so many rows and columns are inside the image."""
    return share(value, np.float32(f.window if f.window > 0 else rows * columns))


@helper
def singly(
    get: Any,
    put: Any,
    join: Any,
    finish: Any,
    start: Any,
    f: Any,
    x: int,
    rows: int,
    out: int,
    z0: int,
    z1: int,
) -> None:
    """Outputs z0..z1-1 of the row at `out`. x: address of their windows' first row inside the image; rows: how many."""
    for z in range(z0, z1):
        j0 = z * f.stride_x - f.left
        j1, j0 = min(j0 + f.kernel_x, f.width), max(j0, 0)
        value = start
        for i in range(rows):
            for j in range(j0, j1):
                value = join(value, get(x, i * f.x_row + j))
        put(out, z, finish(f, value, rows, j1 - j0))


@helper
def in_lanes(
    kind: Any, lanes: int, take: Any, join: Any, finish: Any, f: Any, x: int, rows: int, columns: int, out: int,
    z0: int, z1: int,
) -> None:  # fmt: skip
    """The same, for at least `lanes` outputs whose windows have `columns` columns, all inside the image.

    take: load for stride 1, load_second for stride 2.
    """
    z = z0
    while z < z1:
        z = min(z, z1 - lanes)  # the last vector may lie over the one before
        j0 = z * f.stride_x - f.left
        value = take(kind, x, j0)
        for i in range(1, rows):
            value = join(value, take(kind, x, i * f.x_row + j0))
        for j in range(j0 + 1, j0 + columns):
            column = take(kind, x, j)
            for i in range(1, rows):
                column = join(column, take(kind, x, i * f.x_row + j))
            value = join(value, column)
        store(out, z, finish(f, value, rows, columns))
        z += lanes


@helper
def in_row(
    wide: Any, narrow: Any, take: Any, join: Any, finish: Any, f: Any, x: int, rows: int, columns: int, out: int,
    z0: int, z1: int,
) -> None:  # fmt: skip
    """The same, in the wider vectors that z1 - z0 outputs fill."""
    if z1 - z0 >= WIDE:
        in_lanes(wide, WIDE, take, join, finish, f, x, rows, columns, out, z0, z1)
    else:
        in_lanes(narrow, NARROW, take, join, finish, f, x, rows, columns, out, z0, z1)


@helper
def pool(
    get: Any, put: Any, size: int, wide: Any, narrow: Any, join: Any, finish: Any, start: Any,
    p: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Windows of channels begin..end-1, counted over all images. size: bytes of an element."""
    f = pool_fields(p)
    # Outputs z0..z1-1 have windows whose columns are all inside the image.
    z0 = min((f.left + f.stride_x - 1) // f.stride_x, f.out_width)
    z1 = min((f.width + f.left - f.kernel_x) // f.stride_x + 1, f.out_width)
    if f.stride_x > 2 or z1 - z0 < NARROW:
        z0 = z1 = f.out_width
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * size
        plane = f.out + (image * f.out_image + channel * f.out_plane) * size
        clear_bytes(plane, f.out_plane * size)
        for y in range(f.out_height):
            i0 = y * f.stride_y - f.top
            i1, i0 = min(i0 + f.kernel_y, f.height), max(i0, 0)
            x, rows, out = (
                source + i0 * f.x_row * size,
                i1 - i0,
                plane + (f.out_lead + y * f.out_row) * size,
            )
            singly(get, put, join, finish, start, f, x, rows, out, 0, z0)
            # A window of known size is unrolled: a third off the time of the usual two.
            if f.stride_x == 1:
                in_row(wide, narrow, load, join, finish, f, x, rows, f.kernel_x, out, z0, z1)
            elif f.kernel_x == 2 and rows == 2:
                in_row(wide, narrow, load_second, join, finish, f, x, 2, 2, out, z0, z1)
            elif f.kernel_x == 3 and rows == 3:
                in_row(wide, narrow, load_second, join, finish, f, x, 3, 3, out, z0, z1)
            else:
                in_row(wide, narrow, load_second, join, finish, f, x, rows, f.kernel_x, out, z0, z1)
            singly(get, put, join, finish, start, f, x, rows, out, z1, f.out_width)


def f32_f32_max_pool(p: int, begin: int, end: int, part: int) -> None:
    """Maximum of float32, a NaN where the window holds one."""
    pool(get_f32, put_f32, 4, F32, F32_4, greatest, same, np.float32(-np.inf), p, begin, end)


def i8_i8_max_pool(p: int, begin: int, end: int, part: int) -> None:
    """Maximum of int8."""
    pool(get_i8, put_i8, 1, I8_16, I8_4, greatest, same, np.int8(-128), p, begin, end)


def f32_f32_average_pool(p: int, begin: int, end: int, part: int) -> None:
    """Average of float32."""
    pool(get_f32, put_f32, 4, F32, F32_4, add, mean, np.float32(0.0), p, begin, end)
