"""From images to class names and probabilities, for Model.predict, `bwn infer` and evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from bwn._arguments import BATCH_SIZE, check_counts
from bwn._text import with_article
from bwn._types import Floats, StrPath
from bwn.data.images import as_image
from bwn.data.resizing import prepare
from bwn.errors import ArgumentError, BwnError, DataError, NotPreparedError
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import reference
from bwn.kernels.target.limits import available_threads
from bwn.ops.softmax import Softmax

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

ImageLike = Image.Image | npt.NDArray[np.uint8] | StrPath | bytes | BinaryIO
"""One image: PIL, uint8 pixels (H, W), (H, W, 1) or (H, W, 3), a path, or the bytes of a file."""

ImageT = TypeVar("ImageT", bound=ImageLike)

IMAGES = "path, PIL image, uint8 array, bytes, binary file"
"""What an image can be, in messages."""


class SupportsRun(Protocol):
    """What is asked of a model; bwn.model.Model has it."""

    @property
    def spec(self) -> ModelSpec:
        """The graph, its preprocessing and its class names."""

    def run(self, x: Floats) -> Floats:
        """Scores (N, classes) of x: (N, *input_shape)."""


class Prediction(msgspec.Struct, frozen=True):
    """One class that an image may show.

    Attributes:
        label: Name of the class, or its index as text where the model has no names.
        probability: 0 to 1.
        index: Index of the class.

    Example:
        >>> import bwn
        >>> best = bwn.load("model.bwn").predict("digit.png")
        >>> best.label, best.index, round(best.probability, 3)
        ('7', 7, 0.812)
    """

    label: str
    probability: float
    index: int


class Result(NamedTuple, Generic[ImageT]):
    """What became of one image of a stream.

    Attributes:
        image: The image as it was passed.
        predictions: The likeliest classes, likeliest first; empty where the image cannot be read.
        error: Why the image cannot be read, or None.

    Example:
        >>> import bwn
        >>> (result,) = bwn.load("model.bwn").stream(["digit.png"])
        >>> result.image, result.predictions[0].label, result.error
        ('digit.png', '7', None)
    """

    image: ImageT
    predictions: tuple[Prediction, ...]
    error: DataError | None

    def row(self) -> dict[str, Any]:
        """What `bwn infer --json` prints of an image that has a path.

        Returns:
            `path`, and either `error` or the best class's `label`, `probability` and `index`; of
            several classes also `top`, all of them.

        Example:
            >>> import bwn
            >>> (result,) = bwn.load("model.bwn").stream(["none.png"])
            >>> result.row()
            {'path': 'none.png', 'error': 'no such file'}
        """
        path = str(self.image)
        if self.error is not None:
            error = str(self.error).removeprefix(f"{path}: ").removesuffix(f": {path}")
            return {"path": path, "error": error.replace(f"{path} is ", "is ")}
        return {"path": path, **fields(self.predictions)}


def fields(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What JSON says of an image: its best class, and of several also `top`, all of them."""
    best: list[dict[str, Any]] = [msgspec.structs.asdict(each) for each in predictions]
    return {**best[0], **({"top": best} if len(best) > 1 else {})}


def is_one_image(images: object) -> bool:
    """Return whether `images` is a single image, not several."""
    single = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, np.ndarray)
    return isinstance(images, single) or hasattr(images, "read")


def predict(
    model: SupportsRun, images: Any, top: int | None = None, batch_size: int = BATCH_SIZE
) -> Any:
    """What Model.predict returns; see there."""
    check_counts(top=1 if top is None else top, batch_size=batch_size)
    if is_one_image(images):
        (predictions,) = classify(model, to_input(model.spec, images)[None], top or 1)
        return predictions[0] if top is None else predictions
    ranked = []
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise ArgumentError(
            f"{_images_are(images)}, expected an image ({IMAGES}) or a list of them"
        )
    for result in stream(model, images, top or 1, batch_size):
        if result.error is not None:
            raise result.error
        ranked.append(result.predictions)
    return [predictions[0] for predictions in ranked] if top is None else ranked


def _images_are(images: object) -> str:
    """What kind of thing `images` is, in a message that refuses it."""
    return f"images is {'None' if images is None else with_article(type(images).__name__)}"


def stream(
    model: SupportsRun, images: Iterable[ImageT], top: int = 1, batch_size: int = BATCH_SIZE
) -> Iterator[Result[ImageT]]:
    """Classify images as they come, and go on after one that cannot be read.

    At most `batch_size` images are taken before their results are yielded, in order.

    Args:
        model: A loaded model.
        images: Any iterable of images; it may never end.
        top: How many classes to name for each image.
        batch_size: Images to run at once.

    Returns:
        An iterator with one Result for each image.

    Raises:
        NotPreparedError: The model does not say how images are prepared.
        ArgumentError: `top` or `batch_size` is less than 1, or `images` is one image.
        BwnError: A score is not finite (while iterating).
    """
    check_counts(top=top, batch_size=batch_size)
    if is_one_image(images) or not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise ArgumentError(f"{_images_are(images)}, expected a list of images ({IMAGES})")
    if model.spec.preprocess is None:
        raise NotPreparedError
    return _stream(model, enumerate(images), top, batch_size)


