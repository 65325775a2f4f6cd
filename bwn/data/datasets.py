"""Labeled image sets: IDX files (MNIST and the like), CIFAR-10 binary files, class folders.

A split is read into memory as uint8 pixels. Nothing here needs torch.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from bwn._files import check_path
from bwn._text import byte_size, count_noun, read_failure
from bwn._types import Labels, StrPath
from bwn.data import cifar, idx
from bwn.data.class_folders import ClassFolders, look
from bwn.data.decoding import ReadProgress, decode, fit, unreadable, usual_size
from bwn.data.folders import images_in
from bwn.data.records import MAX_BYTES, NOUNS, Labeled, Pixels, Split
from bwn.data.resizing import keeps
from bwn.data.subfolders import subfolders
from bwn.errors import DataError
from bwn.ir.model_spec import Preprocess
from bwn.ir.node import Pair
from bwn.kernels.target.limits import available_memory

Resize = Literal["stretch", "crop"]
Color = Literal["L", "RGB"]

SAMPLE = "mnist-sample"
PHOTO_SIZE = 64
"""Side that photos are brought to where no size is chosen, in pixels."""
_ACCEPTED = (
    f"'{SAMPLE}' (bundled), a folder of IDX files (train-images-idx3-ubyte and so on, .gz or not), "
    "a folder of CIFAR-10 binary files (data_batch_1.bin ... test_batch.bin), or a folder with one "
    "folder of images for each class"
)
_TEST_RECORDS = re.compile(r"(t10k|test)[-_](images|labels|batch)")
_log = logging.getLogger(__name__)


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


def no_progress(_text: str) -> None:
    """Show no progress."""


def load_dataset(
    source: StrPath,
    split: Split = "train",
    *,
    size: Pair | None = None,
    resize: Resize = "stretch",
    color: Color | None = None,
    rule: Preprocess | None = None,
    photo_size: int = PHOTO_SIZE,
    skip_bad: bool = False,
    describe: bool = True,
    progress: ReadProgress = no_progress,
) -> Dataset:
    """Read one split of a set of labeled images.

    What class folders hold is logged before any image is read: classes, counts, how the splits are
    recognized, and what is skipped. With the training images the test images are tried, so that bad
    ones are found before training.

    Args:
        source: `mnist-sample`, or a folder of IDX files, of CIFAR-10 binary files, or of class
            folders of images. Class folders are in folders of the splits, such as train/ and test/,
            or directly in the folder: then one image in five of each class is held out for the test
            split, by a hash of its path.
        split: `train` or `test`.
        size: (H, W) that images are resized to; None: as stored, where all have one size of at
            most `photo_size`; otherwise a square of `photo_size`.
        resize: `stretch` to the size, or `crop`: shorter side to the size, then the center.
        color: `L` or `RGB`; None: as stored (class folders: `L` if all images are gray).
        rule: How a network prepares images, in place of size, resize and color; mean and std are
            not applied, and BGR is RGB.
        photo_size: Largest side, in pixels, that images keep where `size` is None.
        skip_bad: Whether images that cannot be read are left out, with a warning; otherwise they
            are an error that lists them.
        describe: Whether to log what class folders hold, and to name it in an error.
        progress: Called with a line of text while images are read, and with "" at the end.

    Raises:
        DataError: A source or a file cannot be read; one line that says which.
    """
    check_source(source)
    if (data := _read_records(source, split)) is not None:
        return _resized(data, rule or _resize_only(size or data.size, resize, color or data.color))
    folder = Path(source)
    folders = look(folder)
    for line in folders.lines() if describe else ():
        _log.info("%s", line)
    paths, labels = folders.images.get(split, ([], []))
    if not paths:
        layout = f" ({folders.layout})" if describe else ""
        raise DataError(f"{folder} has no {NOUNS[split]} images{layout}")
    keep_gray = rule is None and color is None
    if rule is None:
        if size is None:
            size, same = usual_size(paths, photo_size)
            if not same:
                _log.info("images are resized to %d x %d pixels, as no size is chosen", *size)
        rule = _resize_only(size, resize, color or "RGB")
    tried, tried_labels = ([], []) if split == "test" else folders.images.get("test", ([], []))
    _check_memory(folder, paths, rule)
    _check_memory(folder, tried, rule)
    decoded = decode(paths, rule, progress, keep_gray=keep_gray, tried=tried)
    _report_unreadable(folder, decoded.errors, len(paths) + len(tried), skip_bad)
    if split == "train":
        _readable_labels(folders, "test", tried_labels, decoded.readable)
    kept = _readable_labels(folders, split, labels, decoded.kept)
    return Dataset(decoded.images, kept, folders.classes)


def _read_records(source: StrPath, split: Split) -> Dataset | None:
    """The sample, or a folder of IDX or CIFAR-10 binary files; None for other folders."""
    if str(source) == SAMPLE:
        with as_file(files("bwn.data") / SAMPLE) as sample:
            return Dataset(*idx.read_idx(sample, split))
    folder = Path(source)
    read = records_reader(folder)
    if read is None:
        return None
    if split == "train" and any(map(_TEST_RECORDS.search, os.listdir(folder))):
        read(folder, "test")  # damage is found before training
    return Dataset(*read(folder, split))


def load_images(
    source: StrPath,
    paths: list[str],
    preprocess: Preprocess,
    *,
    skip_bad: bool = False,
    progress: ReadProgress = no_progress,
) -> Pixels:
    """Read images without labels and bring them to the size that a network takes.

    Args:
        source: Where the paths come from, for messages.
        paths: The images.
        preprocess: How they are brought to it; mean and std are not applied, and BGR is RGB.
        skip_bad: See `load_dataset`.
        progress: See `load_dataset`.

    Returns:
        (N, H, W) or (N, H, W, 3) uint8.

    Raises:
        DataError: Images cannot be read; one line that lists them.
    """
    _check_memory(Path(source), paths, preprocess)
    decoded = decode(paths, preprocess, progress)
    _report_unreadable(Path(source), decoded.errors, len(paths), skip_bad)
    return decoded.images


def _report_unreadable(source: Path, errors: list[DataError], files: int, skip_bad: bool) -> None:
    """Warn of images that cannot be read, or raise DataError."""
    if not errors:
        return
    if files == 1:
        raise errors[0]
    problem = unreadable(errors, files)
    if not skip_bad or len(errors) == files:
        instead = "" if skip_bad else ", or leave them out with skip_bad"
        raise DataError(f"{source}: {problem}; repair them{instead}")
    _log.warning("left out: %s", problem)


def _readable_labels(
    folders: ClassFolders, split: Split, labels: list[int], readable: npt.NDArray[np.int64]
) -> Labels:
    """Labels of the images that can be read. Raises DataError where a class has no image left."""
    kept = np.array(labels, np.int64)[readable]
    for label in sorted({*labels} - {*kept.tolist()}):
        raise DataError(
            f"{folders.folder}: no {NOUNS[split]} image of class '{folders.classes[label]}' can be "
            "read"
        )
    return kept


def records_reader(folder: Path) -> Callable[[Path, Split], Labeled] | None:
    """What reads a folder of IDX or of CIFAR-10 binary files; None for other folders."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise DataError(read_failure(folder, error)) from None
    if any(idx.NAMES.search(name) for name in names):
        return idx.read_idx
    if any(cifar.NAMES.fullmatch(name) for name in names):
        return cifar.read_cifar
    return None


