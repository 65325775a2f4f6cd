"""Inputs for checking a network: images of a folder, a data set, or seeded noise, made one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bwn.data.datasets import load_dataset
from bwn.data.images import SUFFIXES, find_images
from bwn.errors import DataError
from bwn.ir.model_spec import ModelSpec
from bwn.predict import NotPreparedError, to_input

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

NOISE = 64


@dataclass(frozen=True)
class Samples:
    """Inputs by number.

    name: what they are, for people. labels: (count,) int64 index of the right class, or None. make: number to input.
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
    """`count` inputs of normal noise; each depends on the seed and its own number only."""
    shape = spec.graph.topology.input_shape

    def make(index: int) -> Floats:
        return np.random.default_rng((seed, index)).standard_normal(shape, np.float32)

    return Samples(f"noise, seed {seed}", count, None, make)


def choose(
    spec: ModelSpec, source: str | Path | None, count: int | None = None, seed: int = 0
) -> Samples:
    """Inputs from `source`.

    source: an image, a folder that holds images, a data set (its test split), or None: noise.
    count: at most this many; None: all, or NOISE of noise.
    Raises NotPreparedError where the model cannot take images, DataError where there are none.
    """
    if source is None:
        return noise(spec, count or NOISE, seed)
    if spec.preprocess is None:
        raise NotPreparedError
    path = Path(source)
    if path.is_file() or (
        path.is_dir() and any(entry.suffix.lower() in SUFFIXES for entry in path.iterdir())
    ):
        paths = list(find_images([path]))[:count]
        return Samples(str(source), len(paths), None, lambda index: to_input(spec, paths[index]))
    rule = spec.preprocess
    data = load_dataset(source, "test", size=rule.size, resize=rule.resize, color=rule.color)
    labels = _labels(spec, data.labels, data.classes, source)[:count]
    name = f"{source} (test split)"
    return Samples(name, len(labels), labels, lambda index: to_input(spec, data.images[index]))


def _labels(
    spec: ModelSpec, labels: Labels, classes: tuple[str, ...], source: str | Path
) -> Labels:
    """The data set's labels as the model numbers its classes."""
    names = spec.classes
    if names is None:
        return labels
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise DataError(f"{source}: has the class '{unknown[0]}', which the model does not know")
    return np.array([names.index(name) for name in classes], np.int64)[labels]
