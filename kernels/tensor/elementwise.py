"""Elementwise kernels over planes: affine and clamp, sign, quantization.

Inputs and output share the row stride, so position p of one is position p of the others. Like every
kernel, these write the whole plane of the output, with exact zeros where the mask is 0. A unit of
work is one channel of one image.

8-bit activations q = clip(rint(x / scale), qmin, qmax) are in -127..127 or in 0..254. They are
stored less the midpoint m = (qmin + qmax) / 2, so that every GEMM reads -127..127, and padding, q =
0, is stored as -m. What the sums of a GEMM then lack is the same for all positions, its zero-point
correction:

    sum_k s[n, k] * q[k] = sum_k s[n, k] * (q[k] - m) + correction[n]
    correction[n] = m * sum_k s[n, k]

Both terms on the right are integers within 2**24, exact in float32: their sum is rounded once, like
any other integer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.simd.arithmetic import fma, keep, magnitude, maximum, sign_of, to_int
from bwn.kernels.simd.scalars import get_f32, put_f32, reader
from bwn.kernels.simd.shuffles import load_apart, store_alone, store_apart, top_lane, total
from bwn.kernels.simd.stores import (
    clear,
    clear_bytes,
    fill_bytes,
    midpoint,
    quantized,
    scale_and_activate,
    store_quantized,
    x_scales_at,
)
from bwn.kernels.simd.vectors import (
    F32,
    F32_4,
    I8_16,
    I32,
    I32_4,
    load,
    load_bytes,
    splat,
    store,
    store_bytes,
    zero,
)
from bwn.kernels.simd.widths import LANES, NARROW
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.tensor_params import ElementwiseParams

elementwise_params = reader(ElementwiseParams)


@helper
def clear_padding(f: Any, plane: int) -> None:
    """Zero the padding before the first position of a float32 plane, and after its last vector."""
    clear(plane, f.out_lead)
    end = f.out_lead + (f.positions + LANES - 1) // LANES * LANES
    clear(plane + end * 4, f.out_plane - end)


@helper
def map_planes(formula: Any, x_bytes: int, p: int, begin: int, end: int) -> None:
    """y = formula(x), float32, of planes begin..end-1, counted over all images.

    formula(f, source, image, channel, i): 16 outputs of a channel from position i on; source is the
    address of position 0 of its input. x_bytes: of an element of x.
    """
    f = elementwise_params(p)
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * x_bytes
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        for i in range(0, f.positions, LANES):
            y = formula(f, source, image, channel, i)
            store(plane, f.out_lead + i, keep(y, load(I32, f.mask, i)))
        clear_padding(f, plane)


@helper
def affine(f: Any, source: int, image: int, channel: int, i: int) -> Any:
    """activation(clamp(scale[c] * x + bias[c], low, high))."""
    return scale_and_activate(f, load(F32, source, i), channel, splat(F32, np.float32(1.0)))


def f32_f32_affine(p: int, begin: int, end: int, part: int) -> None:
    """y = activation(clamp(scale[c] * x + bias[c], low, high))."""
    map_planes(affine, 4, p, begin, end)


@helper
def widened(f: Any, source: int, image: int, channel: int, i: int) -> Any:
    """x, from int8."""
    return load_bytes(source, i)


def i8_f32_float(p: int, begin: int, end: int, part: int) -> None:
    """y = x, from int8."""
    map_planes(widened, 1, p, begin, end)


def f32_s1_sign(p: int, begin: int, end: int, part: int) -> None:
    """y = +1 where x >= 0, else -1, in int8; 0 in the padding."""
    f = elementwise_params(p)
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
        plane = f.out + image * f.out_image + channel * f.out_plane
        clear_bytes(plane, f.out_plane)
        for i in range(0, f.positions, LANES):
            store_bytes(plane, f.out_lead + i, sign_of(load(F32, source, i)), load(I32, f.mask, i))


def f32_f32_scales(p: int, begin: int, end: int, part: int) -> None:
    """Quantization scales of whole images: max |x| / qmax, or 1 where that is 0. A unit is one
    image.

    A NaN or an infinity makes the scale a NaN, and with it all outputs of the image.
    """
    f = elementwise_params(p)
    for image in range(begin, end):
        top, nan = zero(F32), zero(F32)  # nan: 0 unless a value is not finite
        for channel in range(f.channels):
            source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
            for i in range(0, f.positions, LANES):
                values = load(F32, source, i)  # padding is 0
                top, nan = maximum(top, magnitude(values)), fma(values, zero(F32), nan)
        scale = top_lane(top) / get_f32(f.bounds, 1) + total(nan)
        put_f32(f.x_scales, image, np.float32(1.0) if scale == 0 else scale)


def f32_f32_scales_lanes(p: int, begin: int, end: int, part: int) -> None:
    """Quantization scales of a batch whose images are the positions. A unit is one position."""
    f = elementwise_params(p)
    for position in range(begin, end):
        top, nan = np.float32(0.0), np.float32(0.0)
        for channel in range(f.channels):
            value = abs(get_f32(f.x, channel * f.x_plane + f.x_lead + position))
            top = value if value > top else top
            nan += value * np.float32(0.0)
        scale = top / get_f32(f.bounds, 1) + nan
        put_f32(f.x_scales, position, np.float32(1.0) if scale == 0 else scale)


@helper
def quantize_numbers(f: Any, begin: int, end: int, qmin: Any, qmax: Any) -> int:
    """Quantize planes of one position, 16 at a time; returns the first plane that is left."""
    middle = midpoint(qmin, qmax)
    padding = np.int8(-middle)
    scale = splat(F32, get_f32(f.x_scales, 0))
    for channel in range(begin, end - LANES + 1, LANES):
        source = f.x + (channel * f.x_plane + f.x_lead) * 4
        plane = f.out + channel * f.out_plane
        q = quantized(F32, load_apart(F32, source, f.x_plane * 4) / scale, qmin, qmax)
        octets = to_int(q) - splat(I32, middle)
        if f.out_lead == 0 and f.out_plane == LANES:
            store_alone(I8_16, plane, octets, padding)
        else:
            fill_bytes(plane, LANES * f.out_plane, padding)
            store_apart(I8_16, plane + f.out_lead, f.out_plane, octets)
    return begin + (end - begin) // LANES * LANES


def f32_i8_quantize(p: int, begin: int, end: int, part: int) -> None:
    """q - m, q = clip(rint(x / scale), qmin, qmax), halves to even; -m in the padding."""
    f = elementwise_params(p)
    qmin, qmax = get_f32(f.bounds, 0), get_f32(f.bounds, 1)
    padding = np.int8(-midpoint(qmin, qmax))
    if begin < end <= f.channels and f.positions == 1:
        begin = quantize_numbers(f, begin, end, qmin, qmax)
    if begin == end:
        return  # there may be no scale to read
    mask, paddings = load(I32_4, f.mask, 0), splat(I8_16, padding)
    image, channel = begin // f.channels, begin % f.channels - 1
    scales = x_scales_at(F32_4, f, image, 0)
    for _unit in range(begin, end):
        channel += 1  # a division a plane is a third of the time of a batch of vectors
        if channel == f.channels:
            image, channel = image + 1, 0
            scales = x_scales_at(F32_4, f, image, 0)
        source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
        plane = f.out + image * f.out_image + channel * f.out_plane
        if f.positions <= NARROW:  # a small batch of vectors: narrow divisions are faster
            for i in range(0, f.out_plane, LANES):
                store(plane, i, paddings)
            quotients = load(F32_4, source, 0) / scales
            store_quantized(plane, f.out_lead, quotients, qmin, qmax, mask)
            continue
        if f.out_lead > 0 or f.out_plane > (f.positions + LANES - 1) // LANES * LANES:
            fill_bytes(plane, f.out_plane, padding)
        for i in range(0, f.positions, LANES):
            wide = load(F32, source, i) / x_scales_at(F32, f, image, i)
            wide_mask = load(I32, f.mask, i)
            store_quantized(plane, f.out_lead + i, wide, qmin, qmax, wide_mask)
