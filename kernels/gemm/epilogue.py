"""The epilogue of every GEMM that writes planes: sums become outputs.

    y = activation(clamp(sum * (scale[n] * x_scale) + bias[n], low, high))
    y = clamp(y + added, low', high')               where planes are added
    y = clip(rint(y / out_scale), qmin, qmax)       where the next layer reads 8 bits

x_scale is 1 for float32 and sign activations; for 8-bit ones it is the quantization scale of the
image. 8-bit outputs are stored as `tensor/elementwise.py` describes. A kernel writes the whole
planes that it owns: outputs where the mask is set, and elsewhere what represents zero, so that the
next layer reads its padding from the same plane.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bwn.kernels.gemm.gemm_params import GemmParams
from bwn.kernels.simd.activations import activate, activate_number
from bwn.kernels.simd.arithmetic import fma, keep, maximum, minimum, nearest, to_int
from bwn.kernels.simd.quantizing import quantized_bytes, store_octets
from bwn.kernels.simd.scalars import get_f32, put_f32, put_i8, reader
from bwn.kernels.simd.shuffles import load_apart, store_alone, store_apart
from bwn.kernels.simd.stores import (
    clamp,
    clear,
    fill_bytes,
    midpoint,
    scale_and_activate,
    store_quantized,
    x_scales_at,
)
from bwn.kernels.simd.vectors import (
    F32,
    I8_16,
    I32,
    load,
    splat,
    store,
)
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper

gemm_params = reader(GemmParams)


@helper
def write_positions(f: Any, sums: Any, image: int, n: int, position: int, x_scale: Any) -> None:
    """Write the 16 outputs of channel n from `position` on. sums, x_scale: F32."""
    write_outputs(F32, I32, f, scale_and_activate(f, sums, n, x_scale), image, n, position)


@helper
def write_row(f: Any, totals: int, image: int, n: int, position: int, stop: int) -> None:
    """Write outputs position..stop-1 of channel n from their sums at `totals`, by whole vectors."""
    if is_quantized(f):
        end, plane = quantized_end(f, image, n), out_plane(f, image, n)
        for i in range(0, stop - position, LANES):
            store_quantized_sums(f, end, load(F32, totals, i), plane, position + i)
        return
    if f.added != 0 or f.rounding != 0 or f.scale_per_position != 0:
        for i in range(0, stop - position, LANES):
            x_scale = x_scales_at(F32, f, image, position + i)
            write_positions(f, load(F32, totals, i), image, n, position + i, x_scale)
        return
    # The frequent case without what is the same for all vectors.
    scale = splat(F32, get_f32(f.scale, n) * get_f32(f.x_scales, image))
    bias = splat(F32, get_f32(f.bias, n))
    low, high = splat(F32, get_f32(f.bounds, 0)), splat(F32, get_f32(f.bounds, 1))
    out, mask = out_plane(f, image, n) + (f.out_lead + position) * 4, f.mask + position * 4
    for i in range(0, stop - position, LANES):
        y = minimum(maximum(fma(load(F32, totals, i), scale, bias), low), high)
        store(out, i, keep(activate(f.activation, y), load(I32, mask, i)))


@helper
def write_outputs(
    kind: Any, mask_kind: Any, f: Any, y: Any, image: int, n: int, position: int
) -> None:
    """Write outputs of channel n from `position` on, from what `scale_and_activate` made of sums.

    y: of `kind`, e.g. F32; the mask is read as `mask_kind`, e.g. I32.
    """
    if f.added != 0:
        y = clamp(f, y + load(kind, added_plane(f, image, n), position), 2)
    plane, index = out_plane(f, image, n), f.out_lead + position
    mask = load(mask_kind, f.mask, position)
    if f.rounding != 0:
        quotients = y / splat(kind, get_f32(f.rounding, 0))
        qmin, qmax = get_f32(f.bounds, 4), get_f32(f.bounds, 5)
        store_quantized(plane, index, quotients, qmin, qmax, mask)
    else:
        store(plane, index, keep(y, mask))


@helper
def is_plain(f: Any) -> bool:
    """Whether sums end with scale, bias and bounds alone, the same at all positions of an image."""
    return f.activation == 0 and f.added == 0 and f.scale_per_position == 0


@helper
def is_quantized(f: Any) -> bool:
    """Whether the same is true of sums that end as 8-bit integers."""
    return is_plain(f) and f.rounding != 0


class QuantizedEnd(NamedTuple):
    """What ends the sums of a channel in one image, where `is_quantized` is.

    Attributes:
        scale: Factor of the sums.
        bias: Added to them.
        reciprocal: Of the scale of the outputs.
        rest: What that float32 lacks.
        low: Least output before rounding.
        high: Greatest output before rounding.
        middle: What outputs are stored less.
    """

    scale: Any
    bias: Any
    reciprocal: Any
    rest: Any
    low: Any
    high: Any
    middle: Any


@helper
def quantized_end(f: Any, image: int, n: int) -> Any:
    """The end of the sums of channel n."""
    return QuantizedEnd(
        get_f32(f.scale, n) * get_f32(f.x_scales, image),
        get_f32(f.bias, n),
        get_f32(f.rounding, 1),
        get_f32(f.rounding, 2),
        get_f32(f.rounding, 3),
        get_f32(f.rounding, 4),
        np.int32(get_f32(f.rounding, 5)),
    )


@helper
def end_in_bytes(kind: Any, sums: Any, end: Any) -> Any:
    """The int8 outputs of sums, which are of `kind`."""
    y = fma(sums, splat(kind, end.scale), splat(kind, end.bias))
    return quantized_bytes(y, end.low, end.high, end.reciprocal, end.rest, end.middle)


@helper
def store_quantized_sums(f: Any, end: Any, sums: Any, plane: int, position: int) -> None:
    """Write 16 outputs from `position` on. plane: address of the channel's outputs. sums: F32."""
    octets, mask = end_in_bytes(F32, sums, end), load(I32, f.mask, position)
    store_octets(plane, f.out_lead + position, octets, mask, np.int8(-end.middle))


