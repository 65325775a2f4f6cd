"""Quantization that is undone at once: each element becomes the nearest of a few numbers.

    q = clip(round(x / scale + zero), low, high)
    y = (q - zero) * scale

Scale and bounds are constant, or measured for each image as ONNX's DynamicQuantizeLinear does.
Planes are as in `elementwise.py`; a unit of work is one channel of one image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.simd.arithmetic import fma, keep, maximum, minimum, nearest
from bwn.kernels.simd.float_bits import ceil, floor
from bwn.kernels.simd.scalars import get_f32, put_f32, reader
from bwn.kernels.simd.shuffles import top_lane, total
from bwn.kernels.simd.vectors import F32, I32, load, splat, store, zero
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.codes import Rounding
from bwn.kernels.tensor.elementwise import clear_padding
from bwn.kernels.tensor.tensor_params import FakeQuantizeParams

fake_quantize_params = reader(FakeQuantizeParams)

LEVELS = np.float32(255.0)
"""Steps between the smallest and the largest of 256 values."""


@helper
def _number(f: Any, address: int, image: int, position: int) -> Any:
    """A scale or bound of 16 positions."""
    if f.scale_per_position != 0:
        return load(F32, address, position)
    return splat(F32, get_f32(address, image))


@helper
def _map(rounded: Any, f: Any, begin: int, end: int) -> None:
    """Planes begin..end-1, counted over all images, by a function that rounds."""
    shift = splat(F32, get_f32(f.zero, 0))
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        for i in range(0, f.positions, LANES):
            scale = _number(f, f.scales, image, i)
            q = rounded(load(F32, source, i) / scale + shift)
            low, high = _number(f, f.lows, image, i), _number(f, f.highs, image, i)
            y = (minimum(maximum(q, low), high) - shift) * scale
            store(plane, f.out_lead + i, keep(y, load(I32, f.mask, i)))
        clear_padding(f, plane)


def f32_f32_fake_quantize(p: int, begin: int, end: int, part: int) -> None:
    """y = (clip(round(x / scale + zero), low, high) - zero) * scale."""
    f = fake_quantize_params(p)
    if f.rounding == Rounding.FLOOR:
        _map(floor, f, begin, end)
    elif f.rounding == Rounding.CEIL:
        _map(ceil, f, begin, end)
    else:
        _map(nearest, f, begin, end)


@helper
def _put_range(f: Any, at: int, low: Any, high: Any, nan: Any) -> None:
    """Scale and bounds of 256 values from `low`, at most 0, to `high`, at least 0.

    nan: 0, or NaN where a value is not finite, which makes all outputs of the image NaN.
    """
    scale = (high - low) / LEVELS + nan
    scale = np.float32(1.0) if scale == 0 else scale
    point = nearest(minimum(maximum(-low / scale, np.float32(0.0)), LEVELS))
    put_f32(f.scales, at, scale)
    put_f32(f.lows, at, -point)
    put_f32(f.highs, at, LEVELS - point)


def f32_f32_ranges(p: int, begin: int, end: int, part: int) -> None:
    """Scale and bounds of whole images, from their smallest and largest numbers. A unit is one
    image. A NaN or an infinity makes all outputs of the image NaN.
    """
    f = fake_quantize_params(p)
    for image in range(begin, end):
        high, low, nan = zero(F32), zero(F32), zero(F32)  # low: of -x
        for channel in range(f.channels):
            source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
            for i in range(0, f.positions, LANES):
                values = load(F32, source, i)  # padding is 0
                high, low = maximum(high, values), maximum(low, -values)
                nan = fma(values, zero(F32), nan)
        _put_range(f, image, -top_lane(low), top_lane(high), total(nan))


def f32_f32_ranges_lanes(p: int, begin: int, end: int, part: int) -> None:
    """Scale and bounds of a batch whose images are the positions. A unit is one position."""
    f = fake_quantize_params(p)
    for position in range(begin, end):
        high, low, nan = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for channel in range(f.channels):
            value = get_f32(f.x, channel * f.x_plane + f.x_lead + position)
            high = value if value > high else high
            low = value if value < low else low
            nan += value * np.float32(0.0)
        _put_range(f, position, low, high, nan)
