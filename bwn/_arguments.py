"""Arguments that several functions take: defaults and checks."""

from __future__ import annotations

import reprlib
from numbers import Integral, Real

from bwn.errors import ArgumentError

BATCH_SIZE = 16
"""Images that are classified at a time."""


def check_counts(least: int = 1, /, **counts: int) -> None:
    """Raise ArgumentError where an argument is not a whole number of `least` or more."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise ArgumentError(f"{name} is {reprlib.repr(count)}, expected a whole number")
        if count < least:
            raise ArgumentError(f"{name} is {count}, expected {least} or more")


def check_range(low: float, high: float, /, **numbers: float) -> None:
    """Raise ArgumentError where an argument is not a number from `low` to `high`."""
    for name, number in numbers.items():
        if not isinstance(number, Real) or not low <= number <= high:
            raise ArgumentError(f"{name} is {reprlib.repr(number)}, expected {low} to {high}")
