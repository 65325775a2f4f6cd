"""Functions of float32 vectors against numpy's long doubles, over all magnitudes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from bwn.kernels.simd import elementary
from bwn.kernels.simd.vectors import F32, like, load, store
from bwn.kernels.target.jit import helper

COUNT = 1 << 18
Wide = np.longdouble
# erf has no long double in numpy; float64 is right to 1e-9 ulp of float32.
ERF: Callable[[Any], Any] = np.vectorize(lambda x: math.erf(float(x)), otypes=[np.float64])


def power(exponent: float) -> tuple[Any, Callable[[Any], Any]]:
    a = np.float32(exponent)
    ours = helper(lambda x: elementary.power(x, like(x, a)))
    return ours, lambda x: np.power(x, Wide(a))


def run(function: Any, x: np.ndarray) -> np.ndarray:
    @numba.njit
    def loop(out: int, source: int, count: int) -> None:
        for i in range(0, count, 16):
            store(out, i, function(load(F32, source, i)))

    padded = np.concatenate([x, np.zeros(-len(x) % 16, np.float32)])
    out = np.zeros_like(padded)
    loop(out.ctypes.data, padded.ctypes.data, len(padded))
    return out[: len(x)]


def between(low: float, high: float) -> np.ndarray:
    """float32 from low to high, both above 0, as many in each octave."""
    first, last = np.array([low, high], np.float32).view(np.int32)
    return np.unique(np.linspace(first, last, COUNT).astype(np.int32)).view(np.float32)


def both(x: np.ndarray) -> np.ndarray:
    return np.concatenate([-x[::-1], x])


def any_power(exponent: float) -> tuple[Any, Callable[[Any], Any]]:
    a = np.float32(exponent)
    ours = helper(lambda x: elementary.any_power(x, like(x, a)))
    return ours, lambda x: np.power(x, Wide(a))


CASES = {
    "exp": (elementary.exp, np.exp, both(between(1e-8, 87)), 0.98),
    "expm1_negative": (elementary.expm1_negative, np.expm1, -between(1e-45, 50), 0.87),
    "log": (elementary.log, np.log, between(1e-45, 3.4e38), 0.67),
    "log near 1": (elementary.log, np.log, between(0.5, 2), 0.67),
    "log1p_to_1": (elementary.log1p_to_1, np.log1p, between(1e-45, 1), 0.67),
    "power 0.3": (*power(0.3), between(1e-37, 3e38), 1.2),
    "power -0.75": (*power(-0.75), between(1e-37, 3e38), 1.2),
    "power 10.7": (*power(10.7), between(1e-3, 3e3), 1.4),
    "any_power 0.5": (*any_power(0.5), between(1e-37, 3e38), 1.2),
    "any_power -3": (*any_power(-3), both(between(1e-12, 1e12)), 1.3),
    "any_power 4": (*any_power(4), both(between(1e-9, 1e9)), 1.3),
    "erf": (elementary.erf, ERF, both(between(1e-37, 6)), 0.99),
    "tanh": (elementary.tanh, np.tanh, both(between(1e-45, 20)), 2.5),
    "sigmoid": (
        elementary.sigmoid, lambda x: 1 / (1 + np.exp(-x)), both(between(1e-10, 87)), 2.2,
    ),
    "silu": (elementary.silu, lambda x: x / (1 + np.exp(-x)), both(between(1e-37, 87)), 2.4),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_worst_error_is_as_documented(name: str) -> None:
    function, truth, x, worst = CASES[name]
    expected = truth(x.astype(Wide))
    ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    error = np.abs(run(function, x) - expected) / ulp
    at = int(error.argmax())
    assert error[at] <= worst, f"{error[at]} ulp at {x[at]!r}"
    assert error[at] > 0.4  # a test that compares a function with itself would find 0


INF, NAN, DENORMAL = np.inf, np.nan, 1e-45
THIRD = float(np.float32(0.3))
SPECIAL = np.array([0, -0.0, INF, -INF, NAN, DENORMAL, 2.0**127, -(2.0**127)], np.float32)
EXPECTED = {
    "exp": [1, 1, INF, 0, NAN, 1, INF, 0],
    "log": [-INF, -INF, INF, NAN, NAN, np.log(2.0**-149), np.log(2.0**127), NAN],
    "power 0.3": [0, 0, INF, INF, NAN, 2.0 ** (-149 * THIRD), 2.0 ** (127 * THIRD), NAN],
    "power -0.75": [INF, INF, 0, 0, NAN, 2.0 ** (149 * 0.75), 2.0 ** (-127 * 0.75), NAN],
    "erf": [0, -0.0, 1, -1, NAN, DENORMAL, 1, -1],
    "tanh": [0, -0.0, 1, -1, NAN, DENORMAL, 1, -1],
    "sigmoid": [0.5, 0.5, 1, 0, NAN, 0.5, 1, 0],
    "silu": [0, -0.0, INF, -0.0, NAN, 0, 2.0**127, -0.0],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_special_values(name: str) -> None:
    actual, expected = run(CASES[name][0], SPECIAL), np.array(EXPECTED[name], np.float32)
    np.testing.assert_allclose(actual, expected, rtol=3e-7)
    if name in ("erf", "tanh", "silu"):
        np.testing.assert_array_equal(np.signbit(actual), np.signbit(expected))


def test_results_that_are_denormals_are_near() -> None:
    x = np.linspace(-103, -87.4, 1000).astype(np.float32)
    error = np.abs(run(elementary.exp, x) - np.exp(x.astype(np.float64)))
    assert error.max() <= 1.5 * 2.0**-149
    assert (run(elementary.exp, np.full(16, -104.5, np.float32)) == 0).all()
