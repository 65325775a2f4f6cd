"""Which classes a classifier takes for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


def confusion(labels: Labels, answers: Labels, classes: int) -> Counts:
    """How often images of a class were taken for another.

    labels, answers: (N,) int64, index of the right class and of the one found. classes: how many there are.
    Returns (classes, classes) int64: a row for each right class, a column for each answer.
    """
    return np.bincount(labels * classes + answers, minlength=classes * classes).reshape(
        classes, classes
    )


def share_right(counts: Counts) -> float:
    """Accuracy."""
    return float(counts.trace()) / max(int(counts.sum()), 1)


def most_confused(counts: Counts, limit: int = 3) -> list[tuple[int, int, int]]:
    """The most frequent confusions: right class, answer, number of images; of equal ones the lower classes first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = [(int(index) // len(wrong), int(index) % len(wrong)) for index in order]
    return [
        (right, found, int(wrong[right, found])) for right, found in pairs if wrong[right, found]
    ]


def confused_text(counts: Counts, classes: Sequence[str]) -> str:
    """The most frequent confusions in words; empty where there are none."""
    return ", ".join(
        f"{classes[right]} as {classes[found]} {n}x" for right, found, n in most_confused(counts)
    )
