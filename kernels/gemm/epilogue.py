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

from bwn.kernels.params import GemmParams
from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.arithmetic import fma, keep, nearest, to_int
from bwn.kernels.simd.scalars import get_f32, put_f32, put_i8, reader
from bwn.kernels.simd.shuffles import load_apart, store_apart
from bwn.kernels.simd.stores import clamp, clear, fill_bytes, middle_of, put_rounded, scaled
from bwn.kernels.simd.vectors import F32, I8_16, I32, load, splat, store
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper

gemm_params = reader(GemmParams)


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
        y = clamp(f, y + load(kind, added_plane(f, image, n), position), 2)
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
    y = clamp(f, fma(total, get_f32(f.scale, n) * step, get_f32(f.bias, n)), 0)
    y = activate(f.activation, y)
    if f.added != 0:
        y = clamp(f, y + get_f32(added_plane(f, image, n), position), 2)
    plane = out_plane(f, image, n)
    if f.out_scale != 0:
        least, most = get_f32(f.bounds, 4), get_f32(f.bounds, 5)
        q = to_int(clamp(f, nearest(y / get_f32(f.out_scale, 0)), 4))
        put_i8(plane, f.out_lead + position, np.int8(q - middle_of(least, most)))
    else:
        put_f32(plane, f.out_lead + position, y)


@helper
def finish_channels(f: Any, totals: Any, image: int, n: int, position: int, step: Any) -> None:
    """Write one output of each of 16 channels from n on, as `finish_one` does. totals: F32."""
    scale = load(F32, f.scale, n) * splat(F32, step)
    y = clamp(f, fma(totals, scale, load(F32, f.bias, n)), 0)
    y = activate(f.activation, y)
    if f.added != 0:
        added = added_plane(f, image, n) + position * 4
        y = clamp(f, y + load_apart(F32, added, f.added_plane * 4), 2)
    plane, index = out_plane(f, image, n), f.out_lead + position
    if f.out_scale != 0:
        q = to_int(clamp(f, nearest(y / splat(F32, get_f32(f.out_scale, 0))), 4))
        q = q - splat(I32, middle_of(get_f32(f.bounds, 4), get_f32(f.bounds, 5)))
        store_apart(I8_16, plane + index, f.out_plane, q)
    else:
        store_apart(F32, plane + index * 4, f.out_plane * 4, y)


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
