"""Activations, as formulas of vectors and of numbers, against numpy."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from gemm_cases import ACTIVATIONS, EPSILON, activated

from bwn.kernels.params import Activation
from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.scalars import get_f32, put_f32
from bwn.kernels.simd.vectors import F32, load, store

EDGES = np.array(
    [0.0, -0.0, 1e-40, -1e-40, 0.5, -0.5, 3, -3, 2.9999998, -2.9999998, 6, -6, 1e30, -1e30, 3e38,
     np.nan],
    np.float32,
)  # fmt: skip


@numba.njit
def of_vector(code: int, x: int, out: int) -> None:
    store(out, 0, activate(code, load(F32, x, 0)))


@numba.njit
def of_numbers(code: int, x: int, out: int) -> None:
    for i in range(16):
        put_f32(out, i, activate(code, get_f32(x, i)))


@pytest.mark.parametrize("activation", list(Activation))
def test_vectors_and_numbers_agree_with_the_formula(activation: Activation) -> None:
    rng = np.random.default_rng(0)
    for x in (EDGES, *rng.normal(0, 4, (50, 16)).astype(np.float32)):
        vector, numbers = np.zeros((2, 16), np.float32)
        of_vector(activation, x.ctypes.data, vector.ctypes.data)
        of_numbers(activation, x.ctypes.data, numbers.ctypes.data)
        assert vector.tobytes() == numbers.tobytes()
        with np.errstate(over="ignore", invalid="ignore"):
            if activation in ACTIVATIONS:
                np.testing.assert_array_equal(vector, ACTIVATIONS[activation](x))
            near = 8 * EPSILON * np.maximum(1, np.abs(x))
            finite = np.isfinite(vector) & np.isfinite(x)
            error = np.abs(vector.astype(np.float64) - activated(activation, x.astype(np.float64)))
            assert (error[finite] <= near[finite]).all()


def test_every_activation_changes_something() -> None:
    x = np.linspace(-4, 4, 16, dtype=np.float32)
    seen = set()
    for activation in Activation:
        out = np.zeros(16, np.float32)
        of_vector(activation, x.ctypes.data, out.ctypes.data)
        seen.add(out.tobytes())
    assert len(seen) == len(Activation)
