"""A folder that holds all of a run: checkpoints, settings, the log of its epochs, its report.

    model.pt, model.best.pt   last state and best epoch
    settings.json             network, settings, preprocessing, data, and the accuracy at the end
    log.jsonl                 a line for each epoch, as `bwn train --json` prints it
    report.html               as `bwn report` writes it; where matplotlib is installed

Needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bwn._files import write_atomically
from bwn._text import read_failure, reason
from bwn.errors import FileError

if TYPE_CHECKING:
    from bwn.train.checkpoint import Description
    from bwn.train.checkpointing import Warn
    from bwn.train.progress import Progress

RUN_FILE = "model.pt"
SETTINGS = "settings.json"
LOG = "log.jsonl"
REPORT = "report.html"


class _Line(Struct):
    """What is read of a line of the log."""

    epoch: int


class RunFolder:
    """Writes settings and log of a run. A failure warns and ends the log, not the training.

    Args:
        folder: The folder.
        done: Epochs that are done; the log's lines of later ones are dropped.
        warn: Called with one line where something cannot be written.

    Raises:
        FileError: The log cannot be read or written.
    """

    def __init__(self, folder: Path, done: int, warn: Warn) -> None:
        self._folder, self._warn, self._failed = folder, warn, False
        kept = _lines_until(folder / LOG, done) if done else []
        write_atomically(folder / LOG, b"".join(line + b"\n" for line in kept))

    def describe(self, description: Description) -> None:
        """Write what the run is."""
        text = msgspec.json.format(msgspec.json.encode(description), indent=2)
        write_atomically(self._folder / SETTINGS, text + b"\n")

    def write(self, progress: Progress) -> None:
        """Add an epoch that has ended."""
        if not progress.epoch_done or self._failed:
            return
        try:
            with open(self._folder / LOG, "ab") as file:
                file.write(msgspec.json.encode(progress) + b"\n")
        except OSError as error:
            self._failed = True
            self._warn(f"{self._folder / LOG} is no longer written: {reason(error)}")


def make_folder(folder: Path) -> None:
    """Make a run's folder, if there is none. Raises FileError, also where it holds other things."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / LOG).is_file():
            raise FileError(
                f"{folder}: has files, but not those of a run ({LOG}): name a new or empty folder"
            )
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {reason(error)}") from None


def holds_run(checkpoint: Path) -> bool:
    """Whether a checkpoint is that of a run's folder."""
    return checkpoint.name == RUN_FILE and (checkpoint.parent / LOG).is_file()


def _lines_until(path: Path, done: int) -> list[bytes]:
    """The whole lines of a log up to an epoch; none where there is no log."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [line for line in lines if msgspec.json.decode(line, type=_Line).epoch <= done]
    except OSError as error:
        raise FileError(read_failure(path, error)) from None
    except msgspec.MsgspecError as error:
        raise FileError(f"{path}: is not the log of a run: {error}; remove it") from None
