"""The two files of a run: the checkpoint of its last state, and the weights of its best epoch.

A state that holds NaN or infinite numbers is never written, and a file is replaced whole or not at
all. Where a file cannot be written, on a full disk for example, training continues and tries again;
at its end it retries for an hour before it gives up.
"""

from __future__ import annotations

import copy
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from torch import nn

from bwn._files import check_ending, check_target, same_file
from bwn._types import StrPath
from bwn.errors import CheckpointError, FileError
from bwn.train.checkpoint import BestEpoch, Description, read_checkpoint, write_checkpoint
from bwn.train.trainer import Trainer

SAVE_SECONDS = 15.0
SAVE_SHARE = 20
"""The next save is due after SAVE_SECONDS, or SAVE_SHARE times what the last one took."""
RETRY_SECONDS = 15.0
GIVE_UP_SECONDS = 3600.0

Warn = Callable[[str], None]


def best_path(path: StrPath) -> Path:
    """Where the best epoch of a run is saved: model.best.pt next to model.pt."""
    path = Path(path)
    return path.with_suffix(f".best{path.suffix}")


@dataclass
class Best:
    """A best epoch's network. saved: whether its file is up to date."""

    description: Description
    module: nn.Module
    saved: bool = False


class Checkpointer:
    """Writes a run's two files.

    Args:
        trainer: The run's trainer.
        output: The checkpoint to write.
        origin: The checkpoint that the run is resumed from; None for a new run.
        best: The best epoch that was read next to it.

    Attributes:
        replaces: Whether a file that was there before a new run will be replaced.

    Raises:
        ArgumentError: `output` has the ending of another kind of file.
        FileError: `output` or its folder cannot be written.
    """

    def __init__(
        self,
        trainer: Trainer,
        output: StrPath,
        origin: StrPath | None = None,
        best: Best | None = None,
    ) -> None:
        self.trainer, self.output, self.best = trainer, output, best
        check_ending(output, ".pt")
        folder = Path(output).absolute().parent
        # Better now than after an hour of training.
        if not folder.is_dir():
            raise FileError(f"{output}: cannot be written: no such folder")
        if not os.access(folder, os.W_OK):
            raise FileError(f"{output}: cannot be written: {os.strerror(errno.EACCES)}")
        check_target(output)
        self.best_output = best_path(output)
        check_target(self.best_output)
        self.replaces = origin is None and Path(output).exists()
        self._last_saved = None if origin is None else self._state_of(origin)
        # A file next to the output of a new run is another run's best epoch.
        self._stale_best = origin is None or not same_file(origin, output)
        self._due = time.monotonic() + SAVE_SECONDS
        self._failing = False

    def record_best(self, description: Description, accuracy: float) -> None:
        """Copy the network as it is now; the next save writes it."""
        module = copy.deepcopy(self.trainer.module)
        module.zero_grad(set_to_none=True)
        best = BestEpoch(epoch=self.trainer.epoch, accuracy=accuracy)
        self.best = Best(msgspec.structs.replace(description, best=best), module.eval())

    def save(self, description: Description) -> None:
        """Write what has changed.

        Raises FileError, and DivergedError where the state holds NaN or infinite numbers.
        """
        start = time.monotonic()
        state = self.trainer.state()  # first of all, because it may raise DivergedError
        try:
            self._remove_stale_best()
            self.save_best()  # before the state that refers to it
            write_checkpoint(self.output, description, self.trainer.module, state)
        finally:
            now = time.monotonic()
            self._due = now + max(SAVE_SECONDS, SAVE_SHARE * (now - start))
        self._last_saved = self._state_of(self.output)

    def save_best(self) -> None:
        """Write the best epoch's file, if it is not up to date. Raises FileError."""
        if self.best is not None and not self.best.saved:
            write_checkpoint(self.best_output, self.best.description, self.best.module, {})
            self.best.saved = True

    def _remove_stale_best(self) -> None:
        """Remove another run's file from where this run's best epoch will be."""
        if self._stale_best and self.best is None:
            try:
                self.best_output.unlink(missing_ok=True)
            except OSError as error:
                raise FileError(
                    f"{self.best_output}: of another run, cannot be removed: {error.strerror}"
                ) from None
        self._stale_best = False

    def save_if_due(self, description: Description, warn: Warn) -> None:
        """Save if it is time to. Warns of the first of several failures; each call tries again."""
        if time.monotonic() < self._due:
            return
        try:
            self.save(description)
        except FileError as error:
            if not self._failing:
                warn(f"{error}; training continues and tries again after each epoch")
            self._failing = True
        else:
            if self._failing:
                warn(f"{self.output} is being saved again")
            self._failing = False

    def save_or_wait(self, description: Description, warn: Warn) -> None:
        """Save a state that would be lost otherwise: retry for an hour. Raises FileError then."""
        until = time.monotonic() + GIVE_UP_SECONDS
        warned = False
        while True:
            try:
                return self.save(description)
            except FileError as error:
                if time.monotonic() > until:
                    raise
                if not warned:
                    minutes = f"{GIVE_UP_SECONDS / 60:.0f} minutes"
                    warn(f"{error}; retrying for {minutes}, Ctrl-C gives up")
                warned = True
            time.sleep(RETRY_SECONDS)

    def saved_states(self) -> str:
        """In words, which files hold a good state."""
        states = [self._last_saved] if self._last_saved else []
        if self.best is not None and self.best.saved and self.best.description.best is not None:
            epoch = self.best.description.best.epoch
            states.append(f"{self.best_output} holds the best epoch, {epoch}")
        return ", ".join(states) or "no checkpoint has been saved"

    def _state_of(self, path: StrPath) -> str:
        return f"{path} holds the state of step {self.trainer.step:,}, epoch {self.trainer.epoch}"


def read_best(
    path: StrPath, output: StrPath, description: Description, accuracy: float
) -> Best | None:
    """Read the best epoch's file next to a checkpoint.

    Args:
        path: The checkpoint.
        output: Where the run will save its own.
        description: Of the checkpoint.
        accuracy: The best accuracy that the run knows of. A file may be a little ahead of it, if
            the run was killed between the two writes.

    Returns:
        The best epoch; None if there is no such file or it is another run's.
    """
    try:
        checkpoint = read_checkpoint(best_path(path))
    except CheckpointError:
        return None
    other = checkpoint.description
    same_run = (other.digest, other.architecture, other.settings) == (
        description.digest,
        description.architecture,
        description.settings,
    )
    if not same_run or other.best is None or other.best.accuracy < accuracy:
        return None
    return Best(other, checkpoint.module, saved=same_file(path, output))
