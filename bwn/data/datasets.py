"""Labeled image sets: IDX files (MNIST and the like), CIFAR-10 binary files, class folders.

A split is read into memory as uint8 pixels. Nothing here needs torch.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from bwn._files import check_path
from bwn._text import count_noun, read_failure
from bwn._types import Labels, StrPath
from bwn.data.images import find_images, prepare, read_image
from bwn.errors import DataError
from bwn.ir.model_spec import Preprocess
from bwn.ir.node import Pair

Split = Literal["train", "test"]
Resize = Literal["stretch", "crop"]
Color = Literal["L", "RGB"]
Pixels = npt.NDArray[np.uint8]

SAMPLE = "mnist-sample"
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
MAX_BYTES = 2**33
"""Largest split that is read: 8 GiB of pixels."""

_IDX = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?$")
_IDX_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_NOUNS = {"train": "training", "test": "test"}
_CIFAR_RECORD = 1 + 3 * 32 * 32
_ACCEPTED = (
    f"'{SAMPLE}' (bundled), a folder of IDX files (train-images-idx3-ubyte and so on, .gz or not), "
    "a folder of CIFAR-10 binary files (data_batch_1.bin ... test_batch.bin), or a folder with one "
    "folder of images for each class"
)


@dataclass(frozen=True)
class Dataset:
    """Labeled images of one size.

    Attributes:
        images: (N, H, W) gray or (N, H, W, 3) RGB, uint8.
        labels: (N,) int64, index into classes.
        classes: Names of the classes.
    """

    images: Pixels
    labels: Labels
    classes: tuple[str, ...]

    @property
    def color(self) -> Color:
        """`L` for gray images, `RGB` for color images."""
        return "L" if self.images.ndim == 3 else "RGB"

    @property
    def size(self) -> Pair:
        """(H, W) of every image."""
        return self.images.shape[1], self.images.shape[2]


def load_dataset(
    source: StrPath,
    split: Split = "train",
    *,
    size: Pair | None = None,
    resize: Resize = "stretch",
    color: Color | None = None,
) -> Dataset:
    """Read one split of a set of labeled images.

    Args:
        source: `mnist-sample`, or a folder of IDX files, of CIFAR-10 binary files, or of class
            folders of images. Class folders are in train/ and test/ (or val/), or directly in the
            folder: then one image in five is held out for the test split, by a hash of its path.
        split: `train` or `test`.
        size: (H, W) that images are resized to; None: as stored, photographs as the first one.
        resize: `stretch` to the size, or `crop`: shorter side to the size, then the center.
        color: `L` or `RGB`; None: as stored (photographs: `L` if all are gray).

    Raises:
        DataError: A source or a file cannot be read; one line that says which.
    """
    if str(source) == SAMPLE:
        with as_file(files("bwn.data") / SAMPLE) as folder:
            return _resized(_read_idx(folder, split), size, resize, color)
    check_path(source)
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(_unknown(folder))
    names = sorted(entry.name for entry in folder.iterdir())
    if any(_IDX.search(name) for name in names):
        return _resized(_read_idx(folder, split), size, resize, color)
    if any(re.fullmatch(r"(data_batch_\d+|test_batch)\.bin", name) for name in names):
        return _resized(_read_cifar(folder, split), size, resize, color)
    return _read_folders(folder, split, size, resize, color)


def _unknown(source: Path) -> str:
    """Why `source` is no data set, with the names of similar folders."""
    if source.is_file():
        return f"{source}: is a file, expected {_ACCEPTED}"
    near: list[str] = difflib.get_close_matches(str(source), [SAMPLE], cutoff=0.4)
    if source.parent.is_dir():
        folders = {entry.name: str(entry) for entry in source.parent.iterdir() if entry.is_dir()}
        near += [
            folders[name] for name in difflib.get_close_matches(source.name, list(folders), n=2)
        ]
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"no such folder: {source}{hint}; expected {_ACCEPTED}"


# --- IDX -----------------------------------------------------------------------------------------


def _read_idx(folder: Path, split: Split) -> Dataset:
    paths: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        match = _IDX.search(path.name)
        if match:
            paths.setdefault((_IDX_SPLITS[match[1]], match[2]), path)
    for part in ("images", "labels"):
        if (split, part) not in paths:
            prefix = "train" if split == "train" else "t10k"
            name = f"{prefix}-{part}-idx{3 if part == 'images' else 1}-ubyte"
            raise DataError(f"{folder}: has no {_NOUNS[split]} {part}: {name} (or .gz) is missing")
    images = _read_idx_file(paths[split, "images"], 3)
    labels = _read_idx_file(paths[split, "labels"], 1)
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: {count_noun(len(images), _NOUNS[split] + ' image')} but "
            f"{count_noun(len(labels), 'label')}"
        )
    count = (
        max(
            int(_read_idx_file(path, 1).max())
            for (_, part), path in paths.items()
            if part == "labels"
        )
        + 1
    )
    return Dataset(images, labels.astype(np.int64), tuple(str(label) for label in range(count)))


def _read_idx_file(path: Path, axes: int) -> Pixels:
    """The unsigned bytes of an IDX file: 0, 0, type 8, axes; a big-endian int32 per axis; bytes."""
    with _opened(path) as stream:
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
        return np.frombuffer(_read_exactly(stream, count, path), np.uint8).reshape(shape)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as raw:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(read_failure(path, error)) from error


def _read_exactly(stream: BinaryIO, count: int, path: Path) -> bytearray:
    """The `count` bytes that must remain, read in pieces so that a false count costs no memory."""
    pieces: list[bytes] = []
    size = 0
    while size <= count:
        piece = stream.read(min(2**20, count + 1 - size))
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    if size < count:
        raise DataError(f"{path}: truncated, {size:,} of {count:,} bytes of data")
    if size > count:
        raise DataError(f"{path}: more than the {count:,} bytes of data that its header says")
    return bytearray().join(pieces)  # an array made of it can be written to, as torch wants


# --- CIFAR-10 ------------------------------------------------------------------------------------


def _read_cifar(folder: Path, split: Split) -> Dataset:
    paths = sorted(folder.glob("data_batch_*.bin" if split == "train" else "test_batch.bin"))
    if not paths:
        raise DataError(
            f"{folder}: has no {'data_batch_*.bin' if split == 'train' else 'test_batch.bin'}"
        )
    parts = [_read_cifar_file(path) for path in paths]
    images = np.concatenate([images for images, _ in parts])
    return Dataset(images, np.concatenate([labels for _, labels in parts]), CIFAR_CLASSES)


def _read_cifar_file(path: Path) -> tuple[Pixels, Labels]:
    """Images and labels of records of a label byte and the planes R, G, B of 32 x 32 bytes."""
    with _opened(path) as stream:
        size = path.stat().st_size
        if size == 0 or size % _CIFAR_RECORD or size > MAX_BYTES:
            raise DataError(
                f"{path}: {size:,} bytes, expected a multiple of {_CIFAR_RECORD} "
                "(CIFAR-10 binary records)"
            )
        records = np.frombuffer(_read_exactly(stream, size, path), np.uint8).reshape(
            -1, _CIFAR_RECORD
        )
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= len(CIFAR_CLASSES):
        raise DataError(
            f"{path}: record {int(labels.argmax())} has label {labels.max()}, expected 0 to 9"
        )
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


# --- folders of images ---------------------------------------------------------------------------


def _read_folders(
    folder: Path, split: Split, size: Pair | None, resize: Resize, color: Color | None
) -> Dataset:
    paths, labels, classes = _class_files(folder, split)
    if size is None:
        first = read_image(paths[0])
        size = first.height, first.width
    if len(paths) * size[0] * size[1] * 3 > MAX_BYTES:
        raise DataError(
            f"{folder}: {len(paths):,} images of {size[0]} x {size[1]} pixels exceed "
            f"{MAX_BYTES:,} bytes"
        )
    rule = _resize_only(size, resize, color or "RGB")
    images = np.empty((len(paths), *size) if color == "L" else (len(paths), *size, 3), np.uint8)
    for index, path in enumerate(paths):
        images[index] = _fit(read_image(path), rule)
    if color is None and bool((images == images[..., :1]).all()):
        images = np.ascontiguousarray(images[..., 0])
    return Dataset(images, np.array(labels, np.int64), classes)


def _class_files(folder: Path, split: Split) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Images of one split with their labels, and the names of all classes."""
    train = folder / "train"
    base = folder
    if train.is_dir():
        test_folders = [
            folder / name
            for name in ("test", "val", "valid", "validation")
            if (folder / name).is_dir()
        ]
        if split == "test" and not test_folders:
            raise DataError(f"{folder}: has train/ but neither test/ nor val/")
        base = train if split == "train" else test_folders[0]
    classes = _folders(train if train.is_dir() else folder)
    unknown = [name for name in _folders(base) if name not in classes]
    if unknown:
        raise DataError(f"{base}: class '{unknown[0]}' is not in {train}")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = list(find_images([base / name])) if (base / name).is_dir() else []
        if base == folder:
            images = [
                path for path in images if _held_out(path.relative_to(folder)) == (split == "test")
            ]
        if not images and split == "train":
            raise DataError(f"{folder}: class folder '{name}' has no images to train on")
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise DataError(f"{folder}: has no {_NOUNS[split]} images; expected {_ACCEPTED}")
    return paths, labels, tuple(classes)