@helper
def out_plane(f: Any, image: int, n: int) -> int:
    """Address of the first element of the plane of channel n."""
    return f.out + (image * f.out_image + n * f.out_plane) * (1 if f.rounding != 0 else 4)


@helper
def fill_padding(f: Any, plane: int, start: int, count: int) -> None:
    """Write what represents zero to `count` elements of an output plane from element `start` on."""
    if f.rounding != 0:
        zero = -midpoint(get_f32(f.bounds, 4), get_f32(f.bounds, 5))
        fill_bytes(plane + start, count, np.int8(zero))
    else:
        clear(plane + start * 4, count)


@helper
def fill_margins(f: Any, plane: int, first: bool, last: bool) -> None:
    """Fill the padding before the first position of an output plane, and after its last vector."""
    if first:
        fill_padding(f, plane, 0, f.out_lead)
    if last:
        end = f.out_lead + (f.positions + LANES - 1) // LANES * LANES
        fill_padding(f, plane, end, f.out_plane - end)


@helper
def added_plane(f: Any, image: int, n: int) -> int:
    """Address of position 0 of the plane that is added to channel n."""
    return f.added + (image * f.added_image + n * f.added_plane + f.added_lead) * 4


@helper
def write_one(f: Any, total: Any, image: int, n: int, position: int, x_scale: Any) -> None:
    """Write one output of channel n from its sum, whatever the mask. total, x_scale: numbers."""
    y = clamp(f, fma(total, get_f32(f.scale, n) * x_scale, get_f32(f.bias, n)), 0)
    y = activate_number(f.activation, y)
    if f.added != 0:
        y = clamp(f, y + get_f32(added_plane(f, image, n), position), 2)
    plane = out_plane(f, image, n)
    if f.rounding != 0:
        qmin, qmax = get_f32(f.bounds, 4), get_f32(f.bounds, 5)
        q = to_int(clamp(f, nearest(y / get_f32(f.rounding, 0)), 4))
        put_i8(plane, f.out_lead + position, np.int8(q - midpoint(qmin, qmax)))
    else:
        put_f32(plane, f.out_lead + position, y)


@helper
def write_channels(f: Any, totals: Any, image: int, n: int, position: int, x_scale: Any) -> None:
    """Write one output of each of 16 channels from n on, as `write_one` does. totals: F32."""
    scale = load(F32, f.scale, n) * splat(F32, x_scale)
    y = fma(totals, scale, load(F32, f.bias, n))
    plane = out_plane(f, image, n)
    if f.rounding != 0 and f.activation == 0 and f.added == 0:
        end = quantized_end(f, image, n)
        octets = quantized_bytes(y, end.low, end.high, end.reciprocal, end.rest, end.middle)
        store_channels(f, I8_16, plane, position, octets, np.int8(-end.middle))
        return
    y = activate(f.activation, clamp(f, y, 0))
    if f.added != 0:
        added = added_plane(f, image, n) + position * 4
        y = clamp(f, y + load_apart(F32, added, f.added_plane * 4), 2)
    if f.rounding != 0:
        q = to_int(clamp(f, nearest(y / splat(F32, get_f32(f.rounding, 0))), 4))
        middle = midpoint(get_f32(f.bounds, 4), get_f32(f.bounds, 5))
        store_channels(f, I8_16, plane, position, q - splat(I32, middle), np.int8(-middle))
    else:
        store_channels(f, F32, plane, position, y, np.float32(0.0))


@helper
def is_alone(f: Any) -> bool:
    """Whether an output plane is one vector, of one output."""
    return f.positions == 1 and f.out_lead == 0 and f.out_plane == LANES


@helper
def store_channels(f: Any, kind: Any, plane: int, position: int, values: Any, padding: Any) -> None:
    """Store an output of each of 16 channels, of `kind`; the whole planes where `is_alone` is.

    plane: address of the first channel's.
    """
    if is_alone(f):
        store_alone(kind, plane, values, padding)
    else:
        size = 1 if f.rounding != 0 else 4
        store_apart(kind, plane + (f.out_lead + position) * size, f.out_plane * size, values)


@helper
def x_scale_at(f: Any, image: int, position: int) -> Any:
    """The quantization scale of one position: its own, or that of its image."""
    return get_f32(f.x_scales, position if f.scale_per_position else image)
