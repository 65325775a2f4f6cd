"""IDX files, as MNIST and its relatives have them (http://yann.lecun.com/exdb/mnist/)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bwn._text import count_noun
from bwn.data.records import MAX_BYTES, NOUNS, Labeled, Pixels, Split, opened, read_exactly
from bwn.errors import DataError

NAMES = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?$")
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}


def read_idx(folder: Path, split: Split) -> Labeled:
    """Read one split of a folder of IDX files. Raises DataError."""
    paths: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        match = NAMES.search(path.name)
        if match:
            paths.setdefault((_SPLITS[match[1]], match[2]), path)
    for part in ("images", "labels"):
        if (split, part) not in paths:
            prefix = "train" if split == "train" else "t10k"
            name = f"{prefix}-{part}-idx{3 if part == 'images' else 1}-ubyte"
            raise DataError(f"{folder}: has no {NOUNS[split]} {part}: {name} (or .gz) is missing")
    images = _read_idx_file(paths[split, "images"], 3)
    # The test images may lack a class, so every file of labels counts them.
    all_labels = {
        which: _read_idx_file(path, 1).astype(np.int64)
        for (which, part), path in paths.items()
        if part == "labels"
    }
    labels = all_labels[split]
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: {count_noun(len(images), NOUNS[split] + ' image')} but "
            f"{count_noun(len(labels), 'label')}"
        )
    count = 1 + max(int(numbers.max()) for numbers in all_labels.values())
    return images, labels, tuple(str(label) for label in range(count))


def _read_idx_file(path: Path, axes: int) -> Pixels:
    """The unsigned bytes of an IDX file: 0, 0, type 8, axes; a big-endian int32 per axis; bytes."""
    with opened(path) as stream:
        head = stream.read(4 + 4 * axes)
        if head[:4] != bytes([0, 0, 8, axes]):
            raise DataError(
                f"{path}: magic is {head[:4].hex() or 'absent'}, expected 000008{axes:02d} (IDX)"
            )
        if len(head) < 4 + 4 * axes:
            raise DataError(f"{path}: truncated inside its header")
        shape = tuple(int(length) for length in np.frombuffer(head[4:], ">u4"))
        count = int(np.prod(np.array(shape, object)))
        if count == 0:
            raise DataError(f"{path}: empty (shape {shape})")
        if count > MAX_BYTES:
            raise DataError(f"{path}: claims {count:,} bytes; at most {MAX_BYTES:,} are read")
        return np.frombuffer(read_exactly(stream, count, path), np.uint8).reshape(shape)
