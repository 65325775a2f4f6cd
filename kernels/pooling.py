"""Maximum and average over windows. A unit of work is one channel of one image."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
from __future__ import annotations

import numpy as np

from bwn.kernels.compiler import helper
from bwn.kernels.finish import clear_bytes
from bwn.kernels.memory import fields, get_f32, get_i8, put_f32, put_i8

POOL_FIELDS = (
    "x", "x_image", "x_plane", "x_lead", "x_row", "height", "width",
    "out", "out_image", "out_plane", "out_lead", "out_row", "out_height", "out_width",
    "images", "channels", "kernel_y", "kernel_x", "stride_y", "stride_x", "top", "left", "window",
)  # fmt: skip
"""Fields of pooling. x, out: addresses of the first element of the first plane, padding included. window: what an
average divides by, or 0 for the number of positions inside the image."""
POOL_COUNT = len(POOL_FIELDS)


@helper
def pool(get, put, clear_size, start, average, p, begin, end):
    """Windows of channels begin..end-1, counted over all images."""
    (
        x, x_image, x_plane, x_lead, x_row, height, width, out, out_image, out_plane, out_lead, out_row, out_height,
        out_width, images, channels, kernel_y, kernel_x, stride_y, stride_x, top, left, window,
    ) = fields(p, POOL_COUNT)  # fmt: skip
    for unit in range(begin, end):
        image, channel = unit // channels, unit % channels
        source = image * x_image + channel * x_plane + x_lead
        target = image * out_image + channel * out_plane
        clear_bytes(out + target * clear_size, out_plane * clear_size)
        for y in range(out_height):
            y0 = y * stride_y - top
            y1, y0 = min(y0 + kernel_y, height), max(y0, 0)
            for z in range(out_width):
                x0 = z * stride_x - left
                x1, x0 = min(x0 + kernel_x, width), max(x0, 0)
                value = start
                for i in range(y0, y1):
                    for j in range(x0, x1):
                        here = get(x, source + i * x_row + j)
                        if average:
                            value += here
                        else:
                            value = here if here > value else value
                if average:
                    value /= np.float32(window if window > 0 else (y1 - y0) * (x1 - x0))
                put(out, target + out_lead + y * out_row + z, value)


def f32_f32_max_pool(p, begin, end, part):
    """Maximum of float32."""
    pool(get_f32, put_f32, 4, np.float32(-np.inf), False, p, begin, end)


def i8_i8_max_pool(p, begin, end, part):
    """Maximum of int8."""
    pool(get_i8, put_i8, 1, np.int8(-128), False, p, begin, end)


def f32_f32_average_pool(p, begin, end, part):
    """Average of float32."""
    pool(get_f32, put_f32, 4, np.float32(0.0), True, p, begin, end)
