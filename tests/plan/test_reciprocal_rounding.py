"""Rounding to 8 bits by a reciprocal gives the integers of a division, or is not used."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwn.plan.reciprocal_rounding import divides_exactly, rounding

RANGES = [(-127, 127), (0, 254)]
u = Fraction(1, 2**24)


def fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """a * b + c, rounded once."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    near = np.float32(float(exact))
    around = [np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf)]
    return min([near, *around], key=lambda value: abs(Fraction(float(value)) - exact))


def by_reciprocal(y: np.float32, scale: np.float32) -> float:
    """What the kernels do."""
    _, reciprocal, rest, *_ = rounding(float(scale), (0, 254), (None, None))
    return float(np.rint(fma(y, reciprocal, y * rest)))


def near_halves(scale: np.float32, low: int, high: int) -> list[np.float32]:
    """The numbers on either side of scale times each half, and that product."""
    halves = np.arange(low, high).astype(np.float32) + np.float32(0.5)
    products = halves * scale
    sides = [np.nextafter(products, np.float32(end)) for end in (-np.inf, np.inf)]
    return [*products, *sides[0], *sides[1]]


@given(st.floats(2.0**-20, 2.0**20, width=32), st.sampled_from(RANGES))
def test_integers_are_those_of_a_division_next_to_every_half(
    number: float, qrange: tuple[int, int]
) -> None:
    scale = np.float32(number)
    if not divides_exactly(float(scale), qrange):
        return
    for y in near_halves(scale, *qrange)[::7]:
        assert by_reciprocal(y, scale) == np.rint(y / scale)


def test_most_scales_pass_and_some_do_not() -> None:
    rng = np.random.default_rng(0)
    scales = np.exp(rng.uniform(-9, 3, 4000)).astype(np.float32)
    passed = [divides_exactly(float(scale), (0, 254)) for scale in scales]
    assert np.mean(passed) > 0.999
    assert not divides_exactly(float.fromhex("0x1.ffffe8p-4"), (0, 254))
    assert not divides_exactly(2.0**-120, (0, 254))
    assert not divides_exactly(2.0**120, (0, 254))


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_scales_of_few_bits_pass(scale: float) -> None:
    assert divides_exactly(scale, (-127, 127))


def test_the_tighter_bounds_count() -> None:
    assert rounding(0.5, (0, 254), (None, 6.0)).tolist() == [0.5, 2, 0, 0, 6, 127]
    assert rounding(0.5, (-127, 127), (-80.0, None)).tolist() == [0.5, 2, 0, -63.5, 63.5, 0]
