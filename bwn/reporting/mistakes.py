"""Accuracy on test images, and the images of the most frequent confusions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bwn._text import count_noun
from bwn._types import Labels
from bwn.errors import DataError
from bwn.metrics import Counts, accuracy_of, confusion, most_confused, wilson
from bwn.reporting.facts import ImageResults, Mistake

CONFUSIONS = 6
"""Confusions of which images are shown."""
IMAGES_EACH = 2
"""Images of each."""

Chances = npt.NDArray[np.floating]


def image_results(
    data: str, labels: Labels, chances: Chances, classes: Sequence[str]
) -> ImageResults:
    """Accuracy, confusion matrix and mistakes.

    Args:
        data: Name of the images.
        labels: (N,) int64, the true classes, N above 0.
        chances: (N, classes) probabilities.
        classes: Names of the classes.

    Raises:
        DataError: An image has a class that the network does not know.
    """
    if int(labels.max()) >= len(classes):
        raise DataError(
            f"{data}: has class {labels.max()}, but the network has "
            f"{count_noun(len(classes), 'class')}"
        )
    predicted = chances.argmax(1)
    counts = confusion(labels, predicted, len(classes))
    right = int(counts.trace())
    return ImageResults(
        data=data,
        images=len(labels),
        right=right,
        accuracy=accuracy_of(counts),
        interval=wilson(right, len(labels)),
        classes=tuple(classes),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        mistakes=tuple(_mistakes(counts, labels, predicted, chances)),
    )


def _mistakes(counts: Counts, labels: Labels, predicted: Labels, chances: Chances) -> list[Mistake]:
    """Of each frequent confusion the images whose wrong class is the most probable."""
    mistakes = []
    for true, guess, _ in most_confused(counts, CONFUSIONS):
        images = np.flatnonzero((labels == true) & (predicted == guess))
        surest = images[np.argsort(-chances[images, guess], kind="stable")][:IMAGES_EACH]
        mistakes += [
            Mistake(
                image=int(image),
                true=true,
                predicted=guess,
                probability=float(chances[image, guess]),
            )
            for image in surest
        ]
    return mistakes
