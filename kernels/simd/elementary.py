"""Exponential, logarithm, error function and their relatives, of float32 vectors.

| function | worst error, ulp | how |
|---|---|---|
| `exp` | 0.98 | 2**n * (1 + q), r = x - n ln 2, q = r + r**2 P(r) |
| `expm1_negative` | 0.86 | 2**n * q + (2**n - 1) |
| `log`, `log1p_to_1` | 0.67 | x = (1 + f) * 2**e, e ln 2 + f - f**2 / 2 + f**3 P(f) |
| `power`, `any_power` | 1.2, 2.5 at a log x = 20, 10 at 80 | exp(a log x), log x in two numbers |
| `erf` | 0.98 | x + x P(x**2) below 0.95, 1 - exp(P(x)) above |
| `tanh` | 2.5 | -t / (2 + t), t = expm1(-2 abs(x)) |
| `sigmoid` | 2.2 | 1 / (1 + exp(-x)), both scaled so that neither overflows |
| `silu` | 2.4 | x * sigmoid(x) |

The errors are measured by `tests/kernels/test_elementary.py`, denormal results aside. Polynomials
have the smallest largest relative error of their function (Lawson's iteration on Chebyshev points),
with coefficients rounded to float32 one after another and the rest fitted again, which leaves at
most 0.03 ulp. NaN, infinities, zeros and denormals give what IEEE 754 says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.simd.arithmetic import fma, magnitude, maximum, minimum, nearest, to_int
from bwn.kernels.simd.float_bits import (
    as_exponent,
    choose_less,
    copy_sign,
    exponent_and_mantissa,
    polynomial,
    power_of_two,
)
from bwn.kernels.simd.vectors import like
from bwn.kernels.target.jit import helper

LOG2_E = 1.44269504
LN2_HIGH = 0.693359375
"""ln 2 in 9 bits, so that its product with an exponent is exact."""
LN2_LOW = -2.12194440e-4
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
LEAST = -110.0
"""Below, exp(x), and x times it, are 0 as float32."""
GATE_SCALE = 2.0**-33
"""exp(-x) times this is a normal number for every x from LEAST to 30, where sigmoid becomes 1."""
GATE_ROUND = 1.5 * 2.0**23 + (127 - 33)
"""Added to a small number it rounds it to a whole one, n; the sum's low bits are the exponent of
GATE_SCALE * 2**n."""

_expm1 = polynomial(0.5, 0.166666657, 0.0416664928, 0.00833354332, 0.00139323645, 0.000197643312)
_exp_minus = polynomial(
    -1.0, 0.49999994, -0.16666521, 0.04166827, -0.008368679, 0.0013820408
)  # fmt: skip
"""(exp(-r) - 1) / r, abs(r) <= ln 2 / 2."""
_log = polynomial(
    0.333333135, -0.250000089, 0.200020716, -0.166679889, 0.142203599, -0.124062411, 0.118835397,
    -0.116700068, 0.0674915463,
)  # fmt: skip
_erf_near_0 = polynomial(
    0.128379166, -0.37612626, 0.112835787, -0.0268533472, 0.0051871622, -0.00079978531,
    7.80690389e-05,
)  # fmt: skip
_log_erfc = polynomial(
    0.00016920401, -1.12948835, -0.633401096, -0.108219944, 0.0250802021, -0.00415604096,
    0.000431336317, -2.08224283e-05,
)  # fmt: skip


@helper
def _reduced(x: Any, low: Any) -> tuple[Any, Any]:
    """n and q with exp(x + low) = 2**n * (1 + q), |q| < 0.42. low: much smaller than x."""
    n = nearest(x * like(x, LOG2_E))
    r = fma(n, like(x, -LN2_LOW), fma(n, like(x, -LN2_HIGH), x)) + low
    return n, fma(r * r, _expm1(r), r)


@helper
def exp_of_sum(x: Any, low: Any) -> Any:
    """exp(x + low), low much smaller than x."""
    n, q = _reduced(minimum(maximum(x, like(x, -105.0)), like(x, 89.0)), low)
    half = to_int(n * like(x, 0.5))  # in two steps: 2**n may overflow or be a denormal
    return (like(x, 1.0) + q) * power_of_two(half) * power_of_two(to_int(n) - half)


@helper
def exp(x: Any) -> Any:
    """e ** x."""
    return exp_of_sum(x, like(x, 0.0))


@helper
def expm1_negative(x: Any) -> Any:
    """e ** x - 1 of x <= 0."""
    n, q = _reduced(maximum(x, like(x, -30.0)), like(x, 0.0))
    scale = power_of_two(to_int(n))
    return fma(scale, q, scale - like(x, 1.0))


@helper
def _log_in_two(x: Any) -> tuple[Any, Any]:
    """log x as a sum of two numbers, of x above 0 and finite."""
    e, m = exponent_and_mantissa(x)
    f = m - like(x, 1.0)
    half = f * like(x, 0.5)
    square = f * half
    cubes = (square + square) * (f * _log(f))
    line = f - square
    near = line + cubes
    rest = (cubes - (near - line)) + (((f - line) - square) - fma(f, half, -square))
    whole = e * like(x, LN2_HIGH)
    high = whole + near
    return high, (near - (high - whole)) + fma(e, like(x, LN2_LOW), rest)


@helper
def log(x: Any) -> Any:
    """Natural logarithm: -inf of 0, NaN below."""
    high, low = _log_in_two(x)
    y = (high + low) + (x - x)  # a NaN stays one
    y = choose_less(magnitude(x), like(x, SMALLEST), like(x, -np.inf), y)
    y = choose_less(x, like(x, 0.0), like(x, np.nan), y)
    return choose_less(like(x, LARGEST), x, x, y)


@helper
def log1p_to_1(x: Any) -> Any:
    """log(1 + x) of x from 0 to 1."""
    y = like(x, 1.0) + x
    high, low = _log_in_two(y)
    return high + (low + (x - (y - like(x, 1.0))) / y)


@helper
def _power_above_0(x: Any, a: Any) -> Any:
    """x ** a of x from 0 on, and finite a or NaN."""
    high, low = _log_in_two(x)
    product, zero, infinite = a * high, like(x, 0.0), like(x, np.inf)
    rest = fma(a, high, -product) + a * low
    rest = choose_less(magnitude(product), like(x, 200.0), rest, zero)  # else it is beyond exp's
    y = exp_of_sum(product, rest) + (x - x)
    y = choose_less(x, like(x, SMALLEST), choose_less(a, zero, infinite, zero), y)
    return choose_less(like(x, LARGEST), x, choose_less(a, zero, zero, infinite), y) + (a - a)


@helper
def power(x: Any, a: Any) -> Any:
    """x ** a of finite a, not a whole number: NaN of finite x below 0."""
    size = magnitude(x)
    y = _power_above_0(size, a)
    unknown = choose_less(like(x, LARGEST), size, y, like(x, np.nan))
    return choose_less(x, like(x, 0.0), unknown, y)


@helper
def any_power(x: Any, a: Any) -> Any:
    """x ** a, as IEEE 754 has it for every pair of numbers."""
    size, zero, one = magnitude(x), like(x, 0.0), like(x, 1.0)
    finite = minimum(maximum(a, like(x, -1e30)), like(x, 1e30))
    y, half = _power_above_0(size, finite), finite * like(x, 0.5)
    signed = choose_less(zero, magnitude(half - nearest(half)), -y, y)  # of an odd number
    unknown = choose_less(like(x, LARGEST), size, y, like(x, np.nan))
    unknown = choose_less(size, like(x, SMALLEST), y, unknown)
    signed = choose_less(zero, magnitude(finite - nearest(finite)), unknown, signed)
    y = choose_less(copy_sign(one, x), zero, signed, y)
    y = choose_less(magnitude(x - one), like(x, SMALLEST), one, y)
    return choose_less(magnitude(a), like(x, SMALLEST), one, y)


@helper
def erf(x: Any) -> Any:
    """Error function."""
    size = magnitude(x)
    far = exp(_log_erfc(minimum(size, like(x, 3.95))))
    far = copy_sign(like(x, 1.0) - far, x)
    return choose_less(size, like(x, 0.95), fma(x, _erf_near_0(x * x), x), far)


@helper
def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    t = expm1_negative(magnitude(x) * like(x, -2.0))
    return copy_sign(t / (like(x, 2.0) + t), x)


@helper
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), of a vector or a number."""
    x = minimum(maximum(x, like(x, LEAST)), like(x, 30.0))
    rounded = fma(x, like(x, -LOG2_E), like(x, GATE_ROUND))
    n = rounded - like(x, GATE_ROUND)
    r = fma(n, like(x, LN2_LOW), fma(n, like(x, LN2_HIGH), x))  # -x = n ln 2 - r
    scale = like(x, GATE_SCALE)
    return scale / fma(fma(r, _exp_minus(r), like(x, 1.0)), as_exponent(rounded), scale)


@helper
def silu(x: Any) -> Any:
    """x * sigmoid(x), of a vector or a number."""
    x = maximum(x, like(x, LEAST))
    return x * sigmoid(x)
