"""Confusion matrices: how often images of a class are classified as another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bwn._text import count_noun
from bwn._types import Labels

Counts = npt.NDArray[np.int64]


def confusion(labels: Labels, predicted: Labels, classes: int) -> Counts:
    """Count how often images of a class are classified as another.

    Args:
        labels: (N,) int64, index of the true class.
        predicted: (N,) int64, index of the predicted class.
        classes: How many classes there are.

    Returns:
        (classes, classes) int64: a row for each true class, a column for each predicted one.
    """
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(
        classes, classes
    )


def accuracy_of(counts: Counts) -> float:
    """Share of the images that are classified correctly."""
    return float(counts.trace()) / max(int(counts.sum()), 1)


def wilson(right: int, count: int) -> tuple[float, float]:
    """95% interval of an accuracy that was measured on `count` images.

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with p = right/n and z = 1.96
    (Wilson, JASA 1927).
    """
    z, share = 1.96, right / count
    middle = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = (middle - half), (middle + half)
    return max(low / (1 + z**2 / count), 0.0), min(high / (1 + z**2 / count), 1.0)


def accuracy_text(right: int, count: int) -> str:
    """An accuracy with its error, and its interval where that is wide."""
    error = "; ".join(filter(None, [f"error {1 - right / count:.2%}", interval_text(right, count)]))
    return f"{right / count:.2%} ({error})"


def interval_text(right: int, count: int) -> str:
    """The 95% interval in words; empty where it is narrower than one point either way."""
    low, high = wilson(right, count)
    return f"95% interval {low:.1%} to {high:.1%}" if high - low > 0.02 else ""


def most_confused(counts: Counts, limit: int = 3) -> list[tuple[int, int, int]]:
    """The most frequent confusions; of equal ones the lower classes first.

    Returns:
        True class, predicted class, number of images, for each.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = [(int(index) // len(wrong), int(index) % len(wrong)) for index in order]
    return [(true, guess, int(wrong[true, guess])) for true, guess in pairs if wrong[true, guess]]


def confused_text(counts: Counts, classes: Sequence[str]) -> str:
    """The most frequent confusions in words; empty where there are none."""
    return ", ".join(
        f"{classes[true]} taken for {classes[guess]} ({count_noun(count, 'time')})"
        for true, guess, count in most_confused(counts)
    )
