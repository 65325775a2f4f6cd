"""A training run tied to its checkpoint files: started or resumed, stoppable at any step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import msgspec
import torch
from torch import nn

from bwn._types import StrPath
from bwn.data.datasets import Dataset, Resize, load_dataset, no_progress
from bwn.data.decoding import ReadProgress
from bwn.data.records import Split
from bwn.errors import CheckpointError, DataError, DivergedError, FileError
from bwn.metrics import Counts, accuracy_of, confusion
from bwn.train import distributed
from bwn.train.architectures import build_seeded
from bwn.train.checkpoint import Checkpoint, Description, read_checkpoint
from bwn.train.checkpointing import Checkpointer, Warn, best_path, read_best
from bwn.train.device import CPU, to_device
from bwn.train.memory import check_memory
from bwn.train.preprocessing import digest, measure, predictions
from bwn.train.progress import Progress
from bwn.train.settings import Architecture, Settings
from bwn.train.time_budget import Plan, plan_epochs
from bwn.train.trainer import Report, Trainer
from bwn.train.warm_start import load_weights, measure_statistics
from bwn.train.whitening import measure_whitening


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        best: Description of the best epoch's file; None without held-out images.
        finished: False where the run was stopped.
        already_complete: Whether nothing was left to do.
        early: Whether `patience` ended it.
        epochs: Epochs done.
        seconds: Time of this session.
        confusion: (classes, classes) int64 of the last state on the test images, a row for each
            right class; None where nothing was tested now.
        note: Why there is no test accuracy, if there is none.
    """

    best: Description | None
    finished: bool
    already_complete: bool
    early: bool
    epochs: int
    seconds: float
    confusion: Counts | None
    note: str | None

    @property
    def test_images(self) -> int:
        """Number of test images; 0 where nothing was tested now."""
        return 0 if self.confusion is None else int(self.confusion.sum())


class Run:
    """A training run; `start` and `resume` make one.

    Attributes:
        trainer: Its trainer.
        description: Of its checkpoint.
        checkpointer: Writes its files.
        origin: Of the checkpoint that gave a new run its first weights, or None.
        fitted: How many epochs fit into the time that the run was given, or None.
    """

    def __init__(
        self,
        trainer: Trainer,
        description: Description,
        checkpointer: Checkpointer,
        origin: Description | None = None,
        fitted: Plan | None = None,
    ) -> None:
        self.trainer, self.description, self.checkpointer = trainer, description, checkpointer
        self.origin, self.fitted = origin, fitted
        self._confusion: Counts | None = None

    def go(self, report: Report | None = None, warn: Warn = lambda text: None) -> Outcome:
        """Train to the end, or until Ctrl-C or SIGTERM; either leaves a valid checkpoint.

        A checkpoint is also written after an epoch, at most every 15 s, so that a crash costs
        little. Of several processes only rank 0 reports, saves and tests; all stop after the same
        step.

        Args:
            report: Called about twice a second, and at the end of each epoch.
            warn: Called with one line where a checkpoint cannot be written.

        Returns:
            How the run ended.

        Raises:
            DivergedError: The loss or the weights became NaN or infinite.
            FileError: The last state could not be saved. Both messages say what was.
        """
        start, already_complete = time.monotonic(), self.description.finished
        try:
            with stop_requested() as stop:
                hook = None if distributed.rank() else self._reporting(report, warn)
                finished = self.trainer.run(hook, stop)
            note = None if distributed.rank() else self._save_and_test(finished, warn)
        except (DivergedError, FileError) as error:
            if distributed.rank():
                raise
            with suppress(FileError):
                self.checkpointer.save_best()  # known to be good when it was recorded
            raise type(error)(f"{error}; {self.checkpointer.saved_states()}") from error
        best = self.checkpointer.best
        return Outcome(
            best=None if best is None else best.description,
            finished=finished,
            already_complete=already_complete,
            early=self.trainer.early,
            epochs=self.trainer.epoch,
            seconds=time.monotonic() - start,
            confusion=self._confusion,
            note=note,
        )

    def _reporting(self, report: Report | None, warn: Warn) -> Report:
        """`report`, and before and after it what is saved at an epoch's end."""

        def hook(progress: Progress) -> None:
            if progress.validation is not None and progress.best == progress.epoch:
                self.checkpointer.record_best(self.description, progress.validation)
            if report is not None:
                report(progress)
            if progress.epoch_done:
                self.checkpointer.save_if_due(self.description, warn)

        return hook

    def _save_and_test(self, finished: bool, warn: Warn) -> str | None:
        """Save how training ended, and what the test gave. Returns why there was none."""
        note = None
        if finished and not self.description.finished:
            # Ctrl-C while testing must not cost the training.
            self.checkpointer.save_or_wait(self.description, warn)
            note = self._test()
        self.checkpointer.save_or_wait(self.description, warn)
        return note

    def _test(self) -> str | None:
        """Test the last state and the best epoch. Returns why not, where there are no images."""
        preprocess = self.description.preprocess
        self.description = msgspec.structs.replace(self.description, finished=True)
        try:
            data = images_of(self.description, "test", describe=False)
        except DataError as error:
            return f"no accuracy measured: {error}"

        def test(module: nn.Module) -> Counts:
            classes = predictions(module, data, preprocess)
            return confusion(data.labels, classes, len(self.description.classes))

        self._confusion = test(self.trainer.module)
        self.description = msgspec.structs.replace(
            self.description, test_accuracy=accuracy_of(self._confusion)
        )
        best = self.checkpointer.best
        if best is not None:
            best.description = msgspec.structs.replace(
                best.description, finished=True, test_accuracy=accuracy_of(test(best.module))
            )
            best.saved = False
        return None


