"""A loaded model: `run` on arrays, `predict` and `stream` on images, `trace` and `profile`."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from bwn._arguments import BATCH_SIZE, check_counts
from bwn._text import byte_size, count_noun
from bwn._types import Floats
from bwn.errors import ArgumentError, too_little_memory
from bwn.format import read
from bwn.format.reader import Source
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Shape
from bwn.kernels.target.limits import available_threads
from bwn.kernels.target.loader import origin
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

if TYPE_CHECKING:
    # Reading images takes Pillow, which takes longer to import than a small network to run.
    from bwn.predict import ImageLike, ImageT, Prediction, Result
    from bwn.runtime.layer_times import LayerTime

logger = logging.getLogger(__name__)

THREADS_LIMIT = 1024
KEPT_PLANS = 4
"""Plans that a model keeps, one for each batch size; the least recently used is dropped first."""

Value = TypeVar("Value")

_models: WeakSet[Model] = WeakSet()


class Model:
    """A packed network, ready to run. Made by `bwn.load`.

    It can be shared by threads, which run one after the other, and pickled or copied: a copy shares
    the weights, and a pickle holds them once. Nothing has to be closed.

    Attributes:
        spec: What the file says: the graph, its preprocessing and its class names.
        threads: How many threads share the work of a run.

    Example:
        >>> import bwn
        >>> model = bwn.load("model.bwn", threads=1)
        >>> model
        <bwn.Model (1, 28, 28) -> (10,), 385.3 KiB of weights, 1 thread>
        >>> model.predict("digit.png").label
        '7'
    """

    def __init__(self, spec: ModelSpec, threads: int | None = None) -> None:
        """Prepare to run `spec`. threads: as for `bwn.load`."""
        if not isinstance(spec, ModelSpec):
            raise ArgumentError(f"spec is {type(spec).__name__}; read a file with bwn.load")
        if threads is not None:
            check_counts(threads=threads)
            if threads > THREADS_LIMIT:
                raise ArgumentError(f"threads is {threads}, at most {THREADS_LIMIT:,} are allowed")
        self.spec = spec
        self._threads = threads or available_threads()
        self._forget_runs()
        _models.add(self)

    def _forget_runs(self) -> None:
        """Start without plans, and with nobody running."""
        self._runners: OrderedDict[int, Runner] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._lock = threading.RLock()
        self._running = False

    @property
    def threads(self) -> int:
        """How many threads share the work of a run."""
        return self._threads

    def __repr__(self) -> str:
        size = byte_size(sum(array.nbytes for array in self.spec.graph.tensors.values()))
        threads = count_noun(self.threads, "thread")
        shapes = f"{self.input_shape} -> {self.output_shape}"
        return f"<bwn.Model {shapes}, {size} of weights, {threads}>"

    def __reduce__(self) -> tuple[type[Model], tuple[ModelSpec, int]]:
        return Model, (self.spec, self.threads)

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return Model(self.spec, self.threads)  # a spec is never changed

    @property
    def input_shape(self) -> Shape:
        """Shape of one input, (C, H, W) or (K,)."""
        return self.spec.graph.topology.input_shape

    @property
    def output_shape(self) -> Shape:
        """Shape of one input's scores, usually (classes,)."""
        return self.spec.graph.output_shape

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, or None where the file has none."""
        return self.spec.classes

    @property
    def preprocess(self) -> Preprocess | None:
        """How an image becomes an input, or None where the file does not say."""
        return self.spec.preprocess

    def run(self, x: npt.ArrayLike) -> Floats:
        """Compute the scores of prepared inputs, as the network's ONNX graph does.

        Nothing is added: no preprocessing, and no softmax that the graph does not have.

        Args:
            x: (N, *input_shape) floating point; float32 is used without a copy. N may be 0.

        Returns:
            (N, *output_shape) float32.

        Raises:
            ArgumentError: The shape does not fit, or x is not floating point.

        Example:
            >>> import bwn, numpy as np
            >>> bwn.load("model.bwn").run(np.zeros((2, 1, 28, 28), np.float32)).shape
            (2, 10)
        """
        batch = self._checked(x)
        if len(batch) == 0:
            return np.empty((0, *self.output_shape), np.float32)
        return self._alone(lambda model: model._run(batch))

    def _run(self, batch: Floats) -> Floats:
        runner = self._runner(len(batch))
        if runner.plan.batch == len(batch):
            return runner.run(batch)
        parts = self._passes(batch)
        return np.concatenate([self._runner(len(part)).run(part) for part in parts])

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is one image, and an iterable of str
        self, images: ImageLike, *, top: None = None, batch_size: int = BATCH_SIZE
    ) -> Prediction: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, top: int, batch_size: int = BATCH_SIZE
    ) -> tuple[Prediction, ...]: ...
    @overload
    def predict(
        self, images: Iterable[ImageLike], *, top: None = None, batch_size: int = BATCH_SIZE
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self, images: Iterable[ImageLike], *, top: int, batch_size: int = BATCH_SIZE
    ) -> list[tuple[Prediction, ...]]: ...
    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        top: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Any:
        """Classify one image, or each of several, prepared as the file says.

        Args:
            images: One image, or an iterable of images. An image is a path, a PIL image, an array
                of uint8 pixels (H, W), (H, W, 1) or (H, W, 3), the bytes of an image file, or a
                file opened in binary mode. An array is always one image.
            top: How many classes to name for each image; None: only the likeliest.
            batch_size: Images to run at once.

        Returns:
            For one image a Prediction, or with `top` a tuple of them, likeliest first. For several
            images a list of these.

        Raises:
            NotPreparedError: The file does not say how images are prepared.
            DataError: An image cannot be read. `stream` goes on after such an image.
            ArgumentError: `top` or `batch_size` is less than 1.
            BwnError: A score is not finite.

        Example:
            >>> import bwn
            >>> model = bwn.load("model.bwn")
            >>> model.predict("digit.png").label
            '7'
            >>> [guess.label for guess in model.predict("digit.png", top=3)]
            ['7', '0', '2']
            >>> [best.label for best in model.predict(["digit.png", "zero.png"])]
            ['7', '0']
        """
        from bwn.predict import predict

        return predict(self, images, top, batch_size)

    def stream(
        self, images: Iterable[ImageT], *, top: int = 1, batch_size: int = BATCH_SIZE
    ) -> Iterator[Result[ImageT]]:
        """Classify images as they come, and go on after one that cannot be read.

        At most `batch_size` images are taken before their results are yielded, so the iterable may
        be longer than memory, or never end.

        Args:
            images: Iterable of images, as for `predict`.
            top: How many classes to name for each image.
            batch_size: Images to run at once; 1 answers each image before the next one is taken.

        Returns:
            An iterator with one Result for each image, in order.

        Raises:
            NotPreparedError: The file does not say how images are prepared.
            ArgumentError: `top` or `batch_size` is less than 1, or `images` is one image.
            BwnError: A score is not finite (while iterating).

        Example:
            >>> import bwn
            >>> model = bwn.load("model.bwn")
            >>> for image, predictions, error in model.stream(["digit.png", "none.png"]):
            ...     print(image, predictions[0].label if error is None else "failed")
            digit.png 7
            none.png failed
        """
        from bwn.predict import stream

        return stream(self, images, top, batch_size)

    def trace(self, x: npt.ArrayLike) -> dict[str, Floats]:
        """Compute every activation tensor of a run.

        Args:
            x: (N, *input_shape) floating point, N of 1 or more.

        Returns:
            The tensors by name, batch axis first, float32.

        Raises:
            ArgumentError: The shape does not fit, or x is not floating point.

        Example:
            >>> import bwn, numpy as np
            >>> tensors = bwn.load("model.bwn").trace(np.zeros((2, 1, 28, 28), np.float32))
            >>> tensors["relu"].shape
            (2, 1024)
        """
        batch = self._checked(x, least=1)
        try:
            plan = make_plan(self.spec.graph, len(batch), self.threads, keep_all=True)
            Runner(plan).run(batch)
            return {name: plan.tensor(name) for name in plan.tensors}
        except MemoryError as error:
            raise too_little_memory(error) from None

    def profile(self, x: npt.ArrayLike, repeats: int = 1) -> list[LayerTime]:
        """Measure the time of every layer.

        Args:
            x: (N, *input_shape) floating point, N of 1 or more.
            repeats: How many runs the median is taken over.

        Returns:
            The layers in order.

        Raises:
            ArgumentError: The shape does not fit, x is not floating point, or `repeats` is less
                than 1.

        Example:
            >>> import bwn, numpy as np
            >>> layers = bwn.load("model.bwn").profile(np.zeros((1, 1, 28, 28), np.float32))
            >>> [layer.name for layer in layers if layer.macs]
            ['dense1', 'dense2', 'dense3', 'dense4']
        """
        from bwn.runtime.layer_times import layer_times, total

        check_counts(repeats=repeats)
        batch = self._checked(x, least=1)
        return self._alone(
            lambda model: total(
                layer_times(model._runner(len(part)), part, repeats)
                for part in model._passes(batch)
            )
        )

    def _alone(self, work: Callable[[Model], Value]) -> Value:
        """What `work` makes of this model, once no thread runs it.

        A signal handler that interrupts a run works on a copy. This is no context manager: a small
        network would run 4 % longer.
        """
        with self._lock:
            interrupted, self._running = self._running, True
            try:
                return work(Model(self.spec, self.threads) if interrupted else self)
            except MemoryError as error:
                raise too_little_memory(error) from None
            finally:
                self._running = interrupted

    def _passes(self, batch: Floats) -> list[Floats]:
        """The batch in parts whose activations stay in the caches."""
        size = self._runner(len(batch)).plan.batch
        return [batch[start : start + size] for start in range(0, len(batch), size)]

    def _checked(self, x: npt.ArrayLike, least: int = 0) -> Floats:
        """The input as C-contiguous float32, if its type and shape fit."""
        batch = np.asarray(x)
        if batch.dtype.kind != "f":
            raise ArgumentError(
                f"input is {batch.dtype}, expected floating point: pass images to Model.predict, "
                "or convert prepared numbers with x.astype(np.float32)"
            )
        if batch.shape[1:] != self.input_shape or not batch.shape or len(batch) < least:
            expected = ", ".join(map(str, self.input_shape))
            some = f" with N of {least} or more" if least else ""
            raise ArgumentError(f"input has shape {batch.shape}, expected (N, {expected}){some}")
        return np.ascontiguousarray(batch, np.float32)

    def _runner(self, batch: int) -> Runner:
        """The runner of one pass of a batch."""
        runner = self._runners.get(self._sizes.get(batch, 0))
        if runner is None:
            plan = make_plan(self.spec.graph, batch, self.threads, passes=True)
            logger.info(
                "planned batch %d: %s in passes of %d on %s, %s of activations; "
                "kernels: %s; costs: %s",
                batch,
                count_noun(len(plan.steps), "step"),
                plan.batch,
                count_noun(self.threads, "thread"),
                byte_size(plan.bytes),
                origin(),
                plan.table.line,
            )
            self._sizes[batch] = plan.batch
            runner = self._runners.get(plan.batch) or Runner(plan)
            self._runners[plan.batch] = runner
        self._runners.move_to_end(runner.plan.batch)
        if len(self._runners) > KEPT_PLANS:
            self._runners.popitem(last=False)
        return runner


def _after_fork() -> None:
    """In a forked child: a thread that ran a model is gone; its lock and buffers are not."""
    for model in list(_models):
        # Not `locked()`: it says no of a thread that has the lock and waits for Python's.
        if model._lock.acquire(blocking=False):
            model._lock.release()
        else:
            model._forget_runs()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def load(source: Source, threads: int | None = None) -> Model:
    """Read and check a .bwn file.

    Args:
        source: A path, the bytes of a file, or a file opened in binary mode.
        threads: Threads to use; None: every core that the process may use. Small networks are often
            faster on one.

    Returns:
        The model, ready to run.

    Raises:
        FormatError: The file breaks a rule of the format; one line that says which.
        FileError: The file cannot be read.
        ArgumentError: `source` is none of these, or `threads` is not a whole number of 1 to 1,024.

    Example:
        >>> import bwn
        >>> bwn.load("model.bwn").predict("digit.png").label
        '7'
        >>> with open("model.bwn", "rb") as file:
        ...     model = bwn.load(file, threads=1)
    """
    return Model(read(source), threads)
