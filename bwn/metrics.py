"""Confusion matrices: how often images of a class are classified as another."""

from __future__ import annotations

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
