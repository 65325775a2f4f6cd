"""Accuracy of a packed model on a data set."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import numpy as np

from bwn.errors import BwnError, DataError
from bwn.metrics import Labels, confusion, share_right
from bwn.model import Model, load
from bwn.predict import labels as class_names
from bwn.tools.verify_inputs import choose


class ClassResult(msgspec.Struct, frozen=True):
    """One class. images: of it. right: how many were found. recall: right / images, None where there are none."""

    name: str
    images: int
    right: int
    recall: float | None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What a model gets right. confusion: a row for each right class, a column for each answer, numbers of images."""

    model: str
    data: str
    images: int
    right: int
    accuracy: float
    error: float
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]


def evaluate(
    model: str | os.PathLike[str] | Model,
    source: str | os.PathLike[str],
    *,
    samples: int | None = None,
    batch_size: int = 64,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Classify the test split of a data set, images prepared as the model says, and count.

    source: as in `bwn.data.datasets.load_dataset`. samples: only so many, the first ones; None: all.
    Raises DataError where the data set cannot be read or has other classes, NotPreparedError where the model does not
    say how images are prepared, BwnError where a score is not finite.
    """
    loaded = model if isinstance(model, Model) else load(os.fspath(model), threads)
    inputs = choose(loaded.spec, os.fspath(source), samples)
    if inputs.labels is None:
        raise DataError(
            f"data '{os.fspath(source)}' is images without classes: accuracy needs a labelled data set"
        )
    names = class_names(loaded.spec)
    if int(inputs.labels.max()) >= len(names):
        raise DataError(
            f"data '{os.fspath(source)}' has a class {inputs.labels.max()}, the model {len(names)} classes"
        )
    found = np.empty(inputs.count, np.int64)
    done = 0
    for batch in inputs.batches(batch_size):
        found[done : done + len(batch)] = _answers(loaded, batch)
        done += len(batch)
        progress(f"{done:,} of {inputs.count:,} images")
    progress("")
    counts = confusion(inputs.labels, found, len(names))
    accuracy = share_right(counts)
    return Evaluation(
        model="model" if isinstance(model, Model) else os.fspath(model),
        data=inputs.name,
        images=inputs.count,
        right=int(counts.trace()),
        accuracy=accuracy,
        error=1 - accuracy,
        classes=tuple(
            ClassResult(
                name,
                int(row.sum()),
                int(row[index]),
                float(row[index] / row.sum()) if row.any() else None,
            )
            for index, (name, row) in enumerate(zip(names, counts, strict=True))
        ),
        confusion=tuple(tuple(row) for row in counts.tolist()),
    )


def _answers(model: Model, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Labels:
    """The class of highest score of each input; of equal ones the first."""
    scores = model.run(x)
    if not np.isfinite(scores).all():
        raise BwnError(
            "the network's scores are not finite numbers: its activations overflow on these inputs"
        )
    best: Labels = np.argmax(scores.reshape(len(scores), -1), axis=1)
    return best
