"""The entry of C libraries that makes a network's input of an image, without memory of its own.

It gives the numbers of `bwn.data.resizing`: Pillow's two passes in fixed point, rounded to 8 bits
in between. The rows of the image are taken one after another. Each is resized to the width, and
added to all output rows that it is part of, which are summed up where the input will be. Weights of
the columns are made once for as many columns as fit in the memory that the entry is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bwn.kernels.aot.c_filters import FILTERS, Filter
from bwn.kernels.simd.scalars import (
    get_f64,
    get_i32,
    get_i64,
    get_u8,
    put_f32,
    put_f64,
    put_i32,
    put_i64,
    put_u8,
    reader,
)
from bwn.kernels.target.jit import helper

MAX_SIDE = 65535
"""Most pixels of either side of an image."""
PRECISION = 22
"""Bits of a weight after the point."""
ROW_BYTES = 24
"""Of an output row: the first input row, the one past the last, and the sum of weights."""


class ImageParams(NamedTuple):
    """What the entry takes.

    Attributes:
        pixels: Address of the first row, bytes.
        width: Pixels of a row.
        height: Rows.
        channels: Bytes of a pixel: 1 gray, 3 RGB, 4 RGB and one that is not read.
        stride: Bytes from one row to the next.
        x: Address of the input to make, (C, H, W) float32.
        work: Address of memory to work in, aligned to 8.
        work_bytes: Its size, `work_bytes` or more.
    """

    pixels: int
    width: int
    height: int
    channels: int
    stride: int
    x: int
    work: int
    work_bytes: int


image_params = reader(ImageParams)


class ImageRule(NamedTuple):
    """How an image becomes an input, as `bwn.ir.model_spec.Preprocess` says.

    Attributes:
        size: Height and width of the input.
        color: `L`, `RGB` or `BGR`.
        mean: One number a channel.
        std: One number a channel.
        scale: What pixels are divided by.
        interpolation: Pillow's name of the filter.
        axis: What `c_geometry.make_axis` makes.
    """

    size: tuple[int, int]
    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: int
    interpolation: str
    axis: Any


def work_bytes(rule: ImageRule) -> int:
    """Memory that the entry needs to work in: one column's weights of the widest image fit."""
    (height, width), support = rule.size, 1.0
    if rule.interpolation in FILTERS:
        support = FILTERS[rule.interpolation].support
    taps = 2 + int(2 * support * max(1, MAX_SIDE / width)) + 2
    return ROW_BYTES * height + _row_bytes(rule) + 4 * taps


def _row_bytes(rule: ImageRule) -> int:
    """Bytes of a resized row, up to a multiple of 8."""
    return -(-rule.size[1] * len(rule.mean) // 8) * 8


@helper
def gray(pixel: int, channels: int, channel: int) -> int:
    """The gray level of a pixel at an address, as Pillow computes it (ITU-R 601)."""
    if channels < 3:
        return get_u8(pixel, 0)
    red, green, blue = get_u8(pixel, 0), get_u8(pixel, 1), get_u8(pixel, 2)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


@helper
def red_green_blue(pixel: int, channels: int, channel: int) -> int:
    """A channel of a pixel at an address."""
    return get_u8(pixel, channel if channels >= 3 else 0)


@helper
def fixed(weight: float) -> int:
    """A weight as a whole number of 2 ** -PRECISION."""
    return int(weight * (1 << PRECISION) + (-0.5 if weight < 0 else 0.5))


@helper
def to_byte(total: int) -> int:
    """A sum of weighted bytes, which had one half to begin with, as a byte."""
    return min(max(total >> PRECISION, 0), 255)


def make_prepare(rule: ImageRule) -> Callable[[int, int, int, int], None]:
    """The entry that prepares images so."""
    finish = _make_finish(rule)
    if rule.interpolation == "nearest":
        return _make_nearest(rule, finish)
    return _make_resample(rule, FILTERS[rule.interpolation], finish)


def _make_finish(rule: ImageRule) -> Any:
    """The function (x, place, channel, level) that stores a pixel's level in the input."""
    scale, mean, std = np.float32(rule.scale), rule.mean, rule.std

    @helper
    def finish(x: int, place: int, channel: int, level: int) -> None:
        value = np.float32(level) / scale - np.float32(mean[channel])
        put_f32(x, place, value / np.float32(std[channel]))

    return finish


def _make_nearest(rule: ImageRule, finish: Any) -> Callable[[int, int, int, int], None]:
    (height, width), axis, planes = rule.size, rule.axis, len(rule.mean)
    sample, last = (gray if planes == 1 else red_green_blue), (2 if rule.color == "BGR" else 0)

    def prepare(p: int, begin: int, end: int, part: int) -> None:
        """p: address of ImageParams."""
        f = image_params(p)
        start_y, step_y, first_y = axis(f.height, f.width, height, width)
        start_x, step_x, first_x = axis(f.width, f.height, width, height)
        y = start_y + step_y * 0.5  # summed up as Pillow does, and rounded as there
        for row in range(first_y + height):
            x = start_x + step_x * 0.5
            for column in range(first_x + width if row >= first_y else 0):
                if column >= first_x:
                    place = (row - first_y) * width + column - first_x
                    inside = x >= 0 and x < f.width and y >= 0 and y < f.height
                    at = f.pixels + int(y) * f.stride + int(x) * f.channels
                    for channel in range(planes):
                        level = sample(at, f.channels, abs(last - channel)) if inside else 0
                        finish(f.x, channel * height * width + place, channel, level)
                x += step_x
            y += step_y

    return prepare


@helper
def window(center: float, support: float, length: int) -> tuple[int, int]:
    """First pixel and the one past the last that an output pixel is made of."""
    return max(int(center - support + 0.5), 0), min(int(center + support + 0.5), length)


def _make_resample(
    rule: ImageRule, kernel: Filter, finish: Any
) -> Callable[[int, int, int, int], None]:
    (height, width), axis, planes = rule.size, rule.axis, len(rule.mean)
    row_bytes, size = _row_bytes(rule), height * width
    sample, last = (gray if planes == 1 else red_green_blue), (2 if rule.color == "BGR" else 0)
    weight, reach = kernel

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
