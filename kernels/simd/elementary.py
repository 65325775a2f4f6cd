"""Exponential, logarithm, error function and their relatives, of float32 vectors.

| function | worst error, ulp | how |
|---|---|---|
| `exp` | 0.98 | 2**n * (1 + q), r = x - n ln 2, q = r + r**2 P(r) |
| `expm1_negative` | 0.86 | 2**n * q + (2**n - 1) |
| `log`, `log1p_to_1` | 0.78 | x = (1 + f) * 2**e, e ln 2 + f - f**2 / 2 + f**3 P(f) |
| `power` | 1.2, 2 at abs(a) = 11, 8 at 50 | exp(a log x), the logarithm in two numbers |
| `erf` | 0.98 | x + x P(x**2) below 0.95, 1 - exp(P(x)) above |
| `tanh` | 2.5 | -t / (2 + t), t = expm1(-2 abs(x)) |
| `sigmoid` | 2.2 | 1 or e, over 1 + e, e = exp(-abs(x)) |

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

_expm1 = polynomial(0.5, 0.166666657, 0.0416664928, 0.00833354332, 0.00139323645, 0.000197643312)
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
    rest = fma(f * f, fma(f, _log(f), like(x, -0.5)), like(x, 0.0))
    near = f + rest
    whole = e * like(x, LN2_HIGH)
    high = whole + near
    return high, (near - (high - whole)) + fma(e, like(x, LN2_LOW), rest - (near - f))


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
def power(x: Any, a: Any) -> Any:
    """x ** a, a not a whole number, the same in all lanes: NaN of x below 0."""
    size = magnitude(x)
    high, low = _log_in_two(size)
    product = a * high
    y = exp_of_sum(product, fma(a, high, -product) + a * low) + (x - x)
    y = choose_less(x, like(x, 0.0), like(x, np.nan), y)
    zero, infinite = like(x, 0.0), like(x, np.inf)
    y = choose_less(size, like(x, SMALLEST), choose_less(a, zero, infinite, zero), y)
    return choose_less(like(x, LARGEST), size, choose_less(a, zero, zero, infinite), y)


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
    """1 / (1 + exp(-x))."""
    e = exp(-magnitude(x))
    one = like(x, 1.0)
    return choose_less(x, like(x, 0.0), e, one) / (one + e)
