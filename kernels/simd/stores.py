"""What kernels that write planes share: clearing, bounds, scale, bias and activation, rounding to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.arithmetic import fma, keep, maximum, minimum, nearest, to_int
from bwn.kernels.simd.scalars import get_f32, put_f32, put_i8
from bwn.kernels.simd.vectors import F32, I8_16, like, load, splat, store, store_bytes, zero
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper


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
def clamp(f: Any, y: Any, low: int) -> Any:
    """y, a vector or a number, within the bounds number `low` and low + 1."""
    return minimum(maximum(y, like(y, get_f32(f.bounds, low))), like(y, get_f32(f.bounds, low + 1)))


@helper
def scaled(f: Any, sums: Any, n: int, step: Any) -> Any:
    """activation(min(max(sums * (scale[n] * step) + bias[n], low), high)). sums, step: F32."""
    y = fma(sums, splat(F32, get_f32(f.scale, n)) * step, splat(F32, get_f32(f.bias, n)))
    return activate(f.activation, clamp(f, y, 0))


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
def steps_at(kind: Any, f: Any, image: int, position: int) -> Any:
    """The quantization steps of as many positions as `kind` has lanes."""
    if f.scale_per_position:
        return load(kind, f.x_scales, position)
    return splat(kind, get_f32(f.x_scales, image))
