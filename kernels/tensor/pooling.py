"""Maximum and average over windows. A unit of work is one channel of one image.

Outputs whose windows' columns are all inside the image are in the lanes, along the row; those at
its left and right edge are taken one by one, and so are all where the stride is above 2. Rows
outside the image are left out of a window, so padding never wins a maximum. Of an average that is
one output, as of a whole map, the window's columns are in the lanes.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from bwn.kernels.simd.arithmetic import blend, greatest, share
from bwn.kernels.simd.scalars import get_f32, get_i8, put_f32, put_i8, reader
from bwn.kernels.simd.shuffles import load_second, total
from bwn.kernels.simd.stores import clear_bytes
from bwn.kernels.simd.vectors import F32, F32_4, I8_4, I8_16, load, store, zero
from bwn.kernels.simd.widths import LANES, NARROW
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.tensor_params import PoolParams

pool_params = reader(PoolParams)


@helper
def unchanged(f: Any, value: Any, rows: int, columns: int) -> Any:
    """How a maximum ends a window."""
    return value


@helper
def mean(f: Any, value: Any, rows: int, columns: int) -> Any:
    """How an average ends a window, from its sum and the rows and columns inside the image."""
    return share(value, np.float32(f.window if f.window > 0 else rows * columns))


@helper
def column_of(kind: Any, take: Any, combine: Any, f: Any, x: int, rows: int, j: int) -> Any:
    """Column j of the windows of neighbouring outputs: its rows combined."""
    value = take(kind, x, j)
    for i in range(1, rows):
        value = combine(value, take(kind, x, i * f.x_row + j))
    return value


@helper
def pool_lanes(
    kind: Any,
    lanes: int,
    take: Any,
    combine: Any,
    end_window: Any,
    f: Any,
    x: int,
    rows: int,
    columns: int,
    out: int,
    z0: int,
    z1: int,
) -> None:
    """Outputs z0..z1-1 of the row at `out`, at least `lanes`; no column is outside the image.

    take: load for stride 1, load_second for 2. x: address of the windows' first row inside the
    image. rows, columns: of a window.
    """
    z = z0
    while z < z1:
        z = min(z, z1 - lanes)  # the last vector may overlap the one before
        j0 = z * f.stride_x - f.left
        value = column_of(kind, take, combine, f, x, rows, j0)
        for j in range(j0 + 1, j0 + columns):
            value = combine(value, column_of(kind, take, combine, f, x, rows, j))
        store(out, z, end_window(f, value, rows, columns))
        z += lanes


def one_by_one(get: Any, put: Any, combine: Any, end_window: Any, initial: Any) -> Any:
    """A helper that computes outputs one by one.

    Args:
        get: Reads an element.
        put: Writes an element.
        combine: Two values of a window to one.
        end_window: (f, value, rows, columns) to the output.
        initial: What a window combines first.
    """

    @helper
    def pool_singly(f: Any, x: int, rows: int, out: int, z0: int, z1: int) -> None:
        """Outputs z0..z1-1 of the row at `out`. x, rows: as of `pool_lanes`."""
        for z in range(z0, z1):
            j0 = z * f.stride_x - f.left
            j1, j0 = min(j0 + f.kernel_x, f.width), max(j0, 0)
            value = initial
            for i in range(rows):
                for j in range(j0, j1):
                    value = combine(value, get(x, i * f.x_row + j))
            put(out, z, end_window(f, value, rows, j1 - j0))

    return pool_singly


def in_lanes(wide: Any, narrow: Any, combine: Any, end_window: Any) -> Any:
    """A helper that computes outputs as vectors. wide, narrow: of LANES and NARROW elements."""

    @helper
    def pool_row(
        take: Any, f: Any, x: int, rows: int, columns: int, out: int, z0: int, z1: int
    ) -> None:
        """As `pool_lanes`, by the wider vectors that z1 - z0 outputs fill."""
        if z1 - z0 >= LANES:
            pool_lanes(wide, LANES, take, combine, end_window, f, x, rows, columns, out, z0, z1)
        else:
            pool_lanes(narrow, NARROW, take, combine, end_window, f, x, rows, columns, out, z0, z1)

    return pool_row


def pool_kernel(size: int, pool_singly: Any, pool_row: Any) -> Any:
    """A pooling kernel: a helper that computes channels begin..end-1, counted over all images.

    size: bytes of an element. pool_singly, pool_row: by `one_by_one` and `in_lanes`.
    """

    @helper
    def write_row(f: Any, x: int, rows: int, out: int, z0: int, z1: int) -> None:
        """One row of outputs, of which z0..z1-1 have windows whose columns are all inside."""
        pool_singly(f, x, rows, out, 0, z0)
        # A window of known size is unrolled: a third off the time of the usual two.
        if f.stride_x == 1:
            pool_row(load, f, x, rows, f.kernel_x, out, z0, z1)
        elif f.kernel_x == 2 and rows == 2:
            pool_row(load_second, f, x, 2, 2, out, z0, z1)
        elif f.kernel_x == 3 and rows == 3:
            pool_row(load_second, f, x, 3, 3, out, z0, z1)
        else:
            pool_row(load_second, f, x, rows, f.kernel_x, out, z0, z1)
        pool_singly(f, x, rows, out, z1, f.out_width)

    @helper
    def pool(p: int, begin: int, end: int) -> None:
        f = pool_params(p)
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
                out = plane + (f.out_lead + y * f.out_row) * size
                write_row(f, source + i0 * f.x_row * size, i1 - i0, out, z0, z1)

    return pool


f32_max = pool_kernel(
    4,
    one_by_one(get_f32, put_f32, greatest, unchanged, np.float32(-np.inf)),
    in_lanes(F32, F32_4, greatest, unchanged),
)
i8_max = pool_kernel(
    1,
    one_by_one(get_i8, put_i8, greatest, unchanged, np.int8(-128)),
    in_lanes(I8_16, I8_4, greatest, unchanged),
)
f32_average = pool_kernel(
    4,
    one_by_one(get_f32, put_f32, operator.add, mean, np.float32(0.0)),
    in_lanes(F32, F32_4, operator.add, mean),
)


@helper
def average_maps(p: int, begin: int, end: int) -> None:
    """As `f32_average`, where one window is all of the output: columns are in the lanes."""
    f = pool_params(p)
    rows, columns = min(f.kernel_y - f.top, f.height), min(f.kernel_x - f.left, f.width)
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        x = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
        sums = zero(F32)
        for y in range(rows):
            column = 0
            while column + LANES <= columns:
                sums = sums + load(F32, x, y * f.x_row + column)
                column += LANES
            if column < columns:
                rest = load(F32, x, y * f.x_row + column)
                sums = sums + blend(rest, zero(F32), columns - column)
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        clear_bytes(plane, f.out_plane * 4)
        put_f32(plane, f.out_lead, mean(f, total(sums), rows, columns))


def f32_f32_max_pool(p: int, begin: int, end: int, part: int) -> None:
    """Maximum of float32, a NaN where the window holds one."""
    f32_max(p, begin, end)


def i8_i8_max_pool(p: int, begin: int, end: int, part: int) -> None:
    """Maximum of int8."""
    i8_max(p, begin, end)


def f32_f32_average_pool(p: int, begin: int, end: int, part: int) -> None:
    """Average of float32."""
    f = pool_params(p)
    if f.out_height == 1 and f.out_width == 1:
        average_maps(p, begin, end)
    else:
        f32_average(p, begin, end)
