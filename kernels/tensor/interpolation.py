"""Linear interpolation of planes. A unit of work is one channel of one image.

Rows are mixed by vectors into scratch; columns, whose neighbors lie anywhere, one by one.
"""

from __future__ import annotations

from bwn.kernels.simd.scalars import get_f32, get_i64, put_f32, reader
from bwn.kernels.simd.vectors import F32, load, splat, store
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.tensor_params import ResizeParams

resize_params = reader(ResizeParams)


@helper
def mix_rows(first: int, second: int, weights: int, target: int, count: int) -> None:
    """target = weights[0] * first + weights[1] * second, of `count` elements and some beyond."""
    a, b = splat(F32, get_f32(weights, 0)), splat(F32, get_f32(weights, 1))
    for i in range(0, count, LANES):
        store(target, i, a * load(F32, first, i) + b * load(F32, second, i))


def f32_f32_resize(p: int, begin: int, end: int, part: int) -> None:
    """Write the elements of an output that has been cleared."""
    f = resize_params(p)
    mixed = f.scratch + part * f.scratch_part
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        source = f.x + (image * f.x_image + channel * f.x_plane) * 4
        target = f.out + (image * f.out_image + channel * f.out_plane) * 4
        for y in range(f.out_height):
            first = source + get_i64(f.rows, 2 * y) * f.x_row * 4
            second = source + get_i64(f.rows, 2 * y + 1) * f.x_row * 4
            mix_rows(first, second, f.row_weights + y * 8, mixed, f.width)
            for x in range(f.out_width):
                a = get_f32(mixed, get_i64(f.columns, 2 * x)) * get_f32(f.column_weights, 2 * x)
                b = get_f32(mixed, get_i64(f.columns, 2 * x + 1))
                put_f32(target, x, a + b * get_f32(f.column_weights, 2 * x + 1))
            target += f.out_row * 4
