"""CIFAR-10 in its binary version (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bwn._types import Labels
from bwn.data.records import MAX_BYTES, Labeled, Pixels, Split, opened, read_exactly
from bwn.errors import DataError

NAMES = re.compile(r"(data_batch_\d+|test_batch)\.bin")
CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_RECORD = 1 + 3 * 32 * 32


def read_cifar(folder: Path, split: Split) -> Labeled:
    """Read one split of a folder of CIFAR-10 binary files. Raises DataError."""
    pattern = "data_batch_*.bin" if split == "train" else "test_batch.bin"
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise DataError(f"{folder}: has no {pattern}")
    images, labels = zip(*map(_read_cifar_file, paths), strict=True)
    return np.concatenate(images), np.concatenate(labels), CIFAR_CLASSES


def _read_cifar_file(path: Path) -> tuple[Pixels, Labels]:
    """Images and labels of records of a label byte and the planes R, G, B of 32 x 32 bytes."""
    with opened(path) as stream:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size:,} bytes; at most {MAX_BYTES:,} are read")
        if size == 0 or size % _RECORD:
            raise DataError(
                f"{path}: {size:,} bytes, expected a multiple of {_RECORD} "
                "(CIFAR-10 binary records)"
            )
        records = np.frombuffer(read_exactly(stream, size, path), np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= len(CIFAR_CLASSES):
        raise DataError(
            f"{path}: record {int(labels.argmax())} has label {labels.max()}, expected 0 to 9"
        )
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels
