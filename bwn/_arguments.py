"""Arguments that several functions take: defaults and checks."""

from __future__ import annotations

import numpy as np

from bwn.errors import ArgumentError

BATCH_SIZE = 16
"""Images that are classified at a time."""


def check_counts(least: int = 1, /, **counts: int) -> None:
    """Raise ArgumentError where an argument is not a whole number of `least` or more."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise ArgumentError(f"{name} is {count!r}, expected a whole number")
        if count < least:
            raise ArgumentError(f"{name} is {count}, expected {least} or more")