def start(
    data: Dataset,
    architecture: Architecture,
    settings: Settings,
    output: StrPath,
    *,
    source: str,
    resize: Resize = "stretch",
    skip_bad: bool = False,
    device: torch.device = CPU,
    origin: Checkpoint | None = None,
    seconds: float | None = None,
) -> Run:
    """Start a new run, from random weights or from a checkpoint's.

    Args:
        data: The training images.
        architecture: The network.
        settings: How to train it.
        output: The checkpoint to write.
        source: Where the images come from, for `resume` and the test images.
        resize: How they were brought to their size.
        skip_bad: Whether those that cannot be read were left out.
        device: Where to train.
        origin: The checkpoint whose weights to start from.
        seconds: Time that the epochs are fitted to; None: the epochs of the settings.

    Returns:
        The run, before its first step.

    Raises:
        BwnError: Data, network and settings do not fit together, or `output` cannot be written.
    """
    if len(data.classes) < 2:
        raise DataError(f"{source}: has only the class '{data.classes[0]}', expected two or more")
    preprocess = measure(data, resize)
    check_memory(architecture, settings.batch_size, device)
    fitted = None
    if seconds is not None:
        module = to_device(build_seeded(architecture, settings.seed), device)
        fitted = plan_epochs(seconds, module, data, preprocess, settings)
        settings = msgspec.structs.replace(settings, epochs=fitted.epochs)
    description = Description(
        architecture=architecture,
        settings=settings,
        preprocess=preprocess,
        classes=data.classes,
        source=source,
        digest=digest(data),
        skip_bad=skip_bad,
        begun_from=origin.path if origin else None,
    )
    module = build_seeded(architecture, settings.seed)
    if origin is None:
        measure_whitening(module, data, preprocess)
    else:
        load_weights(module, architecture, data.classes, origin)
        measure_statistics(module, torch.from_numpy(data.images), settings.batch_size, preprocess)
    trainer = Trainer(to_device(module, device), data, preprocess, settings)
    checkpointer = Checkpointer(trainer, output)
    return Run(trainer, description, checkpointer, origin.description if origin else None, fitted)


def resume(
    checkpoint_path: StrPath,
    output: StrPath | None = None,
    source: str | None = None,
    warn: Warn = lambda text: None,
    device: torch.device = CPU,
    progress: ReadProgress = no_progress,
) -> Run:
    """Resume a run from its checkpoint, with its settings and its data, on any device.

    Args:
        checkpoint_path: The checkpoint of the run's last state.
        output: The checkpoint to write; None: the same.
        source: Where its data is now; None: where it was.
        warn: Called with one line where the best epoch's file is missing.
        device: Where to train.
        progress: Called with a line of text while images are read, and with "" at the end.

    Returns:
        The run, before its next step.

    Raises:
        CheckpointError: The checkpoint is refused, or the images are not those of the run.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    description = checkpoint.description
    if description.best is not None:
        raise CheckpointError(
            f"{checkpoint_path} holds the weights of the best epoch, not the state of the "
            "training: it can be packed and exported; resume the checkpoint next to it"
        )
    description = msgspec.structs.replace(description, source=source or description.source)
    data = images_of(description, "train", progress=progress)
    if digest(data) != description.digest:
        raise CheckpointError(
            f"{checkpoint_path} was trained on other images than those now in {description.source}"
        )
    module = to_device(checkpoint.module, device)
    trainer = Trainer(module, data, description.preprocess, description.settings)
    try:
        trainer.restore(checkpoint.training)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint_path}: {error}") from error
    output = output or checkpoint_path
    accuracy, epoch = trainer.best or (0.0, 0)
    best = read_best(checkpoint_path, output, description, accuracy)
    if epoch and best is None:
        warn(
            f"{best_path(checkpoint_path)} does not hold this run's best epoch, {epoch}: it will "
            "be replaced by the next epoch that is at least as good"
        )
    return Run(trainer, description, Checkpointer(trainer, output, checkpoint_path, best))


def images_of(
    description: Description,
    split: Split,
    describe: bool = True,
    progress: ReadProgress = no_progress,
) -> Dataset:
    """The images of a run's data set, as its network reads them. Raises DataError."""
    return load_dataset(
        description.source,
        split,
        rule=description.preprocess,
        skip_bad=description.skip_bad,
        describe=describe,
        progress=progress,
    )


stop_signals: list[int] = []
"""The signal that stopped the last run. An Event could wait forever for its own lock, in `set`."""


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag; a second one acts as usual.

    Gives a function that reads the flag.
    """
    stop_signals.clear()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals belong to the main thread
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def on_signal(received: int, _frame: FrameType | None) -> None:
        stop_signals.append(received)
        restore()

    try:
        for number in handlers:
            signal.signal(number, on_signal)
        yield lambda: bool(stop_signals)
    finally:
        restore()
