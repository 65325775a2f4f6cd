"""The entry of C libraries that turns scores into probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bwn.kernels.simd.scalars import get_f32, put_f32, put_i64, reader
from bwn.kernels.target.jit import helper


class ScoresParams(NamedTuple):
    """What the entry takes.

    Attributes:
        scores: Address of float32 scores of one example.
        probabilities: Address of float32, one a class.
        finite: Address of an int64 that the entry sets: whether all scores are finite. Where they
            are not, nothing else is written.
    """

    scores: int
    probabilities: int
    finite: int


scores_params = reader(ScoresParams)


def make_probabilities(outputs: int, softmax: bool) -> Callable[[int, int, int, int], None]:
    """The entry for networks of so many scores.

    A single score is the logit of the second of two classes. The numbers are those of
    `bwn.predict.probabilities`, rounded to float32.

    Args:
        outputs: Scores of an example.
        softmax: Whether probabilities are their softmax, not the scores themselves.
    """
    first = 1 if outputs == 1 else 0  # a class without a score of its own

    @helper
    def score(scores: int, index: int) -> float:
        return np.float64(get_f32(scores, index - first)) if index >= first else 0.0

    def probabilities(p: int, begin: int, end: int, part: int) -> None:
        """p: address of ScoresParams."""
        f = scores_params(p)
        finite, largest = True, -np.inf
        for i in range(outputs + first):
            finite = finite and abs(score(f.scores, i)) < np.inf  # false of a NaN
            largest = max(largest, score(f.scores, i))
        put_i64(f.finite, 0, 1 if finite else 0)
        if not finite:
            return
        total = 0.0
        for i in range(outputs + first):
            total += math.exp(score(f.scores, i) - largest) if softmax else 0.0
        for i in range(outputs + first):
            share = (
                math.exp(score(f.scores, i) - largest) / total if softmax else score(f.scores, i)
            )
            put_f32(f.probabilities, i, np.float32(share))

    return probabilities
