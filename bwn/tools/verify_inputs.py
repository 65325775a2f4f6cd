"""Inputs for checking a network: images of a folder, a data set, or seeded noise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bwn._files import check_path
from bwn._text import listed
from bwn._types import Floats, Labels, StrPath
from bwn.data.class_folders import match_class
from bwn.data.datasets import holds_only_images, load_dataset, load_images, no_progress
from bwn.data.decoding import ReadProgress
from bwn.data.folders import find_images
from bwn.data.records import Pixels
from bwn.data.resizing import normalized
from bwn.errors import DataError, NotPreparedError
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.predict import class_names

LISTED = 5
NOISE = 64
"""Inputs of noise, where no count is given."""


@dataclass(frozen=True)
class Samples:
    """Inputs by number, made one batch at a time.

    Attributes:
        name: What they are, for people.
        count: How many there are.
        labels: (count,) int64 index of the right class, or None.
        make: Returns the input of a number: input_shape float32.
    """

    name: str
    count: int
    labels: Labels | None
    make: Callable[[int], Floats]

    def batch(self, start: int, stop: int) -> Floats:
        """Inputs start to stop - 1: (N, *input_shape) float32."""
        return np.stack([self.make(index) for index in range(start, min(stop, self.count))])

    def batches(self, size: int) -> Iterator[Floats]:
        """All inputs in order, `size` at a time."""
        return (self.batch(start, start + size) for start in range(0, self.count, size))


def noise(spec: ModelSpec, count: int, seed: int) -> Samples:
    """`count` inputs of normal noise; each depends on the seed and its own number only.

    For a network that takes pixels from 0 to 255 it has their mean and about their deviation.
    """
    rule, shape = spec.preprocess, spec.graph.topology.input_shape
    mean, deviation = (127.5, 64.0) if rule is not None and rule.takes_pixels else (0.0, 1.0)

    def make(index: int) -> Floats:
        x = np.random.default_rng((seed, index)).standard_normal(shape, np.float32)
        return x * np.float32(deviation) + np.float32(mean)

    return Samples(f"noise, seed {seed}", count, None, make)


def load_samples(
    spec: ModelSpec,
    source: StrPath | None,
    count: int | None = None,
    seed: int = 0,
    *,
    skip_bad: bool = False,
    progress: ReadProgress = no_progress,
) -> Samples:
    """Inputs from `source`.

    Args:
        spec: The model that takes them.
        source: An image, a folder of images, a data set (its test split), or None: noise.
        count: At most this many; None: all, or NOISE inputs of noise.
        seed: Of the noise.
        skip_bad: See `load_dataset`.
        progress: See `load_dataset`.

    Raises:
        NotPreparedError: The model does not say how images are prepared.
        DataError: There are no images, some cannot be read, or they have classes that the model
            does not know.
    """
    if source is None:
        return noise(spec, count or NOISE, seed)
    rule, shape = spec.preprocess, spec.graph.topology.input_shape
    if rule is None:
        raise NotPreparedError

    def make(index: int) -> Floats:
        return normalized(images[index], rule).reshape(shape)

    if is_images(source):
        paths = [str(path) for path in find_images([source])][:count]
        images = load_images(source, paths, rule, skip_bad=skip_bad, progress=progress)
        return Samples(str(source), len(images), None, make)
    names = spec.classes and class_names(spec)
    name, images, labels = load_test_split(
        rule, names, source, count, skip_bad=skip_bad, progress=progress
    )
    return Samples(name, len(labels), labels, make)


def is_images(source: StrPath) -> bool:
    """Return whether `source` is a file, or a folder of images without classes."""
    check_path(source)
    return Path(source).is_file() or holds_only_images(Path(source))


def load_test_split(
    rule: Preprocess | None,
    classes: Sequence[str] | None,
    source: StrPath,
    count: int | None = None,
    *,
    skip_bad: bool = False,
    progress: ReadProgress = no_progress,
) -> tuple[str, Pixels, Labels]:
    """Return the name, the images and the labels of a data set's test split.

    The images have the size and the color that the network takes, but are not normalized.

    Args:
        rule: How the network prepares images.
        classes: Names of its classes, whose indices the labels are; None: labels as stored.
        source: As in `bwn.data.datasets.load_dataset`.
        count: At most this many images, the first ones, or evenly spread where the first ones are
            all of the first class; None: all.
        skip_bad: See `load_dataset`.
        progress: See `load_dataset`.

    Raises:
        NotPreparedError: The network does not say how it prepares images.
        DataError: The data set cannot be read, or has a class that the network does not know.
    """
    if rule is None:
        raise NotPreparedError
    data = load_dataset(source, "test", rule=rule, skip_bad=skip_bad, progress=progress)
    labels = _labels(classes, data.labels, data.classes, source)
    chosen = np.arange(min(count or len(labels), len(labels)))
    if bool((np.diff(data.labels) >= 0).all()):
        chosen = chosen * len(labels) // max(len(chosen), 1)
    return f"{os.fspath(source)} (test split)", data.images[chosen], labels[chosen]


def _labels(
    names: Sequence[str] | None, labels: Labels, classes: tuple[str, ...], source: StrPath
) -> Labels:
    """The data set's labels as the model, whose classes have these names, numbers them."""
    if names is None:
        return labels
    indices = [match_class(name, names) for name in classes]
    unknown = [name for name, index in zip(classes, indices, strict=True) if index is None]
    if unknown:
        raise DataError(
            f"{source}: class '{unknown[0]}' is not one of the model's classes "
            f"({listed(names, LISTED)})"
        )
    return np.array(indices, np.int64)[labels]
