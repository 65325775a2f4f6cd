"""Functions of each element: y = clamp(f(x), low, high).

A new function is its name in `codes.SimpleFunction` or `codes.Function`, and its formula here, of
the same name: f(x, a, b) of a vector and the function's parameters alpha and beta; those that it
does not have are ignored. The loop is compiled with each formula, and the code chooses one for all
planes. A unit of work is one channel of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from bwn.kernels.simd import elementary
from bwn.kernels.simd.arithmetic import (
    fma,
    keep,
    magnitude,
    maximum,
    minimum,
    nearest,
    square_root,
)
from bwn.kernels.simd.float_bits import ceil, choose_less, floor
from bwn.kernels.simd.scalars import get_f32, reader
from bwn.kernels.simd.vectors import F32, I32, like, load, store
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper
from bwn.kernels.tensor.codes import Function, SimpleFunction
from bwn.kernels.tensor.elementwise import clear_padding
from bwn.kernels.tensor.tensor_params import UnaryParams

unary_params = reader(UnaryParams)

SQRT_HALF = 0.70710678
TANH_SCALE, TANH_CUBE = 1.59576912, 0.0713548163
"""2 sqrt(2 / pi), and 0.044715 times it."""
LARGEST = float(np.finfo(np.float32).max)
UNDERFLOW = -110.0
"""Below, x * exp(x) is 0 as float32; it takes the place of -inf, which would give NaN."""


@helper
def _elu(x: Any, a: Any, b: Any) -> Any:
    """b * (x if x > 0 else a * (exp(x) - 1)). b: 1 but of Selu."""
    below = like(x, a) * elementary.expm1_negative(minimum(x, like(x, 0.0)))
    return like(x, b) * choose_less(like(x, 0.0), x, x, below)


@helper
def _celu(x: Any, a: Any, b: Any) -> Any:
    """max(x, 0) + min(0, a * (exp(x / a) - 1)), of a above 0."""
    below = like(x, a) * elementary.expm1_negative(minimum(x, like(x, 0.0)) / like(x, a))
    return choose_less(like(x, 0.0), x, x, below)


@helper
def _silu(x: Any, a: Any, b: Any) -> Any:
    """x * sigmoid(a * x)."""
    product = like(x, a) * x
    bounded = choose_less(product, like(x, UNDERFLOW), like(x, 0.0), x)
    return bounded * elementary.sigmoid(product)


@helper
def _gelu(x: Any, a: Any, b: Any) -> Any:
    """x * (1 + erf(x / sqrt(2))) / 2."""
    x = maximum(x, like(x, UNDERFLOW))
    return x * fma(elementary.erf(x * like(x, SQRT_HALF)), like(x, 0.5), like(x, 0.5))


@helper
def _gelu_tanh(x: Any, a: Any, b: Any) -> Any:
    """x * (1 + tanh(u)) / 2 = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 * x**3)."""
    x = maximum(x, like(x, UNDERFLOW))
    return x * elementary.sigmoid(x * fma(x * x, like(x, TANH_CUBE), like(x, TANH_SCALE)))


@helper
def _mish(x: Any, a: Any, b: Any) -> Any:
    """x * tanh(log(1 + e)) = x * n / (n + 2), e = exp(x), n = e * (e + 2)."""
    x = maximum(x, like(x, UNDERFLOW))
    e = elementary.exp(minimum(x, like(x, 20.0)))
    n = e * (e + like(x, 2.0))
    return x * (n / (n + like(x, 2.0)))


@helper
def _softplus(x: Any, a: Any, b: Any) -> Any:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return maximum(x, like(x, 0.0)) + elementary.log1p_to_1(elementary.exp(-magnitude(x)))


@helper
def _softsign(x: Any, a: Any, b: Any) -> Any:
    """x / (1 + |x|)."""
    x = maximum(minimum(x, like(x, LARGEST)), like(x, -LARGEST))
    return x / (like(x, 1.0) + magnitude(x))


def _plain(function: Any) -> Any:
    """The formula of a function without parameters."""
    return helper(lambda x, a, b: function(x))


_leaky_relu = helper(lambda x, a, b: choose_less(x, like(x, 0.0), like(x, a) * x, x))
_reciprocal = helper(lambda x, a, b: like(x, 1.0) / x)
_thresholded_relu = helper(lambda x, a, b: choose_less(like(x, a), x, x, like(x, 0.0)))
_abs = _plain(magnitude)
_ceil = _plain(ceil)
_floor = _plain(floor)
_round = _plain(nearest)
_sqrt = _plain(square_root)
_erf = _plain(elementary.erf)
_exp = _plain(elementary.exp)
_log = _plain(elementary.log)
_sigmoid = _plain(elementary.sigmoid)
_tanh = _plain(elementary.tanh)


@helper
def map_planes(formula: Any, f: Any, begin: int, end: int) -> None:
    """y = clamp(formula(x, alpha, beta)) of planes begin..end-1, counted over all images."""
    a, b = get_f32(f.coefficients, 0), get_f32(f.coefficients, 1)
    low, high = get_f32(f.bounds, 0), get_f32(f.bounds, 1)
    for unit in range(begin, end):
        image, channel = unit // f.channels, unit % f.channels
        source = f.x + (image * f.x_image + channel * f.x_plane + f.x_lead) * 4
        plane = f.out + (image * f.out_image + channel * f.out_plane) * 4
        for i in range(0, f.positions, LANES):
            y = formula(load(F32, source, i), a, b)
            y = minimum(maximum(y, like(y, low)), like(y, high))
            store(plane, f.out_lead + i, keep(y, load(I32, f.mask, i)))
        clear_padding(f, plane)


def _choice(functions: Sequence[IntEnum]) -> Any:
    """A helper that maps planes by the one of these functions whose code it gets."""
    if not functions:
        return helper(lambda code, f, begin, end: None)
    first, formula = int(functions[0]), globals()[f"_{functions[0].name.lower()}"]
    others = _choice(functions[1:])

    @helper
    def choose(code: int, f: Any, begin: int, end: int) -> None:
        if code == first:
            map_planes(formula, f, begin, end)
        else:
            others(code, f, begin, end)

    return choose


_choose_simple, _choose = _choice([*SimpleFunction]), _choice([*Function])


def f32_f32_simple_unary(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(f(x), low, high), f a `SimpleFunction`."""
    f = unary_params(p)
    _choose_simple(f.function, f, begin, end)


def f32_f32_unary(p: int, begin: int, end: int, part: int) -> None:
    """y = clamp(f(x), low, high), f a `Function`."""
    f = unary_params(p)
    _choose(f.function, f, begin, end)
