"""What combines channels: softmax, normalization, local response normalization.

Positions are in the lanes, channels in the loop. Where a unit of work is a block of 16 positions of
one image, the unit of block 0 also clears the padding of all channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.simd import elementary
from bwn.kernels.simd.arithmetic import fma, greatest, keep, square_root
from bwn.kernels.simd.scalars import get_f32, reader
from bwn.kernels.simd.shuffles import total
from bwn.kernels.simd.vectors import F32, I32, like, load, splat, store, zero
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.elementwise import clear_padding
from bwn.kernels.tensor.tensor_params import ChannelParams

channel_params = reader(ChannelParams)


@helper
def _planes(f: Any, image: int, channel: int, i: int) -> tuple[int, int]:
    """Addresses of position i of a channel's input and output."""
    source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead + i) * 4
    target = f.out + (image * f.out_image + channel * f.out_plane + f.out_lead + i) * 4
    return source, target


@helper
def _clear_image(f: Any, image: int) -> None:
    """Zero the padding of all channels."""
    for channel in range(f.channels):
        clear_padding(f, f.out + (image * f.out_image + channel * f.out_plane) * 4)


def f32_f32_softmax(p: int, begin: int, end: int, part: int) -> None:
    """y = exp(x - max x) / sum exp(x - max x) over the channels, or its logarithm."""
    f = channel_params(p)
    for unit in range(begin, end):
        image, i = unit // f.blocks, unit % f.blocks * LANES
        x, out = _planes(f, image, 0, i)
        mask, top, whole = load(I32, f.mask, i), load(F32, x, 0), zero(F32)
        for channel in range(1, f.channels):
            top = greatest(top, load(F32, x, channel * f.x_plane))
        for channel in range(f.channels):
            e = elementary.exp(load(F32, x, channel * f.x_plane) - top)
            whole = whole + e
            store(out, channel * f.out_plane, e)
        log_whole = elementary.log(whole)
        for channel in range(f.channels):
            if f.log != 0:
                y = (load(F32, x, channel * f.x_plane) - top) - log_whole
            else:
                y = load(F32, out, channel * f.out_plane) / whole
            store(out, channel * f.out_plane, keep(y, mask))
        if i == 0:
            _clear_image(f, image)


def f32_f32_layer_norm(p: int, begin: int, end: int, part: int) -> None:
    """y = scale[c] * (x - mean) / sqrt(variance + epsilon) + bias[c] over the channels."""
    f = channel_params(p)
    for unit in range(begin, end):
        image, i = unit // f.blocks, unit % f.blocks * LANES
        x, out = _planes(f, image, 0, i)
        mask, mean, variance = load(I32, f.mask, i), zero(F32), zero(F32)
        count = splat(F32, np.float32(f.channels))
        for channel in range(f.channels):
            mean = mean + load(F32, x, channel * f.x_plane)
        mean = mean / count
        for channel in range(f.channels):
            d = load(F32, x, channel * f.x_plane) - mean
            variance = fma(d, d, variance)
        variance = variance / count + splat(F32, get_f32(f.coefficients, 0))
        factor = splat(F32, np.float32(1.0)) / square_root(variance)
        for channel in range(f.channels):
            d = (load(F32, x, channel * f.x_plane) - mean) * factor
            scale = splat(F32, get_f32(f.scale, channel))
            y = fma(d, scale, splat(F32, get_f32(f.bias, channel)))
            store(out, channel * f.out_plane, keep(y, mask))
        if i == 0:
            _clear_image(f, image)


def f32_f32_group_norm(p: int, begin: int, end: int, part: int) -> None:
    """y = scale[c] * (x - mean) / sqrt(variance + epsilon) + bias[c] over each group of channels.

    A unit is one group of one image.
    """
    f = channel_params(p)
    channels = f.channels // f.groups
    for unit in range(begin, end):
        image, first = unit // f.groups, unit % f.groups * channels
        whole, squares = 0.0, 0.0
        for channel in range(first, first + channels):
            x, _ = _planes(f, image, channel, 0)
            sums = zero(F32)
            for i in range(0, f.positions, LANES):
                sums = sums + keep(load(F32, x, i), load(I32, f.mask, i))
            whole += total(sums)
        mean = splat(F32, np.float32(whole / (channels * f.size)))
        for channel in range(first, first + channels):
            x, _ = _planes(f, image, channel, 0)
            sums = zero(F32)
            for i in range(0, f.positions, LANES):
                d = keep(load(F32, x, i) - mean, load(I32, f.mask, i))
                sums = fma(d, d, sums)
            squares += total(sums)
        variance = squares / (channels * f.size) + get_f32(f.coefficients, 0)
        factor = np.float32(1.0 / np.sqrt(variance))
        for channel in range(first, first + channels):
            x, out = _planes(f, image, channel, 0)
            scale = splat(F32, factor * get_f32(f.scale, channel))
            bias = splat(F32, get_f32(f.bias, channel))
            for i in range(0, f.positions, LANES):
                y = fma(load(F32, x, i) - mean, scale, bias)
                store(out, i, keep(y, load(I32, f.mask, i)))
            clear_padding(f, f.out + (image * f.out_image + channel * f.out_plane) * 4)


def f32_f32_local_response(p: int, begin: int, end: int, part: int) -> None:
    """y = x / (k + a * sum of x**2 over channels c - before .. c + after) ** beta.

    A unit is one channel of one image. coefficients: k, a, -beta.
    """
    f = channel_params(p)
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        x, out = _planes(f, image, channel, 0)
        low, high = max(-f.before, -channel), min(f.after, f.channels - 1 - channel)
        for i in range(0, f.positions, LANES):
            squares = zero(F32)
            for c in range(low, high + 1):
                v = load(F32, x, c * f.x_plane + i)
                squares = fma(v, v, squares)
            k = splat(F32, get_f32(f.coefficients, 0))
            base = fma(squares, splat(F32, get_f32(f.coefficients, 1)), k)
            y = load(F32, x, i) * elementary.power(base, like(base, get_f32(f.coefficients, 2)))
            store(out, i, keep(y, load(I32, f.mask, i)))
        clear_padding(f, f.out + (image * f.out_image + channel * f.out_plane) * 4)
