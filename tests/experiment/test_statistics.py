"""Student's t against printed tables, and intervals against a sum done by hand."""

from __future__ import annotations

import math

import pytest

from bwn.experiment.statistics import paired_difference, spread, student_t, within


@pytest.mark.parametrize(
    ("freedom", "t"),
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (10, 2.228),
        (29, 2.045),
        (30, 2.042),
    ],
)
def test_t_is_that_of_the_printed_table(freedom, t):
    assert round(student_t(0.95, freedom), 3) == t


def test_other_confidences_and_the_normal_limit():
    assert round(student_t(0.99, 4), 3) == 4.604
    assert round(student_t(0.90, 3), 3) == 2.353
    assert student_t(0.95, 100_000) == pytest.approx(1.95998, abs=1e-4)


@pytest.mark.parametrize("t", [0.1, 1.0, 7.0])
def test_one_and_two_degrees_of_freedom_have_their_plain_formulas(t):
    assert within(t, 1) == pytest.approx(2 / math.pi * math.atan(t), rel=1e-14)
    assert within(t, 2) == pytest.approx(t / math.sqrt(2 + t * t), rel=1e-14)


def test_a_paired_difference_by_hand():
    # Seeds 0, 1, 2 have differences -1, -2, -3: mean -2, deviation 1; t of two degrees of
    # freedom is 4.3027.
    first, second = {0: 1.0, 1: 2.0, 2: 4.0, 7: 9.0}, {0: 2.0, 1: 4.0, 2: 7.0, 8: 0.0}
    difference = paired_difference(first, second)
    assert (difference.pairs, difference.mean) == (3, -2.0)
    assert difference.low == pytest.approx(-2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert difference.high == pytest.approx(-2 + 4.30265 / math.sqrt(3), abs=1e-4)


def test_one_pair_has_no_interval_and_none_no_difference():
    assert paired_difference({0: 1.0}, {0: 3.0}) == (1, -2.0, None, None)
    assert paired_difference({0: 1.0}, {1: 3.0}) is None


def test_spread_by_hand():
    assert spread([1.0, 2.0, 6.0]) == (3, 3.0, pytest.approx(math.sqrt(7)), 1.0, 6.0)
    assert spread([4.0]) == (1, 4.0, None, 4.0, 4.0)