def _stream(
    model: SupportsRun, images: Iterator[tuple[int, ImageT]], top: int, batch_size: int
) -> Iterator[Result[ImageT]]:
    for batch in _prepared(model.spec, images, batch_size):
        inputs = [x for _, x in batch if not isinstance(x, DataError)]
        ranked = iter(classify(model, np.stack(inputs), top) if inputs else ())
        for image, x in batch:
            if isinstance(x, DataError):
                yield Result(image, (), x)
            else:
                yield Result(image, next(ranked), None)


def _prepared(
    spec: ModelSpec, images: Iterator[tuple[int, ImageT]], batch_size: int
) -> Iterator[list[tuple[ImageT, Floats | DataError]]]:
    """Yield batches of images with their inputs.

    Files are decoded by a thread for each CPU. Other images are read as they are taken: they may be
    frames of one object, members of one archive, or an array that is filled again. What was taken
    before the source raises is answered first.
    """
    failure: Exception | None = None
    while failure is None:
        batch: list[tuple[ImageT, Callable[[], Floats | DataError]]] = []
        # A pool for each batch: the process may fork while its results are used.
        with ExitStack() as stack:
            pool: ThreadPoolExecutor | None = None
            try:
                for index, image in islice(images, batch_size):
                    read = partial(_input_or_error, spec, image, f"images[{index}]")
                    if batch_size > 1 and isinstance(image, (str, os.PathLike, bytes)):
                        pool = pool or stack.enter_context(_threads())
                        batch.append((image, pool.submit(read).result))
                    else:
                        batch.append((image, partial(_same, read())))
            except Exception as error:
                failure = error
            prepared = [(image, result()) for image, result in batch]
        if not prepared and failure is None:
            return
        yield prepared
    raise failure


def _threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # a single image starts faster without

    return ThreadPoolExecutor(available_threads())


def _same(x: Floats | DataError) -> Floats | DataError:
    return x


def _input_or_error(spec: ModelSpec, image: ImageLike, name: str) -> Floats | DataError:
    try:
        return to_input(spec, image, name)
    except DataError as error:
        return error


def to_input(spec: ModelSpec, image: ImageLike, name: str = "image") -> Floats:
    """Prepare one image as the network's input.

    Args:
        spec: A model with preprocessing.
        image: Any image that `Model.predict` accepts.
        name: What to call an image without a path in a message.

    Returns:
        input_shape float32.

    Raises:
        NotPreparedError: The model does not say how images are prepared.
        DataError: The image cannot be read.
    """
    if spec.preprocess is None:
        raise NotPreparedError
    prepared = prepare(as_image(image, name, spec.preprocess), spec.preprocess)
    return prepared.reshape(spec.graph.topology.input_shape)


def classify(model: SupportsRun, x: Floats, top: int = 1) -> list[tuple[Prediction, ...]]:
    """The `top` best classes of each input, best first; of equal ones the lower index.

    Args:
        model: A loaded model.
        x: (N, *input_shape) float32, prepared.
        top: How many classes to name for each input.

    Raises:
        BwnError: A score is not finite.
    """
    scores = class_scores(np.asarray(model.run(x)).reshape(len(x), -1))
    chances = probabilities(model.spec, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    names = class_names(model.spec)
    return [
        tuple(Prediction(names[k], float(row[k]), int(k)) for k in best)
        for row, best in zip(chances, order, strict=True)
    ]


def class_scores(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Scores (N, classes) of scores (N, outputs).

    A single output is the logit of the second of two classes, as networks trained with a sigmoid
    have it: the first class's score is 0, so that the softmax of both is that sigmoid.
    """
    return np.insert(scores, 0, 0, axis=1) if scores.shape[1] == 1 else scores


def probabilities(spec: ModelSpec, scores: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Softmax of scores (N, classes), unless the graph ends in one itself."""
    if not np.isfinite(scores).all():
        raise BwnError(
            "the scores are not finite: the network's activations overflow on this input"
        )
    if ends_in_softmax(spec):
        return scores.astype(np.float64)
    return reference.softmax(scores)


def ends_in_softmax(spec: ModelSpec) -> bool:
    """Whether the scores are probabilities already."""
    return any(
        isinstance(node, Softmax) and node.output == spec.graph.topology.output
        for node in spec.graph.nodes
    )


def class_names(spec: ModelSpec) -> Sequence[str]:
    """Names of the classes: those of the file, or else their indices; two for a single score."""
    outputs = prod(spec.graph.output_shape)
    names = spec.classes or [str(index) for index in range(max(outputs, 2))]
    return (f"not {names[0]}", names[0]) if len(names) == 1 else names
