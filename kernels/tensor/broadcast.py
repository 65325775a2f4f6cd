"""Elementwise kernels of two operands, each of which may have size 1 on any axis.

An operand's strides go from one image, channel, row and column of the output to the next; a stride
of 0 repeats what has size 1. An operand whose rows and columns lie as the output's is read by whole
vectors. In any other, a vector of positions that goes on in the next row is blended from both rows.
Like every kernel, these write the whole plane of the output, with exact zeros where the mask is 0.
A unit of work is one channel of one image.
"""

from __future__ import annotations

import operator
from typing import Any

from bwn.kernels.simd.arithmetic import blend, greatest, keep, where_negative
from bwn.kernels.simd.elementary import any_power
from bwn.kernels.simd.scalars import get_f32, reader
from bwn.kernels.simd.stores import clamp
from bwn.kernels.simd.vectors import F32, I32, load, splat, store
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.elementwise import clear_padding
from bwn.kernels.tensor.tensor_params import BinaryParams

binary_params = reader(BinaryParams)


@helper
def of_row(source: int, column: int, x: int) -> Any:
    """16 numbers of one row from column x on."""
    return load(F32, source, x) if column == 1 else splat(F32, get_f32(source, 0))


@helper
def operand(f: Any, source: int, row: int, column: int, y: int, x: int) -> Any:
    """16 numbers of an operand's plane, for the positions of the output from (y, x) on."""
    if row == f.out_row and column == 1:
        return load(F32, source, y * row + x)
    if row == 0 and column == 0:
        return splat(F32, get_f32(source, 0))
    values = of_row(source + y * row * 4, column, x)
    ahead = f.out_row - x  # lanes before the next row
    while ahead < LANES and y + 1 < f.height:
        y += 1
        values = blend(values, of_row(source + y * row * 4, column, -ahead), ahead)
        ahead += f.out_row
    return values


@helper
def map_two(operation: Any, p: int, begin: int, end: int) -> None:
    """clamp(operation(x, other), low, high) of planes begin..end-1, counted over all images."""
    f = binary_params(p)
    direct = f.x_row == f.out_row and f.x_column == 1
    aligned = direct and f.other_row == f.out_row and f.other_column == 1
    repeated = direct and f.other_row == 0 and f.other_column == 0
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        a = f.x + (image * f.x_image + channel * f.x_plane) * 4
        b = f.other + (image * f.other_image + channel * f.other_plane) * 4
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        y, x = 0, 0
        for i in range(0, f.positions, LANES):
            if aligned:
                values = operation(load(F32, a, i), load(F32, b, i))
            elif repeated:  # of one number a channel
                values = operation(load(F32, a, i), splat(F32, get_f32(b, 0)))
            else:
                values = operation(
                    operand(f, a, f.x_row, f.x_column, y, x),
                    operand(f, b, f.other_row, f.other_column, y, x),
                )
                x += LANES
                while x >= f.out_row:
                    x -= f.out_row
                    y += 1
            store(plane, f.out_lead + i, keep(clamp(f, values, 0), load(I32, f.mask, i)))
        clear_padding(f, plane)


least = helper(lambda a, b: -greatest(-a, -b))
prelu = helper(lambda x, slope: where_negative(x, x * slope, x))


def f32_f32_add(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(x + other, low, high)."""
    map_two(operator.add, p, begin, end)


def f32_f32_sub(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(x - other, low, high)."""
    map_two(operator.sub, p, begin, end)


def f32_f32_mul(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(x * other, low, high)."""
    map_two(operator.mul, p, begin, end)


def f32_f32_div(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(x / other, low, high)."""
    map_two(operator.truediv, p, begin, end)


def f32_f32_max(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(max(x, other), low, high); a NaN where either is one."""
    map_two(greatest, p, begin, end)


def f32_f32_min(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(min(x, other), low, high); a NaN where either is one."""
    map_two(least, p, begin, end)


def f32_f32_prelu(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(x where x >= 0, else other * x, low, high)."""
    map_two(prelu, p, begin, end)


def f32_f32_pow(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(x ** other, low, high)."""
    map_two(any_power, p, begin, end)
