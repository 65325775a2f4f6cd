"""`bwn train` without its command line: from a data set to a checkpoint, stoppable and resumable."""

from __future__ import annotations

import os
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

from bwn.data.datasets import Dataset, Resize, Split, load_dataset
from bwn.errors import CheckpointError, DataError, DivergedError, FileError
from bwn.ir.node import Pair
from bwn.metrics import Counts, confusion, share_right
from bwn.train import distributed
from bwn.train.architectures import Architecture, build_seeded
from bwn.train.checkpoint import Checkpoint, Description, read_checkpoint
from bwn.train.checkpointing import Keeper, Warn, best_path, find_best
from bwn.train.device import CPU, placed
from bwn.train.preprocessing import answers, digest, measure
from bwn.train.settings import Settings
from bwn.train.trainer import Progress, Trainer
from bwn.train.warm_start import measure_statistics, take_weights

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    finished: False where it was stopped. early: no better validation for `patience` epochs. best: of the best epoch's
    file, None without held-out images. confusion: (classes, classes) int64 of the last state on the test images, rows
    are the right classes; None where nothing was tested now. note: why there is no test accuracy, if so.
    """

    description: Description
    best: Description | None
    finished: bool
    early: bool
    epochs: int
    images: int
    parameters: int
    seconds: float
    test_images: int = 0
    confusion: Counts | None = None
    note: str | None = None


class Run:
    """A training run tied to its checkpoint files; `start` and `resume` make one."""

    def __init__(self, trainer: Trainer, description: Description, keeper: Keeper) -> None:
        self.trainer, self.description, self.keeper = trainer, description, keeper
        self.output = keeper.output
        self._tested: Counts | None = None

    def go(self, report: Report | None = None, warn: Warn = lambda text: None) -> Outcome:
        """Train to the end, or until Ctrl-C or SIGTERM; either way a valid checkpoint is left.

        Checkpoints are also written after an epoch, at most every 15 s, so that a crash costs little.
        warn: told, in one line, when one cannot be written. Raises DivergedError and FileError, which say what is kept.
        Of several processes only rank 0 reports, saves and tests; they all stop after the same step.
        """
        try:
            return self._go(report, warn)
        except (DivergedError, FileError) as error:
            if distributed.rank():
                raise
            with suppress(FileError):
                self.keeper.save_best()  # found good when it was noted
            raise type(error)(f"{error}; {self.keeper.last_good()}") from error

    def _go(self, report: Report | None, warn: Warn) -> Outcome:
        began = time.monotonic()

        def tell(progress: Progress) -> None:
            if (
                progress.epoch_done
                and progress.validation is not None
                and progress.best == progress.epoch
            ):
                self.keeper.note_best(self.description, progress.validation)
            if report is not None:
                report(progress)
            if progress.epoch_done:
                self.keeper.save_if_due(self.description, warn)

        with stop_requested() as stop:
            finished = self.trainer.run(None if distributed.rank() else tell, stop)
        note = None if distributed.rank() else self._save_and_test(finished, warn)
        return Outcome(
            description=self.description,
            best=None if self.keeper.best is None else self.keeper.best.description,
            finished=finished,
            early=self.trainer.early,
            epochs=self.trainer.epoch,
            images=len(self.trainer.train_data.images),
            parameters=sum(parameter.numel() for parameter in self.trainer.module.parameters()),
            seconds=time.monotonic() - began,
            test_images=0 if self._tested is None else int(self._tested.sum()),
            confusion=self._tested,
            note=note,
        )

    def _save_and_test(self, finished: bool, warn: Warn) -> str | None:
        """Save how training ended, and what the test gave. Returns why there was none."""
        note = None
        if finished and not self.description.finished:
            self.keeper.save_or_wait(
                self.description, warn
            )  # Ctrl-C while testing must not cost the training
            note = self._test()
        self.keeper.save_or_wait(self.description, warn)
        return note

    def _test(self) -> str | None:
        """Measure the last state and the best epoch on the test images. Returns why not, where there are none."""
        prepared = self.description.preprocess
        self.description = msgspec.structs.replace(self.description, finished=True)
        try:
            data = images_of(self.description, "test")
        except DataError as error:
            return f"not tested: {error}"

        def test(module: nn.Module) -> Counts:
            return confusion(
                data.labels, answers(module, data, prepared), len(self.description.classes)
            )

        self._tested = test(self.trainer.module)
        self.description = msgspec.structs.replace(
            self.description, test_accuracy=share_right(self._tested)
        )
        best = self.keeper.best
        if best is not None:
            found = test(best.module)
            best.description = msgspec.structs.replace(
                best.description, finished=True, test_accuracy=share_right(found)
            )
            best.saved = False
        return None


def start(
    source: str,
    architecture: Callable[[tuple[int, int, int], int], Architecture],
    settings: Callable[[int], Settings],
    output: str | os.PathLike[str],
    *,
    size: Pair | None = None,
    resize: Resize = "stretch",
    device: torch.device = CPU,
    begin: Checkpoint | None = None,
) -> Run:
    """A fresh run, from random weights or from those of the checkpoint `begin`.

    architecture: from the images' shape (C, H, W) and the number of classes. settings: from the number of images.
    """
    color = begin.description.preprocess.color if begin else None
    data = load_dataset(source, "train", size=size, resize=resize, color=color)
    if len(data.classes) < 2:
        raise DataError(
            f"data '{source}' has only the class '{data.classes[0]}'; expected two or more"
        )
    preprocess = measure(data, resize)
    network = architecture((1 if data.color == "L" else 3, *data.size), len(data.classes))
    chosen = settings(len(data.images))
    description = Description(
        architecture=network,
        settings=chosen,
        preprocess=preprocess,
        classes=data.classes,
        source=source,
        digest=digest(data),
        begun_from=begin.path if begin else None,
    )
    module = build_seeded(network, chosen.seed)
    if begin is not None:
        take_weights(module, network, data.classes, begin)
        measure_statistics(module, torch.from_numpy(data.images), chosen.batch_size, preprocess)
    trainer = Trainer(placed(module, device), data, preprocess, chosen)
    return Run(trainer, description, Keeper(trainer, output))


def resume(
    checkpoint_path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    source: str | None = None,
    warn: Warn = lambda text: None,
    device: torch.device = CPU,
) -> Run:
    """Go on from a checkpoint, on any device, with its settings and its data (from another place, if `source` says so).

    warn: told where the file of the best epoch is no longer there.
    Raises CheckpointError where the checkpoint is refused or the training images are not those it began with.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    description = checkpoint.description
    if description.best is not None:
        raise CheckpointError(
            f"'{checkpoint_path}' holds the weights of the best epoch, not the state of the training: "
            "it can be packed and exported; resume the checkpoint beside it"
        )
    prepared = description.preprocess
    source = source or description.source
    description = msgspec.structs.replace(description, source=source)
    data = images_of(description, "train")
    if digest(data) != description.digest:
        raise CheckpointError(
            f"'{checkpoint_path}' was not trained on the images now in '{source}'"
        )
    trainer = Trainer(placed(checkpoint.module, device), data, prepared, description.settings)
    trainer.restore(checkpoint.training)
    output = output or checkpoint_path
    accuracy, epoch = trainer.best or (0.0, 0)
    best = find_best(checkpoint_path, output, description, accuracy)
    if epoch and best is None:
        warn(
            f"{best_path(checkpoint_path)} does not hold this run's best epoch, {epoch}: one as good replaces it"
        )
    keeper = Keeper(trainer, output, checkpoint_path, best)
    return Run(trainer, description, keeper)


def images_of(description: Description, split: Split) -> Dataset:
    """The images of a run's data set, in the size and colours that its network reads. Raises DataError."""
    prepared = description.preprocess
    return load_dataset(
        description.source, split, size=prepared.size, resize=prepared.resize, color=prepared.color
    )


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag; a second one acts as usual. Gives a function that reads it."""
    asked: list[
        int
    ] = []  # an Event would wait for ever for its own lock if a second signal came within set()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(asked)  # signals belong to the main thread
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(asked_by: int, _frame: FrameType | None) -> None:
        asked.append(asked_by)
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        for number in before:
            signal.signal(number, ask)
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
