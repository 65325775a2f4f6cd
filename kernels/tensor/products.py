"""Product of two activation tensors, a matrix for each channel.

Numbers of a row of the result are in lanes; four rows are computed at once, so that a vector of the
second operand is loaded once for all of them. The last vector of a row ends where the row does. A
row shorter than a vector is stored with zeros after it, before the next row is: then a unit of work
is a whole plane, after which there is room.
"""

from __future__ import annotations

from typing import Any

from bwn.kernels.simd.arithmetic import add_product, keep
from bwn.kernels.simd.scalars import get_f32, reader
from bwn.kernels.simd.stores import clear
from bwn.kernels.simd.vectors import F32, I32, load, splat, store, zero
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.tensor_params import MatMulParams

matmul_params = reader(MatMulParams)


@helper
def four_rows(f: Any, x: int, other: int, out: int) -> None:
    """Four rows of the result, from the addresses of the first on."""
    mask = load(I32, f.mask, 0)
    for start in range(0, f.width, LANES):
        i = min(start, max(f.width - LANES, 0))
        a, b, c, d = zero(F32), zero(F32), zero(F32), zero(F32)
        for k in range(f.depth):
            v = load(F32, other, k * f.other_row + i)
            a = add_product(splat(F32, get_f32(x, k)), v, a)
            b = add_product(splat(F32, get_f32(x, f.x_row + k)), v, b)
            c = add_product(splat(F32, get_f32(x, 2 * f.x_row + k)), v, c)
            d = add_product(splat(F32, get_f32(x, 3 * f.x_row + k)), v, d)
        store(out, i, keep(a, mask))
        store(out, f.out_row + i, keep(b, mask))
        store(out, 2 * f.out_row + i, keep(c, mask))
        store(out, 3 * f.out_row + i, keep(d, mask))


@helper
def one_row(f: Any, x: int, other: int, out: int) -> None:
    """A row of the result."""
    mask = load(I32, f.mask, 0)
    for start in range(0, f.width, LANES):
        i = min(start, max(f.width - LANES, 0))
        a = zero(F32)
        for k in range(f.depth):
            a = add_product(splat(F32, get_f32(x, k)), load(F32, other, k * f.other_row + i), a)
        store(out, i, keep(a, mask))


def f32_f32_matmul(p: int, begin: int, end: int, part: int) -> None:
    """out = x @ other in every channel. A unit is `rows` rows of a channel of an image."""
    f = matmul_params(p)
    blocks = (f.height + f.rows - 1) // f.rows
    for unit in range(begin, end):
        image, channel = unit // blocks // f.channels, unit // blocks % f.channels
        x = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
        other = f.other + (image * f.other_image + channel * f.other_plane + f.other_lead) * 4
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        first = unit % blocks * f.rows
        last = min(first + f.rows, f.height)
        y = first
        while y + 4 <= last:
            out = plane + (f.out_lead + y * f.out_row) * 4
            four_rows(f, x + y * f.x_row * 4, other, out)
            y += 4
        while y < last:
            out = plane + (f.out_lead + y * f.out_row) * 4
            one_row(f, x + y * f.x_row * 4, other, out)
            y += 1
        for y in range(first, last):
            clear(plane + (f.out_lead + y * f.out_row + f.width) * 4, f.out_row - f.width)
        if first == 0:
            clear(plane, f.out_lead)
        if last == f.height:
            after = f.out_lead + f.height * f.out_row
            clear(plane + after * 4, f.out_plane - after)
