"""A log of a run for TensorBoard: numbers and weight histograms of every epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bwn.errors import FileError, MissingPackageError
from bwn.train.trainer import Progress, Trainer

NUMBERS = {
    "loss/training": "loss",
    "accuracy/training": "accuracy",
    "accuracy/held-out": "validation",
    "weights/distance": "distance",
    "schedule/learning rate": "learning_rate",
    "schedule/lambda": "strength",
}
"""What is drawn, and the field of Progress that it is."""


class Board:
    """Writes a trainer's epochs. A log that cannot be written is told once, and does not stop the training."""

    def __init__(self, writer: Any, trainer: Trainer, warn: Callable[[str], None]) -> None:
        self._writer, self._trainer, self._warn = writer, trainer, warn
        self._failed = False

    def write(self, progress: Progress) -> None:
        """Add an epoch that has ended: its numbers, and the real weights of every layer."""
        if progress.epoch_done:
            self._try(lambda: self._add(progress))

    def close(self) -> None:
        """Finish the file."""
        self._try(self._writer.close)

    def _add(self, progress: Progress) -> None:
        for name, field in NUMBERS.items():
            value = getattr(progress, field)
            if value is not None:
                self._writer.add_scalar(name, value, progress.epoch)
        for name, parameter in self._trainer.module.named_parameters():
            if parameter.ndim > 1:
                self._writer.add_histogram(
                    f"weights/{name}", parameter.detach().float().cpu(), progress.epoch
                )
        self._writer.flush()

    def _try(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except OSError as error:
            self._failed = True
            self._warn(f"the log is no longer written: {error.strerror or error}")


@contextmanager
def open_board(
    folder: str | os.PathLike[str], trainer: Trainer, warn: Callable[[str], None]
) -> Iterator[Board]:
    """A log in `folder`; epochs that the trainer has yet to do are dropped from an earlier log there.

    Raises MissingPackageError without tensorboard, FileError where the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingPackageError("tensorboard", "tensorboard", "--log") from None
    done = trainer.step // trainer.steps_per_epoch
    try:
        writer = SummaryWriter(os.fspath(folder), purge_step=done + 1)
    except OSError as error:
        raise FileError(
            f"{folder}: cannot be written as a log: {error.strerror or error}"
        ) from None
    board = Board(writer, trainer, warn)
    try:
        yield board
    finally:
        board.close()
