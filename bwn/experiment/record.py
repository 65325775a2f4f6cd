"""The result of each run: one JSON line in DIR/results.jsonl. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bwn._files import write_atomically
from bwn._text import read_failure
from bwn.errors import FileError
from bwn.train.history import BINS
from bwn.train.settings import SchemeName

RESULTS = "results.jsonl"
NEAR = 2 / BINS
"""A weight this close to -1 or +1, in the outermost bins, counts as having arrived."""

Line = TypeVar("Line", bound=Struct)


class Epoch(Struct, frozen=True, kw_only=True):
    """One epoch of a run. Errors are fractions of the images, in 0 to 1.

    Attributes:
        epoch: From 1; 0 is before the first step, where only the weights are known.
        loss: Mean over the epoch's steps, with the weights of each.
        running_error: Likewise, the error on the training images.
        validation_error: At the epoch's end on the held-out images, with the deployed weights.
        distance: Mean distance to +-1 of the binary layers' real weights; like the next two None
            without such layers.
        near: Fraction of these weights within NEAR of -1 or +1.
        histogram: (bwn.train.history.BINS,) how many of them lie in each equal part of [-1, 1].
    """

    epoch: int
    loss: float | None = None
    running_error: float | None = None
    validation_error: float | None = None
    distance: float | None = None
    near: float | None = None
    histogram: tuple[int, ...] | None = None


class Record(Struct, frozen=True, kw_only=True, rename={"strength": "lambda"}):
    """One finished run. Errors are fractions of the images in 0 to 1, at the end of the last epoch.

    Attributes:
        name: Of the run and its checkpoint.
        scheme: Name of the scheme.
        seed: Seed of the run.
        sweep: Whether it belongs to a sweep over lambda or weight decay, not to the comparison of
            schemes.
        strength: lambda at the last step; None without a penalty.
        ramp: Powers of ten by which it grew; None without a penalty.
        test_error: With the deployed weights.
        test_error_real_weights: With the real weights, as BinaryConnect reports its stochastic
            scheme; None for other schemes.
        validation_error: With the deployed weights.
        train_error: With the deployed weights.
        distance: As in the last Epoch.
        near: As in the last Epoch.
        best_epoch: The epoch of the least validation error.
        best_test_error: With its deployed weights.
        source: Name of the data.
        digest: SHA-256 of its training images and labels.
        train_images: Number of images trained on.
        validation_images: Number of images held out.
        test_images: Number of test images.
        architecture: Fields of the Architecture.
        settings: Fields of the Settings.
        versions: Of bwn, torch and numpy.
        threads: Threads of the run.
        seconds: Of all sessions of the run.
        epochs: Epochs 0 to the last.
    """

    name: str
    scheme: SchemeName
    seed: int
    sweep: bool
    strength: float | None
    ramp: float | None
    test_error: float | None
    test_error_real_weights: float | None
    validation_error: float | None
    train_error: float | None
    distance: float | None
    near: float | None
    best_epoch: int | None
    best_test_error: float | None
    source: str
    digest: str
    train_images: int
    validation_images: int
    test_images: int
    architecture: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]
    threads: int
    seconds: float
    epochs: tuple[Epoch, ...]


def read_records(folder: Path) -> list[Record]:
    """The records of an experiment, in the order in which runs finished; none if there is no file.

    Raises FileError where a line is not a record.
    """
    return read_lines(folder / RESULTS, Record)


def add_record(folder: Path, record: Record) -> None:
    """Add one line to the records of an experiment."""
    add_line(folder / RESULTS, record)


def add_line(path: Path, line: Struct) -> None:
    """Add a JSON line. The file is replaced whole: a full disk or a kill leaves it readable."""
    lines = [*read_lines(path, type(line)), line]
    write_atomically(path, b"".join(msgspec.json.encode(each) + b"\n" for each in lines))


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """The JSON lines of a file; none if there is no file. A torn last line is left out."""
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise FileError(read_failure(path, error)) from error
    structs = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            structs.append(msgspec.json.decode(line, type=kind))
        except msgspec.MsgspecError as error:
            raise FileError(f"{path}: line {number} is not a record: {error}") from error
    return structs
