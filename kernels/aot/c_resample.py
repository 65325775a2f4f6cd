"""Resizing by a filter, as the entry that prepares images does it: `c_prepare.py` calls it.

It gives the numbers of Pillow's two passes in fixed point, rows first, rounded to 8 bits in
between. The rows of the image are taken one after another. Each is resized to the width, and added
to all output rows that it is part of, which are summed up where the input will be. Weights of the
columns are made once for as many columns as fit in the memory that there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bwn.kernels.aot.c_filters import FILTERS
from bwn.kernels.aot.c_image import ImageRule, image_params, make_finish
from bwn.kernels.aot.c_spec import MAX_SIDE
from bwn.kernels.simd.scalars import (
    get_f64,
    get_i32,
    get_i64,
    get_u8,
    put_f64,
    put_i32,
    put_i64,
    put_u8,
)
from bwn.kernels.target.jit import helper

PRECISION = 22
"""Bits of a weight after the point."""
ROW_BYTES = 24
"""Of an output row: the first input row, the one past the last, and the sum of weights."""


def work_bytes(rule: ImageRule) -> int:
    """Memory that the entry needs to work in: one column's weights of the widest image fit."""
    if rule.interpolation == "nearest":
        return 0
    (height, width), support = rule.size, FILTERS[rule.interpolation].support
    taps = 2 + int(2 * support * max(1, MAX_SIDE / width)) + 2
    return ROW_BYTES * height + _row_bytes(rule) + 4 * taps


def _row_bytes(rule: ImageRule) -> int:
    """Bytes of a resized row, up to a multiple of 8."""
    return -(-rule.size[1] * rule.planes // 8) * 8


@helper
def fixed(weight: float) -> int:
    """A weight as a whole number of 2 ** -PRECISION."""
    return int(weight * (1 << PRECISION) + (-0.5 if weight < 0 else 0.5))


@helper
def to_byte(total: int) -> int:
    """A sum of weighted bytes, which had one half to begin with, as a byte."""
    return min(max(total >> PRECISION, 0), 255)


@helper
def window(center: float, support: float, length: int) -> tuple[int, int]:
    """First pixel and the one past the last that an output pixel is made of."""
    return max(int(center - support + 0.5), 0), min(int(center + support + 0.5), length)


def make_resample(rule: ImageRule) -> Callable[[int, int, int, int], None]:
    """The entry for a filter with weights."""
    (height, width), axis, planes = rule.size, rule.axis, rule.planes
    row_bytes, size = _row_bytes(rule), height * width
    sample, last, finish = rule.sample, rule.last, make_finish(rule)
    weight, reach = FILTERS[rule.interpolation]

    @helper
    def total_weight(center: float, narrow: float, low: int, high: int) -> float:
        total = 0.0
        for i in range(low, high):
            total += weight((i - center + 0.5) * narrow)
        return total

    @helper
    def list_rows(f: Any, rows: int, start: float, step: float, first: int) -> None:
        """Write where each output row begins and ends, and its sum of weights."""
        stretch = max(step, 1.0)
        for row in range(height):
            center = start + (first + row + 0.5) * step
            low, high = window(center, reach * stretch, f.height)
            put_i64(rows, 3 * row, low)
            put_i64(rows, 3 * row + 1, high)
            put_f64(rows, 3 * row + 2, total_weight(center, 1.0 / stretch, low, high))

    @helper
    def list_columns(
        f: Any, columns: int, room: int, begin: int, start: float, step: float, first: int
    ) -> int:
        """Write first pixel, count and weights of each column from `begin` on; where they end."""
        stretch, at, column = max(step, 1.0), 0, begin
        narrow = 1.0 / stretch
        while column < width:
            center = start + (first + column + 0.5) * step
            low, high = window(center, reach * stretch, f.width)
            if column > begin and at + 2 + high - low > room:
                break
            put_i32(columns, at, low)
            put_i32(columns, at + 1, high - low)
            at += 2
            total = total_weight(center, narrow, low, high)
            for i in range(low, high):
                share = weight((i - center + 0.5) * narrow)
                put_i32(columns, at + i - low, fixed(share / total if total != 0.0 else share))
            at += high - low
            column += 1
        return column

    @helper
    def resize_row(f: Any, line: int, columns: int, count: int, out: int) -> None:
        """Columns of a row of the image, as bytes."""
        at = 0
        for column in range(count):
            low, taps = get_i32(columns, at), get_i32(columns, at + 1)
            at += 2
            for channel in range(planes):
                total = 1 << (PRECISION - 1)
                for i in range(taps):
                    pixel = line + (low + i) * f.channels
                    total += get_i32(columns, at + i) * sample(pixel, f.channels, channel)
                put_u8(out, column * planes + channel, to_byte(total))
            at += taps

    @helper
    def add_row(line: int, share: int, x: int, begin: int, end: int) -> None:
        """Add a resized row to an output row's sums."""
        for column in range(begin, end):
            for channel in range(planes):
                level = get_u8(line, (column - begin) * planes + channel)
                place = abs(last - channel) * size + column
                put_i32(x, place, get_i32(x, place) + share * level)

    def prepare(p: int, begin: int, end: int, part: int) -> None:
        """p: address of ImageParams."""
        f = image_params(p)
        start_y, step_y, first_y = axis(f.height, f.width, height, width)
        start_x, step_x, first_x = axis(f.width, f.height, width, height)
        rows, line = f.work, f.work + ROW_BYTES * height
        columns = line + row_bytes
        room = (f.work + f.work_bytes - columns) // 4
        list_rows(f, rows, start_y, step_y, first_y)
        for i in range(planes * size):
            put_i32(f.x, i, 1 << (PRECISION - 1))
        narrow, left = 1.0 / max(step_y, 1.0), 0
        while left < width:
            right = list_columns(f, columns, room, left, start_x, step_x, first_x)
            live = 0  # output rows that do not end above
            for y in range(get_i64(rows, 0), get_i64(rows, 3 * height - 2)):
                resize_row(f, f.pixels + y * f.stride, columns, right - left, line)
                while get_i64(rows, 3 * live + 1) <= y:
                    live += 1
                row = live
                while row < height and get_i64(rows, 3 * row) <= y:
                    center = start_y + (first_y + row + 0.5) * step_y
                    share, total = weight((y - center + 0.5) * narrow), get_f64(rows, 3 * row + 2)
                    part_of_row = fixed(share / total if total != 0.0 else share)
                    if y < get_i64(rows, 3 * row + 1):
                        add_row(line, part_of_row, f.x + 4 * row * width, left, right)
                    row += 1
            left = right
        for channel in range(planes):
            for i in range(channel * size, (channel + 1) * size):
                finish(f.x, i, channel, to_byte(get_i32(f.x, i)))

    return prepare
