"""Sums, maxima and minima over channels, rows and columns.

Of each number first f(x) is taken, then they are combined, then the result is multiplied, and its
root taken where that is asked for. Where columns stay, they are in the lanes of the result; else
each row's are in the lanes and combined at the end.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from bwn.kernels.simd.arithmetic import greatest, keep, magnitude, square_root
from bwn.kernels.simd.scalars import get_f32, put_f32, reader
from bwn.kernels.simd.shuffles import first_lane, sum_of_lanes, top_of_lanes
from bwn.kernels.simd.stores import clear
from bwn.kernels.simd.vectors import F32, I32, load, splat, store
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.codes import Reduction
from bwn.kernels.tensor.elementwise import clear_padding
from bwn.kernels.tensor.tensor_params import ReduceParams

reduce_params = reader(ReduceParams)


@helper
def ended(f: Any, value: Any) -> Any:
    """factor * value, or its root."""
    value = value * splat(F32, get_f32(f.factor, 0))
    return square_root(value) if f.root != 0 else value


@helper
def reduce_positions(first: Any, combine: Any, initial: Any, f: Any, begin: int, end: int) -> None:
    """Of the same columns of channels and rows. A unit is 16 positions of an output channel."""
    blocks = (f.positions + LANES - 1) // LANES
    for unit in range(begin, end):
        image, channel = unit // blocks // f.channels, unit // blocks % f.channels
        i = unit % blocks * LANES
        x = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead + i) * 4
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        value = splat(F32, initial)
        for c in range(f.depth):
            for row in range(f.rows):
                value = combine(value, first(load(F32, x, c * f.x_plane + row * f.x_row)))
        store(plane, f.out_lead + i, keep(ended(f, value), load(I32, f.mask, i)))
        if i == 0:
            clear_padding(f, plane)


@helper
def reduce_rows(
    first: Any, combine: Any, initial: Any, across: Any, f: Any, begin: int, end: int
) -> None:
    """Of whole rows, perhaps of several channels and rows. A unit is an output channel."""
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        x = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        clear(plane, f.out_plane)
        for y in range(f.height):
            value = splat(F32, initial)
            for c in range(f.depth):
                for row in range(f.rows):
                    at = c * f.x_plane + (y * f.rows + row) * f.x_row
                    for j in range(0, f.width, LANES):
                        v = keep(load(F32, x, at + j), load(I32, f.mask, j))
                        # Lanes past the row have a number that changes nothing.
                        value = combine(value, first(v) + load(F32, f.fill, j))
            put_f32(plane, f.out_lead + y * f.out_row, first_lane(ended(f, across(value))))


@helper
def reduce(
    first: Any, combine: Any, initial: Any, across: Any, f: Any, begin: int, end: int
) -> None:
    """By the one of both loops that the parameters ask for."""
    if f.width > 0:
        reduce_rows(first, combine, initial, across, f, begin, end)
    else:
        reduce_positions(first, combine, initial, f, begin, end)


itself = helper(lambda x: x)
negated = helper(lambda x: -x)
squared = helper(lambda x: x * x)
SUM, MAX = np.float32(0.0), np.float32(-np.inf)


def f32_f32_reduce(p: int, begin: int, end: int, part: int) -> None:
    """Sum, sum of magnitudes, sum of squares, maximum; minimum, as the maximum of -x."""
    f = reduce_params(p)
    if f.reduction == Reduction.SUM:
        reduce(itself, operator.add, SUM, sum_of_lanes, f, begin, end)
    elif f.reduction == Reduction.MAGNITUDES:
        reduce(magnitude, operator.add, SUM, sum_of_lanes, f, begin, end)
    elif f.reduction == Reduction.SQUARES:
        reduce(squared, operator.add, SUM, sum_of_lanes, f, begin, end)
    elif f.reduction == Reduction.MAX:
        reduce(itself, greatest, MAX, top_of_lanes, f, begin, end)
    else:
        reduce(negated, greatest, MAX, top_of_lanes, f, begin, end)
