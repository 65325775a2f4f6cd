"""Maximum and average over windows. A unit of work is one channel of one image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bwn.kernels.compiler import helper
from bwn.kernels.finish import clear_bytes
from bwn.kernels.memory import get_f32, get_i8, put_f32, put_i8, reader


class PoolFields(NamedTuple):
    """Fields of pooling. Sizes count elements."""

    x: int
    """Address of the first element of the first plane, padding included; likewise out."""
    x_image: int
    x_plane: int
    x_lead: int
    x_row: int
    height: int
    width: int
    out: int
    out_image: int
    out_plane: int
    out_lead: int
    out_row: int
    out_height: int
    out_width: int
    channels: int
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    top: int
    left: int
    window: int
    """What an average divides by; 0 for the number of positions inside the image."""


pool_fields = reader(PoolFields)


@helper
def pool(get: Any, put: Any, clear_size: int, start: Any, average: bool, p: int, begin: int, end: int) -> None:
    """Windows of channels begin..end-1, counted over all images."""
    f = pool_fields(p)
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        source = image * f.x_image + channel * f.x_plane + f.x_lead
        target = image * f.out_image + channel * f.out_plane
        clear_bytes(f.out + target * clear_size, f.out_plane * clear_size)
        for y in range(f.out_height):
            y0 = y * f.stride_y - f.top
            y1, y0 = min(y0 + f.kernel_y, f.height), max(y0, 0)
            for z in range(f.out_width):
                x0 = z * f.stride_x - f.left
                x1, x0 = min(x0 + f.kernel_x, f.width), max(x0, 0)
                value = nan = start
                for i in range(y0, y1):
                    for j in range(x0, x1):
                        here = get(f.x, source + i * f.x_row + j)
                        if average:
                            value += here
                        else:
                            value = here if here > value else value
                            nan = here if here != here else nan
                if nan != nan:  # one anywhere in the window
                    value = nan
                if average:
                    value /= np.float32(f.window if f.window > 0 else (y1 - y0) * (x1 - x0))
                put(f.out, target + f.out_lead + y * f.out_row + z, value)


def f32_f32_max_pool(p: int, begin: int, end: int, part: int) -> None:
    """Maximum of float32."""
    pool(get_f32, put_f32, 4, np.float32(-np.inf), False, p, begin, end)


def i8_i8_max_pool(p: int, begin: int, end: int, part: int) -> None:
    """Maximum of int8."""
    pool(get_i8, put_i8, 1, np.int8(-128), False, p, begin, end)


def f32_f32_average_pool(p: int, begin: int, end: int, part: int) -> None:
    """Average of float32."""
    pool(get_f32, put_f32, 4, np.float32(0.0), True, p, begin, end)
