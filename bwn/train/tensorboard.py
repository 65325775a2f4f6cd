"""A TensorBoard log of a run: scalars and weight histograms of every epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bwn._text import reason
from bwn._types import StrPath
from bwn.errors import FileError, MissingPackageError
from bwn.train.checkpointing import Warn
from bwn.train.progress import Progress
from bwn.train.trainer import Trainer

SCALARS = {
    "loss/training": "loss",
    "accuracy/training": "accuracy",
    "accuracy/held-out": "validation",
    "weights/distance": "distance",
    "weights/sign flips a step": "flips",
    "schedule/learning rate": "learning_rate",
    "schedule/lambda": "strength",
}
"""Name of each curve, and the field of Progress that it shows."""


class TensorBoardLog:
    """Writes a trainer's epochs. The first failure warns and ends the log, not the training."""

    def __init__(self, writer: Any, trainer: Trainer, warn: Warn) -> None:
        self._writer, self._trainer, self._warn = writer, trainer, warn
        self._failed = False

    def write(self, progress: Progress) -> None:
        """Add an epoch that has ended: its scalars, and the real weights of every layer."""
        if progress.epoch_done and not self._failed:
            with self._warning():
                self._add(progress)

    def close(self) -> None:
        """Finish the file."""
        with self._warning():
            self._writer.close()

    def _add(self, progress: Progress) -> None:
        for name, field in SCALARS.items():
            value = getattr(progress, field)
            if value is not None:
                self._writer.add_scalar(name, value, progress.epoch)
        for name, parameter in self._trainer.module.named_parameters():
            if parameter.ndim > 1:
                weights = parameter.detach().float().cpu()
                self._writer.add_histogram(f"weights/{name}", weights, progress.epoch)
        self._writer.flush()

    @contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._failed:
                self._warn(f"the log is no longer written: {reason(error)}")
            self._failed = True


def summary_writer() -> Any:
    """The class that writes logs. Raises MissingPackageError without tensorboard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingPackageError("tensorboard", "tensorboard", "a TensorBoard log") from None
    return SummaryWriter


@contextmanager
def open_log(folder: StrPath, trainer: Trainer, warn: Warn) -> Iterator[TensorBoardLog]:
    """A log in `folder`, without the epochs of an earlier log that the trainer will do again.

    Raises MissingPackageError without tensorboard, FileError where the folder cannot be written.
    """
    epochs = trainer.step // trainer.steps_per_epoch
    try:
        writer = summary_writer()(os.fspath(folder), purge_step=epochs + 1)
    except OSError as error:
        raise FileError(f"{folder}: cannot be written as a log: {reason(error)}") from None
    log = TensorBoardLog(writer, trainer, warn)
    try:
        yield log
    finally:
        log.close()
