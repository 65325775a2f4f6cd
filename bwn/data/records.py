"""Files of records read whole, gzip or not, without trusting the sizes that they claim."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from bwn._text import read_failure
from bwn._types import Labels
from bwn.errors import DataError

Split = Literal["train", "test"]
Pixels = npt.NDArray[np.uint8]
Labeled = tuple[Pixels, Labels, tuple[str, ...]]
"""Images (N, H, W) or (N, H, W, 3), the index of each one's class, and the classes' names."""

NOUNS: dict[Split, str] = {"train": "training", "test": "test"}
"""How messages call the images of a split."""

MAX_BYTES = 2**33
"""Largest split that is read: 8 GiB of pixels."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file, or what a gzip file holds; what goes wrong is a DataError that names it."""
    try:
        with path.open("rb") as raw:
            yield _unzipped(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(read_failure(path, error)) from error


def _unzipped(raw: BinaryIO) -> BinaryIO:
    import gzip  # no model needs it

    return cast(BinaryIO, gzip.GzipFile(fileobj=raw))


def read_exactly(stream: BinaryIO, count: int, path: Path) -> bytearray:
    """The `count` bytes that must remain, read in pieces so that a false count costs no memory."""
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(min(2**20, count + 1 - size)):  # of 0 bytes, once there are more
        pieces.append(piece)
        size += len(piece)
    if size < count:
        raise DataError(f"{path}: truncated, {size:,} of {count:,} bytes of data")
    if size > count:
        raise DataError(f"{path}: more than the {count:,} bytes of data that its header says")
    return bytearray().join(pieces)  # an array made of it can be written to, as torch wants
