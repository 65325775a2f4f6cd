"""Accuracy of a packed model on a data set."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import numpy as np

from bwn._arguments import check_counts
from bwn._text import count_noun
from bwn._types import Labels, StrPath
from bwn.data.datasets import no_progress
from bwn.errors import DataError
from bwn.metrics import Counts, accuracy_of, confusion, wilson
from bwn.model import Model, load
from bwn.predict import class_names, classify
from bwn.tools.verify_inputs import Samples, is_images, load_samples


class ClassResult(msgspec.Struct, frozen=True):
    """How well one class is recognized.

    Attributes:
        name: Name of the class.
        images: Images of it.
        right: How many of them are classified correctly.
        recall: right / images, None where there are no images.
    """

    name: str
    images: int
    right: int
    recall: float | None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of a model on a data set.

    Attributes:
        model: Path of the model.
        data: Name of the data set and its split.
        images: Images of the split.
        right: How many of them are classified correctly.
        accuracy: right / images.
        interval: Its 95% interval: few images say little.
        error: 1 - accuracy.
        classes: One result for each class.
        confusion: Numbers of images: a row for each true class, a column for each predicted one.
    """

    model: str
    data: str
    images: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    error: float
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]


def evaluate(
    model: StrPath | Model,
    data: StrPath,
    *,
    samples: int | None = None,
    batch_size: int = 64,
    threads: int | None = None,
    skip_bad: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure the accuracy of a model on the test split of a data set.

    Images are prepared as the model says.

    Args:
        model: A .bwn file or a loaded model.
        data: `mnist-sample`, or a folder of IDX files, of CIFAR-10 binary files, or of class
            folders of images.
        samples: At most this many images, the first ones, of class folders evenly spread; None:
            all.
        batch_size: Images to run at once.
        threads: Threads for a model that is loaded here; None: every core.
        skip_bad: Whether images that cannot be read are left out, with a warning.
        progress: Called with a line of text while images are read and after each batch, and with ""
            at the end, if given.

    Returns:
        Accuracy, recall of each class, and the confusion matrix.

    Raises:
        ArgumentError: `samples` or `batch_size` is less than 1.
        DataError: The data set cannot be read, has no labels, or has a class that the model does
            not know.
        NotPreparedError: The model does not say how images are prepared.
        BwnError: A score is not finite.

    Example:
        >>> import bwn
        >>> result = bwn.evaluate("model.bwn", "mnist-sample", samples=100)
        >>> result.right, result.accuracy
        (100, 1.0)
    """
    check_counts(samples=1 if samples is None else samples, batch_size=batch_size)
    progress = progress or no_progress
    loaded = model if isinstance(model, Model) else load(model, threads)
    if is_images(data):
        raise DataError(
            f"{data}: has no labels; accuracy needs folders of images, one for each class"
        )
    inputs = load_samples(loaded.spec, data, samples, skip_bad=skip_bad, progress=progress)
    labels = inputs.labels
    assert labels is not None, "a data set has labels"
    names = class_names(loaded.spec)
    if int(labels.max()) >= len(names):
        raise DataError(
            f"{data}: has class {labels.max()}, but the model has {count_noun(len(names), 'class')}"
        )
    counts = confusion(labels, _predicted(loaded, inputs, batch_size, progress), len(names))
    accuracy = accuracy_of(counts)
    return Evaluation(
        model="model" if isinstance(model, Model) else os.fspath(model),
        data=inputs.name,
        images=len(labels),
        right=int(counts.trace()),
        accuracy=accuracy,
        interval=wilson(int(counts.trace()), len(labels)),
        error=1 - accuracy,
        classes=tuple(
            class_result(name, row, index)
            for index, (name, row) in enumerate(zip(names, counts, strict=True))
        ),
        confusion=tuple(tuple(row) for row in counts.tolist()),
    )


def class_result(name: str, row: Counts, index: int) -> ClassResult:
    """The result of class `index`, of which `row` counts what the model says."""
    images, right = int(row.sum()), int(row[index])
    return ClassResult(name, images, right, right / images if images else None)


def _predicted(
    model: Model, inputs: Samples, batch_size: int, progress: Callable[[str], None]
) -> Labels:
    """Index of the likeliest class of each image; of equal scores the first."""
    best: list[int] = []
    for x in inputs.batches(batch_size):
        best += [predictions[0].index for predictions in classify(model, x)]
        progress(f"{len(best):,} of {count_noun(inputs.count, 'image')}")
    progress("")
    return np.array(best, np.int64)
