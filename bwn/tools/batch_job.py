"""Rows of a job that classifies very many images, in a folder; a job started again goes on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from bwn._files import make_folder, read_limited, write_atomically
from bwn._text import count_noun
from bwn._types import StrPath
from bwn.data.datasets import no_progress
from bwn.data.folders import find_images
from bwn.errors import BwnError, DataError, FileError
from bwn.format.header import MAX_FILE
from bwn.model import Model

Row = dict[str, Any]
"""What `bwn.predict.Result.row` returns."""

JOB = "job.json"
PART = "part-{}.jsonl"
PROGRESS_SECONDS = 5.0


class Summary(msgspec.Struct, frozen=True):
    """What a job has done.

    Attributes:
        images: Images of the folder.
        done_before: How many of them had a row when the job started.
        classified: How many it classified.
        failed: How many it could not read; their rows have `error`.
        seconds: From the first to the last of its rows.
    """

    images: int
    done_before: int
    classified: int
    failed: int
    seconds: float


class BatchJob:
    """A folder with a row for each image, in files of JSON Lines.

    One process writes it, the one that starts the job; workers on any engine classify. A file is
    complete once it has its name, so a job may be stopped at any time. Started again, it classifies
    the images that have no row yet.

    Attributes:
        rest: Absolute paths of the images without a row.
    """

    def __init__(self, folder: StrPath, model: StrPath, images: StrPath) -> None:
        """Make the folder, or go on with what is in it.

        Args:
            folder: Where the rows go.
            model: The .bwn file. A folder has the rows of one model only.
            images: A folder of images, with folders inside.

        Raises:
            FileError: A file cannot be read or written, or the rows are those of another model.
            DataError: There are no images.
        """
        if not os.path.isdir(images):
            raise DataError(f"{images} is not a folder")
        self.folder = Path(folder)
        self._claim(hashlib.sha256(read_limited(model, MAX_FILE, "a .bwn file")).hexdigest())
        done = set(self._paths())
        paths = list(map(str, find_images([os.path.abspath(images)])))
        if not paths:
            raise DataError(f"no images in {images}")
        self.rest = [path for path in paths if path not in done]
        self._images = len(paths)

    def _claim(self, digest: str) -> None:
        """Write which model the rows are of, or compare it."""
        path = self.folder / JOB
        if path.exists():
            try:
                same = json.loads(path.read_bytes()).get("model_sha256") == digest
            except (OSError, ValueError, AttributeError):
                raise FileError(f"{path}: not written by this job; choose another folder") from None
            if not same:
                raise FileError(f"{self.folder} has the rows of another model; choose another")
            return
        make_folder(self.folder)
        if any(self.folder.iterdir()):
            raise FileError(f"{self.folder} is not empty and has no {JOB}; choose another folder")
        write_atomically(path, json.dumps({"model_sha256": digest}).encode() + b"\n")

    def _paths(self) -> Iterator[str]:
        """The images that have a row."""
        for part in sorted(self.folder.glob(PART.format("*"))):
            try:
                yield from (json.loads(line)["path"] for line in part.read_bytes().splitlines())
            except (OSError, ValueError, LookupError, TypeError):
                raise FileError(f"{part}: damaged; delete it, and its images run again") from None

    def write(self, rows: Sequence[Row]) -> None:
        """Add a file of rows, named by its content."""
        data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        name = PART.format(hashlib.sha256(data).hexdigest()[:16])
        write_atomically(self.folder / name, data)

    def collect(
        self, parts: Iterable[Sequence[Row]], progress: Callable[[str], None] = no_progress
    ) -> Summary:
        """Write the rows of each part as it comes.

        Args:
            parts: Rows of some images at a time, in any order.
            progress: Called with a line of text every few seconds, and at the end.

        Raises:
            BwnError: The parts have not all images.
        """
        start = shown = time.monotonic()
        done = failed = 0
        for rows in parts:
            self.write(rows)
            done += len(rows)
            failed += sum("error" in row for row in rows)
            now = time.monotonic()
            if now - shown > PROGRESS_SECONDS or done == len(self.rest):
                shown, rate = now, done / max(now - start, 1e-9)
                progress(
                    f"{done:,} of {len(self.rest):,} images, {failed:,} failed, {rate:,.0f}/s, "
                    f"{(len(self.rest) - done) / rate:,.0f} s left"
                )
        if done < len(self.rest):
            left = count_noun(len(self.rest) - done, "image")
            raise BwnError(f"the engine has left out {left}; the same job started again runs them")
        seconds = time.monotonic() - start
        return Summary(self._images, self._images - len(self.rest), done - failed, failed, seconds)


def split(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    """Parts of at most `size` paths."""
    rest = iter(paths)
    while part := list(islice(rest, size)):
        yield part


def classify(model: Model, paths: Sequence[str]) -> list[Row]:
    """Rows of some images, of which any may be damaged.

    Args:
        model: A model; one for each worker, as it keeps its plans.
        paths: Images that this machine can read.

    Raises:
        NotPreparedError: The model does not say how images are prepared.
    """
    try:
        return [result.row() for result in model.stream(paths)]
    except BwnError as error:  # the scores of one image are not finite
        if model.preprocess is None:
            raise
        if len(paths) == 1:
            return [{"path": paths[0], "error": str(error)}]
        return [row for path in paths for row in classify(model, [path])]
