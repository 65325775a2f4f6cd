"""Elementwise steps over planes: affine and clamp, addition, sign, quantization.

Input and output share the row stride, so position p of one is position p of the other. Like every step, these write
the whole plane of the output, with exact zeros where the mask is 0. A unit of work is one channel of one image.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
from __future__ import annotations

import math

import numpy as np

from bwn.kernels.finish import LANES, clear_bytes, clear_margins, finish, steps_at
from bwn.kernels.memory import fields, get_f32, put_f32
from bwn.kernels.vectors import (
    F32,
    I32,
    keep,
    load,
    load_bytes,
    magnitude,
    maximum,
    minimum,
    nearest,
    sign_of,
    splat,
    store,
    store_bytes,
    to_int,
    top_lane,
    zero,
)

MAP_FIELDS = (
    "x", "x_image", "x_plane", "x_lead", "other", "other_image", "other_plane", "other_lead",
    "out", "out_image", "out_plane", "out_lead", "images", "channels", "positions", "mask",
    "scale", "bias", "bounds", "steps", "steps_per_lane",
)  # fmt: skip
"""Fields of every elementwise step. x, other, out: addresses of the first element of the first plane, padding
included; mask as in PRODUCT_FIELDS; other: the second addend; steps: where quantization steps are read or written."""
MAP_COUNT = len(MAP_FIELDS)

LARGEST_8BIT = 127.0


def f32_f32_affine(p, begin, end, part):
    """y = clamp(scale[c] * x + bias[c], low, high)."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    one = splat(F32, np.float32(1.0))
    for unit in range(begin, end):
        image, channel = unit // channels, unit % channels
        source = x + (image * x_image + channel * x_plane + x_lead) * 4
        plane = out + (image * out_image + channel * out_plane) * 4
        for i in range(0, positions, LANES):
            here = plane + (out_lead + i) * 4
            finish(load(F32, source, i), here, mask + i * 4, scale, bias, bounds, channel, one)
        clear_margins(plane, out_plane, out_lead, positions, True, True)


def f32_f32_add(p, begin, end, part):
    """y = x + other."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    for unit in range(begin, end):
        image, channel = unit // channels, unit % channels
        source = x + (image * x_image + channel * x_plane + x_lead) * 4
        second = other + (image * other_image + channel * other_plane + other_lead) * 4
        plane = out + (image * out_image + channel * out_plane) * 4
        for i in range(0, positions, LANES):
            y = load(F32, source, i) + load(F32, second, i)
            store(plane, out_lead + i, keep(y, load(I32, mask, i)))
        clear_margins(plane, out_plane, out_lead, positions, True, True)


def f32_s1_sign(p, begin, end, part):
    """y = +1 where x >= 0, else -1, in int8; 0 in the padding."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    for unit in range(begin, end):
        image, channel = unit // channels, unit % channels
        source = x + (image * x_image + channel * x_plane + x_lead) * 4
        plane = out + image * out_image + channel * out_plane
        clear_bytes(plane, out_plane)
        for i in range(0, positions, LANES):
            store_bytes(plane, out_lead + i, sign_of(load(F32, source, i)), load(I32, mask, i))


def f32_f32_steps(p, begin, end, part):
    """Quantization steps of whole images: max |x| / 127, or 1 where that is 0. A unit is one image."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    for image in range(begin, end):
        top = zero(F32)
        for channel in range(channels):
            source = x + (image * x_image + channel * x_plane + x_lead) * 4
            for i in range(0, positions, LANES):
                top = maximum(top, magnitude(keep(load(F32, source, i), load(I32, mask, i))))
        step = top_lane(top) / np.float32(LARGEST_8BIT)
        put_f32(steps, image, step if step > 0 else np.float32(1.0))


def f32_f32_steps_lanes(p, begin, end, part):
    """Quantization steps of a batch that stands in the positions. A unit is one position."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    for position in range(begin, end):
        top = np.float32(0.0)
        for channel in range(channels):
            value = abs(get_f32(x, channel * x_plane + x_lead + position))
            top = value if value > top else top
        step = top / np.float32(LARGEST_8BIT)
        put_f32(steps, position, step if step > 0 else np.float32(1.0))


def f32_i8_quantize(p, begin, end, part):
    """q = clip(rint(x / step), -127, 127), halves to even."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    top = splat(F32, np.float32(LARGEST_8BIT))
    for unit in range(begin, end):
        image, channel = unit // channels, unit % channels
        source = x + (image * x_image + channel * x_plane + x_lead) * 4
        plane = out + image * out_image + channel * out_plane
        clear_bytes(plane, out_plane)
        for i in range(0, positions, LANES):
            q = nearest(load(F32, source, i) / steps_at(steps, image, i, steps_per_lane))
            q = minimum(maximum(q, zero(F32) - top), top)
            store_bytes(plane, out_lead + i, to_int(q), load(I32, mask, i))


def f32_f32_softmax(p, begin, end, part):
    """y = exp(x - max x) / sum exp(x - max x) over the channels. A unit is one position of image 0."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    for position in range(begin, end):
        top = -np.inf
        for channel in range(channels):
            top = max(top, np.float64(get_f32(x, channel * x_plane + x_lead + position)))
        whole = 0.0
        for channel in range(channels):
            whole += math.exp(get_f32(x, channel * x_plane + x_lead + position) - top)
        for channel in range(channels):
            y = math.exp(get_f32(x, channel * x_plane + x_lead + position) - top) / whole
            put_f32(out, channel * out_plane + out_lead + position, np.float32(y))


def i8_f32_float(p, begin, end, part):
    """y = x, from int8."""
    (
        x, x_image, x_plane, x_lead, other, other_image, other_plane, other_lead, out, out_image, out_plane, out_lead,
        images, channels, positions, mask, scale, bias, bounds, steps, steps_per_lane,
    ) = fields(p, MAP_COUNT)  # fmt: skip
    for unit in range(begin, end):
        image, channel = unit // channels, unit % channels
        source = x + image * x_image + channel * x_plane + x_lead
        plane = out + (image * out_image + channel * out_plane) * 4
        for i in range(0, positions, LANES):
            store(plane, out_lead + i, keep(load_bytes(source, i), load(I32, mask, i)))
        clear_margins(plane, out_plane, out_lead, positions, True, True)