def _folders(base: Path) -> list[str]:
    return sorted(
        entry.name for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _held_out(path: Path) -> bool:
    """Whether a path is in the test split: one in five, by hash, so that new images move none."""
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()[0] % 5 == 0


# --- resizing ------------------------------------------------------------------------------------


def _resize_only(size: Pair, resize: Resize, color: Color) -> Preprocess:
    """Preprocessing without normalization: x = pixel / 255."""
    channels = 1 if color == "L" else 3
    return Preprocess(
        size=size, resize=resize, color=color, mean=(0.0,) * channels, std=(1.0,) * channels
    )


def _fit(image: Image.Image, rule: Preprocess) -> Pixels:
    """Pixels of the resized image, made by the code that prepares images for a trained network."""
    prepared = np.rint(prepare(image, rule) * 255).astype(np.uint8)  # (C, H, W)
    return prepared[0] if rule.color == "L" else prepared.transpose(1, 2, 0)


def _resized(data: Dataset, size: Pair | None, resize: Resize, color: Color | None) -> Dataset:
    if size in (None, data.size) and color in (None, data.color):
        return data
    rule = _resize_only(size or data.size, resize, color or data.color)
    images = np.stack([_fit(Image.fromarray(image), rule) for image in data.images])
    return Dataset(images, data.labels, data.classes)
