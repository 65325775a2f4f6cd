"""Dot products of one packed row, at the depths where narrow lanes must have been widened."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from bwn.kernels import bits
from bwn.kernels.gemm.dot import I16_SAFE_WORDS, i8_signed_dot

dot_of_integers = numba.njit(lambda x, row, words: i8_signed_dot(x, row, words))


def row_of(sign: int, depth: int) -> np.ndarray:
    return bits.pack(np.full((1, depth), sign, np.int8))


@pytest.mark.parametrize(
    "words", [1, I16_SAFE_WORDS - 1, I16_SAFE_WORDS, I16_SAFE_WORDS + 1, 3 * I16_SAFE_WORDS]
)
@pytest.mark.parametrize("value", [127, -127])
def test_largest_integers(words: int, value: int) -> None:
    depth = words * 64 - 1
    plus, minus = row_of(1, depth), row_of(-1, depth)
    x = np.full(words * 64, value, np.int8)
    x[depth:] = 0
    assert dot_of_integers(x.ctypes.data, plus.ctypes.data, words) == value * depth
    assert dot_of_integers(x.ctypes.data, minus.ctypes.data, words) == -value * depth
