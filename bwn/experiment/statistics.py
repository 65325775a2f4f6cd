"""Means with their uncertainty: there are few runs, so Student's t."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

CONFIDENCE = 0.95
"""Probability that an interval holds the true difference."""


class Spread(NamedTuple):
    """Some numbers in short.

    Attributes:
        number: How many there are.
        mean: Their mean.
        deviation: Sample standard deviation (n - 1); None of a single number.
        low: The smallest.
        high: The largest.
    """

    number: int
    mean: float
    deviation: float | None
    low: float
    high: float


class Difference(NamedTuple):
    """Mean difference of pairs, and its confidence interval.

    Attributes:
        pairs: How many pairs there are.
        mean: The mean difference.
        low: Lower bound of the interval; None from a single pair.
        high: Upper bound; None from a single pair.
    """

    pairs: int
    mean: float
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Mean, deviation and range of at least one number."""
    deviation = stdev(values) if len(values) > 1 else None
    return Spread(len(values), fmean(values), deviation, min(values), max(values))


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """first - second over the keys (seeds) of both: mean +- t s / sqrt(n); None without any."""
    differences = [value - second[key] for key, value in first.items() if key in second]
    if not differences:
        return None
    count, mean, deviation, _, _ = spread(differences)
    if deviation is None:
        return Difference(count, mean, None, None)
    reach = student_t(CONFIDENCE, count - 1) * deviation / math.sqrt(count)
    return Difference(count, mean, mean - reach, mean + reach)


def student_t(confidence: float, freedom: int) -> float:
    """The t with P(|T| < t) = `confidence`, T of Student's distribution; by bisection."""
    low, high = 0.0, 1.0
    while within(high, freedom) < confidence:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if within(middle, freedom) < confidence else (low, middle)
    return high


def within(t: float, freedom: int) -> float:
    """P(|T| < t) of Student's distribution, in closed form since `freedom` is whole.

    Source: Abramowitz and Stegun, 26.7.3 (odd) and 26.7.4 (even).
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    part = math.sin(angle) * total
    return 2 / math.pi * (angle + part) if odd else part
