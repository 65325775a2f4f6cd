"""What kernels that write planes share: clearing, bounds, scale and bias, quantizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.arithmetic import fma, maximum, minimum, nearest
from bwn.kernels.simd.quantizing import bounded, store_octets, whole_bytes
from bwn.kernels.simd.scalars import get_f32, put_f32, put_i8
from bwn.kernels.simd.vectors import F32, I8_16, like, load, splat, store, zero
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
def scale_and_activate(f: Any, sums: Any, n: int, x_scale: Any) -> Any:
    """activation(clamp(sums * (scale[n] * x_scale) + bias[n], low, high)). sums, x_scale: F32."""
    y = fma(sums, splat(F32, get_f32(f.scale, n)) * x_scale, splat(F32, get_f32(f.bias, n)))
    return activate(f.activation, clamp(f, y, 0))


@helper
def store_quantized(
    address: int, index: int, quotients: Any, qmin: Any, qmax: Any, mask: Any
) -> None:
    """Store clip(rint(quotients), qmin, qmax) - midpoint as int8; -midpoint where the mask is 0.

    quotients: values divided by their scale, e.g. F32. mask: int32 lanes.
    """
    middle = midpoint(qmin, qmax)
    octets = whole_bytes(bounded(quotients, like(quotients, qmin), like(quotients, qmax)), middle)
    store_octets(address, index, octets, mask, np.int8(-middle))


@helper
def quantized(kind: Any, quotients: Any, qmin: Any, qmax: Any) -> Any:
    """clip(rint(quotients), qmin, qmax), of `kind`."""
    return minimum(maximum(nearest(quotients), splat(kind, qmin)), splat(kind, qmax))


@helper
def midpoint(qmin: Any, qmax: Any) -> Any:
    """(qmin + qmax) / 2, as int32: what 8-bit activations are stored less, so as to fit int8."""
    return np.int32((qmin + qmax) * np.float32(0.5))


@helper
def x_scales_at(kind: Any, f: Any, image: int, position: int) -> Any:
    """The quantization scales of as many positions as `kind` has lanes."""
    if f.scale_per_position:
        return load(kind, f.x_scales, position)
    return splat(kind, get_f32(f.x_scales, image))
