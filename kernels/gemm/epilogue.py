"""The end of every product over planes: sums become outputs.

    y = activation(min(max(sum * (scale[n] * step) + bias[n], low), high))
    y = min(max(y + added, low'), high')        where planes are added
    y = clip(rint(y / out_step), least, most)   where the next layer reads 8 bits, as `maps.py` stores them

step is 1 for float32 and sign activations; for 8-bit ones it is the quantization step of the image. A product writes
the whole plane that it owns: outputs where the mask is set and what stands for zero elsewhere, so that the next
layer reads its padding from the same plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.gemm.tiles import LANES
from bwn.kernels.params import GemmParams
from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.scalars import get_f32, put_f32, put_i8, reader
from bwn.kernels.simd.shuffles import load_apart, store_apart
from bwn.kernels.simd.vectors import (
    F32,
    I8_16,
    I32,
    fma,
    keep,
    load,
    maximum,
    minimum,
    nearest,
    splat,
    store,
    store_bytes,
    to_int,
    zero,
)
from bwn.kernels.target.jit import helper

gemm_params = reader(GemmParams)


@helper
def clear(address: int, count: int) -> None:
    """Zero `count` float32 elements."""
    i = 0
    while i + LANES <= count:
        store(address, i, zero(F32))
        i += LANES
    while i < count:
        put_f32(address, i, 0.0)
        i += 1


@helper
def clear_bytes(address: int, count: int) -> None:
    """Zero `count` bytes, a multiple of 4, as planes are."""
    clear(address, count // 4)


@helper
def fill_bytes(address: int, count: int, value: Any) -> None:
    """Write the int8 `value` to `count` bytes."""
    i = 0
    while i + LANES <= count:
        store(address, i, splat(I8_16, value))
        i += LANES
    while i < count:
        put_i8(address, i, value)
        i += 1


@helper
def clamp(kind: Any, f: Any, y: Any, low: int) -> Any:
    """y within the bounds number `low` and low + 1. kind: of y, e.g. F32."""
    return minimum(
        maximum(y, splat(kind, get_f32(f.bounds, low))), splat(kind, get_f32(f.bounds, low + 1))
    )


@helper
def scaled(f: Any, sums: Any, n: int, step: Any) -> Any:
    """activation(min(max(sums * (scale[n] * step) + bias[n], low), high)). sums, step: F32."""
    y = fma(sums, splat(F32, get_f32(f.scale, n)) * step, splat(F32, get_f32(f.bias, n)))
    return activate(f.activation, clamp(F32, f, y, 0))


@helper
def finish(f: Any, sums: Any, image: int, n: int, position: int, step: Any) -> None:
    """Write the 16 outputs of channel n from `position` on. f: GemmParams. sums, step: F32."""
    put(F32, I32, f, scaled(f, sums, n, step), image, n, position)


@helper
def put(kind: Any, mask: Any, f: Any, y: Any, image: int, n: int, position: int) -> None:
    """Write outputs of channel n from `position` on, with what is added to them; what stands for zero off the mask.

    y: of `kind`, e.g. F32; the mask is of `mask`, I32.
    """
    if f.added != 0:
        y = clamp(kind, f, y + load(kind, added_plane(f, image, n), position), 2)
    plane, where = out_plane(f, image, n), load(mask, f.mask, position)
    if f.out_scale != 0:
        step = splat(kind, get_f32(f.out_scale, 0))
        put_rounded(
            kind,
            mask,
            plane,
            f.out_lead + position,
            y / step,
            get_f32(f.bounds, 4),
            get_f32(f.bounds, 5),
            where,
        )
    else:
        store(plane, f.out_lead + position, keep(y, where))


@helper
def put_rounded(
    kind: Any,
    mask: Any,
    address: int,
    index: int,
    quotients: Any,
    least: Any,
    most: Any,
    where: Any,
) -> None:
    """Store clip(rint(quotients), least, most) - (least + most) / 2 as int8; of 0 where the mask is 0."""
    q = minimum(maximum(nearest(quotients), splat(kind, least)), splat(kind, most))
    octets = to_int(keep(q, where)) - splat(mask, middle_of(least, most))
    store_bytes(address, index, octets, splat(mask, np.int32(-1)))


@helper
def middle_of(least: Any, most: Any) -> Any:
    """(least + most) / 2, as int32."""
    return np.int32((least + most) * np.float32(0.5))


@helper
def out_plane(f: Any, image: int, n: int) -> int:
    """Address of the first element of the plane of channel n."""
    return f.out + (image * f.out_image + n * f.out_plane) * (1 if f.out_scale != 0 else 4)


@helper
def blank(f: Any, plane: int, start: int, count: int) -> None:
    """Write what stands for zero to `count` elements of an output plane from element `start` on."""
    if f.out_scale != 0:
        fill_bytes(
            plane + start, count, np.int8(-middle_of(get_f32(f.bounds, 4), get_f32(f.bounds, 5)))
        )
    else:
        clear(plane + start * 4, count)


@helper
def added_plane(f: Any, image: int, n: int) -> int:
    """Address of position 0 of the plane that is added to channel n."""
    return f.added + (image * f.added_image + n * f.added_plane + f.added_lead) * 4


@helper
def finish_one(f: Any, total: Any, image: int, n: int, position: int, step: Any) -> None:
    """Write one output of channel n from its total, as `finish` does."""
    y = clamp_one(f, fma(total, get_f32(f.scale, n) * step, get_f32(f.bias, n)), 0)
    y = activate(f.activation, y)
    if f.added != 0:
        y = clamp_one(f, y + get_f32(added_plane(f, image, n), position), 2)
    plane = out_plane(f, image, n)
    if f.out_scale != 0:
        least, most = get_f32(f.bounds, 4), get_f32(f.bounds, 5)
        q = to_int(clamp_one(f, nearest(y / get_f32(f.out_scale, 0)), 4))
        put_i8(plane, f.out_lead + position, np.int8(q - middle_of(least, most)))
    else:
        put_f32(plane, f.out_lead + position, y)


@helper
def finish_channels(f: Any, totals: Any, image: int, n: int, position: int, step: Any) -> None:
    """Write one output of each of 16 channels from n on, as `finish_one` does. totals: F32."""
    scale = load(F32, f.scale, n) * splat(F32, step)
    y = clamp(F32, f, fma(totals, scale, load(F32, f.bias, n)), 0)
    y = activate(f.activation, y)
    if f.added != 0:
        added = added_plane(f, image, n) + position * 4
        y = clamp(F32, f, y + load_apart(F32, added, f.added_plane * 4), 2)
    plane, index = out_plane(f, image, n), f.out_lead + position
    if f.out_scale != 0:
        q = to_int(clamp(F32, f, nearest(y / splat(F32, get_f32(f.out_scale, 0))), 4))
        q = q - splat(I32, middle_of(get_f32(f.bounds, 4), get_f32(f.bounds, 5)))
        store_apart(I8_16, plane + index, f.out_plane, q)
    else:
        store_apart(F32, plane + index * 4, f.out_plane * 4, y)


@helper
def clamp_one(f: Any, y: Any, low: int) -> Any:
    """A number within the bounds number `low` and low + 1."""
    return minimum(maximum(y, get_f32(f.bounds, low)), get_f32(f.bounds, low + 1))


@helper
def clear_margins(f: Any, plane: int, first: bool, last: bool) -> None:
    """Blank what stands before the first position of an output plane, and what stands after its last vector."""
    if first:
        blank(f, plane, 0, f.out_lead)
    if last:
        end = f.out_lead + (f.positions + LANES - 1) // LANES * LANES
        blank(f, plane, end, f.out_plane - end)


@helper
def step_at(f: Any, image: int, position: int) -> Any:
    """The quantization step of one position: its own where a batch stands in the positions, else the image's."""
    return get_f32(f.x_scales, position if f.scale_per_position else image)


@helper
def steps_at(kind: Any, f: Any, image: int, position: int) -> Any:
    """The quantization steps of as many positions as `kind` has lanes."""
    if f.scale_per_position:
        return load(kind, f.x_scales, position)
    return splat(kind, get_f32(f.x_scales, image))