def holds_only_images(path: Path) -> bool:
    """Return whether a folder has images in it, and is no data set in any form."""
    return (
        path.is_dir()
        and records_reader(path) is None
        and any(images_in(path, recursive=False))
        and not any(any(images_in(folder)) for folder in subfolders(path, []))
    )


def check_source(source: StrPath) -> None:
    """Raise DataError where `source` is neither the sample nor a folder."""
    check_path(source)
    if str(source) != SAMPLE and not Path(source).is_dir():
        raise DataError(_unknown(Path(source)))


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


def _check_memory(folder: Path, paths: list[str], rule: Preprocess) -> None:
    """Raise DataError where the images of one split would not fit in memory."""
    height, width = rule.size
    needed = len(paths) * height * width * (1 if rule.color == "L" else 3)
    free = available_memory()
    limit = MAX_BYTES if free is None else min(MAX_BYTES, free)
    if needed > limit:
        raise DataError(
            f"{folder}: {count_noun(len(paths), 'image')} of {height} x {width} pixels take "
            f"{byte_size(needed)}, {byte_size(limit)} are available; choose a smaller size"
        )


def _resize_only(size: Pair, resize: Resize, color: Color) -> Preprocess:
    """Preprocessing without normalization: x = pixel / 255."""
    channels = 1 if color == "L" else 3
    return Preprocess(
        size=size, resize=resize, color=color, mean=(0.0,) * channels, std=(1.0,) * channels
    )


def _resized(data: Dataset, rule: Preprocess) -> Dataset:
    if keeps(data.size, rule) and (rule.color == "L") == (data.color == "L"):
        return data
    images = np.stack([fit(Image.fromarray(image), rule) for image in data.images])
    return Dataset(images[..., 0] if rule.color == "L" else images, data.labels, data.classes)
