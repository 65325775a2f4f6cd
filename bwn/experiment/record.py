"""What came out of each run: one JSON line in DIR/results.jsonl. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from bwn._files import write_beside
from bwn.errors import FileError

RESULTS = "results.jsonl"
BINS = 40
"""Bins of a histogram of weights, of equal width over -1 to +1."""
NEAR = 0.05
"""A weight so close to -1 or +1 counts as having arrived."""

Line = TypeVar("Line", bound=Struct)


class Epoch(Struct, frozen=True, kw_only=True):
    """One epoch of a run. Errors are parts of the images, from 0 to 1.

    epoch: from 1; 0 is before the first step, where only the weights are known.
    loss, running_error: means over the epoch's steps, with the weights as they were then.
    validation_error: at the epoch's end on the held-out images, with the deployed weights.
    distance: mean of |1 - |w||, near: part of the weights within 0.05 of -1 or +1, histogram: (40,) how many lie in
        each of 40 equal parts of [-1, 1]; all over the real weights of the binary layers, None without such layers.
    """

    epoch: int
    loss: float | None = None
    running_error: float | None = None
    validation_error: float | None = None
    distance: float | None = None
    near: float | None = None
    histogram: tuple[int, ...] | None = None


class Record(Struct, frozen=True, kw_only=True, rename={"strength": "lambda"}):
    """One finished run. Errors are parts of the images, from 0 to 1, at the end of the last epoch.

    name: of the run and its checkpoint.
    sweep: made for a curve over lambda or weight decay, not for the comparison of schemes.
    strength: lambda at the last step, ramp: its powers of ten; None without a penalty.
    source: the data's name, digest: SHA-256 of its training images and labels.
    test_error, validation_error, train_error: with the deployed weights; test_error_real_weights: with the real ones
        instead, which is what BinaryConnect reports of its stochastic scheme (None for other schemes).
    best_epoch: the one of least validation error, best_test_error: with its deployed weights.
    seconds: of all sessions of the run.
    """

    name: str
    scheme: Literal["float", "deterministic", "stochastic", "scaled", "margin"]
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
    """The records of an experiment, in the order in which they were made; none where there is no file.

    Raises FileError, one line, where a line is not a record.
    """
    return read_lines(folder / RESULTS, Record)


def add_record(folder: Path, record: Record) -> None:
    """Add one line to the records of an experiment."""
    add_line(folder / RESULTS, record)


def add_line(path: Path, line: Struct) -> None:
    """Add a JSON line; the file is replaced as a whole, so that a full disk or a kill leaves the lines before."""
    lines = [*read_lines(path, type(line)), line]
    write_beside(path, b"".join(msgspec.json.encode(each) + b"\n" for each in lines))


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """The JSON lines of a file; none where there is no file. A torn last line, one without its end, is left out."""
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.MsgspecError as error:
            raise FileError(
                f"'{path}', line {number}: not a {kind.__name__.lower()}: {error}"
            ) from error
    return found
