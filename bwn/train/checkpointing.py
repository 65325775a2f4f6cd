"""The files of a run: the checkpoint of its last state, and beside it the weights of its best epoch.

A state that is not finite is never written, and a file is replaced whole or not at all. Where one cannot be written,
on a full disk say, training goes on and tries again; at the end it waits for an hour before it gives the state up.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from torch import nn

from bwn._files import check_target, same_file
from bwn.errors import CheckpointError, FileError
from bwn.train.checkpoint import BestEpoch, Description, read_checkpoint, write_checkpoint
from bwn.train.trainer import Trainer

SAVE_SECONDS = 15.0
SAVE_SHARE = 20
"""Between two saves lie SAVE_SECONDS, and SAVE_SHARE times what the last one took."""
RETRY_SECONDS = 15.0
GIVE_UP_SECONDS = 3600.0

Warn = Callable[[str], None]


def best_path(path: str | os.PathLike[str]) -> Path:
    """Where the best epoch of the run with this checkpoint is kept: model.best.pt beside model.pt."""
    path = Path(path)
    return path.with_suffix(f".best{path.suffix}")


@dataclass
class Best:
    """A best epoch's network. saved: whether it is in its file as it stands here."""

    description: Description
    module: nn.Module
    saved: bool = False


class Keeper:
    """Writes a run's two files.

    origin: the checkpoint that the run goes on from, None for a fresh run. best: what was read beside it.
    """

    def __init__(
        self,
        trainer: Trainer,
        output: str | os.PathLike[str],
        origin: str | os.PathLike[str] | None = None,
        best: Best | None = None,
    ) -> None:
        self.trainer, self.output, self.best = trainer, output, best
        folder = Path(output).absolute().parent
        if not folder.is_dir() or not os.access(
            folder, os.W_OK
        ):  # better now than after an hour of training
            raise FileError(f"'{output}' cannot be written: no folder '{folder}' to write to")
        self.best_output = best_path(output)
        check_target(output)
        check_target(self.best_output)
        self._good = None if origin is None else self._words(origin)
        self._stale = origin is None or not same_file(
            origin, output
        )  # what lies beside it is another run's
        self._due = time.monotonic() + SAVE_SECONDS
        self._failing = False

    def note_best(self, description: Description, accuracy: float) -> None:
        """Keep a copy of the network as it stands; it is written with the next save."""
        module = copy.deepcopy(self.trainer.module)
        module.zero_grad(set_to_none=True)
        best = BestEpoch(epoch=self.trainer.epoch, accuracy=accuracy)
        self.best = Best(msgspec.structs.replace(description, best=best), module.eval())

    def save(self, description: Description) -> None:
        """Write what has changed. Raises FileError, and DivergedError where the state is not finite."""
        began = time.monotonic()
        state = self.trainer.state()  # first of all: it refuses a state that is not finite
        try:
            self._remove_stale()
            self.save_best()  # before the state that speaks of it
            write_checkpoint(self.output, description, self.trainer.module, state)
        finally:
            self._due = time.monotonic() + max(
                SAVE_SECONDS, SAVE_SHARE * (time.monotonic() - began)
            )
        self._good = self._words(self.output)

    def save_best(self) -> None:
        """Write the best epoch's file, if it is not up to date. Raises FileError."""
        if self.best is not None and not self.best.saved:
            write_checkpoint(self.best_output, self.best.description, self.best.module, {})
            self.best.saved = True

    def _remove_stale(self) -> None:
        """Remove what another run left where this run's best epoch will be."""
        if self._stale and self.best is None:
            try:
                self.best_output.unlink(missing_ok=True)
            except OSError as error:
                raise FileError(
                    f"{self.best_output}: of another run, cannot be removed: {error.strerror}"
                ) from None
        self._stale = False

    def save_if_due(self, description: Description, warn: Warn) -> None:
        """Save if it is time to; a failure is told once, and tried again at the next call."""
        if time.monotonic() < self._due:
            return
        try:
            self.save(description)
        except FileError as error:
            if not self._failing:
                warn(f"{error}; training goes on and tries again after each epoch")
            self._failing = True
        else:
            if self._failing:
                warn(f"{self.output} is saved again")
            self._failing = False

    def save_or_wait(self, description: Description, warn: Warn) -> None:
        """Save a state that would be lost otherwise: wait for an hour for a disk to have space again."""
        until = time.monotonic() + GIVE_UP_SECONDS
        told = False
        while True:
            try:
                return self.save(description)
            except FileError as error:
                if time.monotonic() > until:
                    raise
                if not told:
                    warn(
                        f"{error}; trying again for {GIVE_UP_SECONDS / 60:.0f} minutes, Ctrl-C gives up"
                    )
                told = True
            time.sleep(RETRY_SECONDS)

    def last_good(self) -> str:
        """In words, which files hold a good state."""
        told = [self._good] if self._good else []
        if self.best is not None and self.best.saved and self.best.description.best is not None:
            told.append(
                f"{self.best_output} holds the best epoch, {self.best.description.best.epoch}"
            )
        return ", ".join(told) or "nothing was saved before"

    def _words(self, path: str | os.PathLike[str]) -> str:
        return f"{path} holds the state of step {self.trainer.step:,}, epoch {self.trainer.epoch}"


def find_best(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    description: Description,
    accuracy: float,
) -> Best | None:
    """The best epoch's file beside the checkpoint `path`, None where it is not there or is not of that run.

    accuracy: what the run knows as its best. A file may be a little ahead of it, if the run was killed between the two.
    """
    try:
        found = read_checkpoint(best_path(path))
    except CheckpointError:
        return None
    theirs = found.description
    same = (theirs.digest, theirs.architecture, theirs.settings) == (
        description.digest,
        description.architecture,
        description.settings,
    )
    if not same or theirs.best is None or theirs.best.accuracy < accuracy:
        return None
    return Best(theirs, found.module, saved=same_file(path, output))
