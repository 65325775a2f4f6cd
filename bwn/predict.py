"""From images to class names and probabilities: what Model.predict and `bwn infer` share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from math import prod
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from bwn.data.images import as_image, prepare
from bwn.errors import BwnError, FileError
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import reference
from bwn.ops import Softmax

Floats = npt.NDArray[np.float32]
ImageLike = Image.Image | npt.NDArray[np.uint8] | str | os.PathLike[str] | bytes


class Runs(Protocol):
    """What is asked of a model: bwn.model.Model is one."""

    @property
    def spec(self) -> ModelSpec:
        """The graph, its preprocessing and its class names."""

    def run(self, x: Floats) -> Floats:
        """Scores (N, classes) of x: (N, *input_shape)."""


class NotPreparedError(FileError):
    """The model has no preprocessing, so images cannot be given to it."""

    def __init__(self) -> None:
        super().__init__(
            "the model does not say how images are prepared: pack it from a checkpoint of bwn train, or from an ONNX "
            "file with bwn.preprocess metadata, or give prepared arrays to Model.run"
        )


class Prediction(msgspec.Struct, frozen=True):
    """A class that an image may be of.

    label: its name, or its index as text where the model has no names. probability: 0 to 1. index: of the class.
    """

    label: str
    probability: float
    index: int


def predict(model: Runs, images: Iterable[ImageLike], batch_size: int = 16) -> list[Prediction]:
    """The likeliest class of each image.

    images: PIL images, (H, W) or (H, W, 3) uint8 arrays, paths, or the bytes of files.
    Raises FileError where the model says no preprocessing, DataError where an image cannot be read.
    """
    if isinstance(images, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            f"images is one {type(images).__name__}: expected several, such as a list of one"
        )
    waiting = iter(images)
    found: list[Prediction] = []
    while batch := [to_input(model.spec, image) for image in islice(waiting, batch_size)]:
        found += [best[0] for best in classify(model, np.stack(batch))]
    return found


def to_input(spec: ModelSpec, image: ImageLike) -> Floats:
    """One image as the network's input: input_shape float32. Raises as `predict`."""
    if spec.preprocess is None:
        raise NotPreparedError
    return prepare(as_image(image), spec.preprocess).reshape(spec.graph.topology.input_shape)


def classify(model: Runs, x: Floats, top: int = 1) -> list[tuple[Prediction, ...]]:
    """The `top` likeliest classes of each input, likeliest first; of equal ones the lower index.

    x: (N, *input_shape) float32. Raises BwnError where a score is not finite.
    """
    scores = np.asarray(model.run(x))
    chances = probabilities(model.spec, scores.reshape(len(scores), -1))
    order = np.argsort(-chances, axis=1, kind="stable")[:, :top]
    names = labels(model.spec)
    return [
        tuple(Prediction(names[k], float(row[k]), int(k)) for k in best)
        for row, best in zip(chances, order, strict=True)
    ]


def probabilities(spec: ModelSpec, scores: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Softmax of scores (N, classes); a graph that ends in a softmax has made them already."""
    if not np.isfinite(scores).all():
        raise BwnError(
            "the network's scores are not finite numbers: its activations overflow on this input"
        )
    if any(
        isinstance(node, Softmax) and node.output == spec.graph.topology.output
        for node in spec.graph.nodes
    ):
        return scores.astype(np.float64)
    return reference.softmax(scores)


def labels(spec: ModelSpec) -> Sequence[str]:
    """Names of the classes: from the file, else their indices."""
    if spec.classes is not None:
        return spec.classes
    return [str(index) for index in range(prod(spec.graph.output_shape))]
