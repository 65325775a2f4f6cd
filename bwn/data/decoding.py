"""Many image files decoded at once, each as soon as a CPU is free, into one array."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from bwn._text import count_noun
from bwn.data.images import image_size, read_image
from bwn.data.records import Pixels
from bwn.data.resizing import sized
from bwn.errors import DataError
from bwn.ir.model_spec import Preprocess
from bwn.ir.node import Pair
from bwn.kernels.target.limits import available_threads

ReadProgress = Callable[[str], None]
"""Called with a line of text while something takes long, and with "" at its end."""

INTERVAL = 0.1
"""Seconds between two lines of progress."""
LISTED = 3


class Decoded(NamedTuple):
    """Images of one size.

    Attributes:
        images: (N, H, W) or (N, H, W, 3) uint8.
        kept: (N,) index of each image's file.
        readable: Index of each file that was only tried and can be read.
        errors: Why the other files cannot be read.
    """

    images: Pixels
    kept: npt.NDArray[np.int64]
    readable: npt.NDArray[np.int64]
    errors: list[DataError]


def decode(
    files: Sequence[str],
    rule: Preprocess,
    progress: ReadProgress,
    *,
    keep_gray: bool = False,
    tried: Sequence[str] = (),
) -> Decoded:
    """Read images and bring them to one size.

    Args:
        files: Paths.
        rule: Size, color and background; mean and std are not applied.
        progress: See there.
        keep_gray: Whether images that are all gray are stored with one channel.
        tried: Paths of further images that are decoded to see whether they can be, and dropped.
    """
    count, total = len(files), len(files) + len(tried)
    images = np.empty((count, *rule.size, 1 if rule.color == "L" else 3), np.uint8)

    def read(index: int) -> DataError | bool:
        """Fill in one image; whether it is gray, or why it cannot be read."""
        try:
            if index >= count:
                read_image(tried[index - count], rule=rule)
                return True
            image = read_image(files[index], rule=rule)
        except DataError as error:
            return error
        images[index] = fit(image, rule)
        return image.mode == "L" or bool((images[index] == images[index, ..., :1]).all())

    with ThreadPoolExecutor(available_threads()) as pool:
        results = []
        shown = 0.0
        for result in pool.map(read, range(total)):
            results.append(result)
            if time.monotonic() > shown + INTERVAL:
                shown = time.monotonic()
                progress(f"Reading images: {len(results):,} of {total:,}")
    progress("")
    errors = [result for result in results if isinstance(result, DataError)]
    sound = np.array([not isinstance(result, DataError) for result in results], bool)
    kept = sound[:count].nonzero()[0]
    if len(kept) < count:
        images = images[kept]
    if rule.color == "L" or (keep_gray and all(results)):
        images = np.ascontiguousarray(images[..., 0])
    return Decoded(images, kept, sound[count:].nonzero()[0], errors)


def fit(image: Image.Image, rule: Preprocess) -> Pixels:
    """(H, W, C) gray or RGB pixels, sized by the code that prepares images for a network."""
    return np.asarray(sized(image, rule)).reshape(*rule.size, -1)


def unreadable(errors: Sequence[DataError], files: int) -> str:
    """The first few of the files that cannot be read, in one line."""
    listed = "; ".join(str(error) for error in errors[:LISTED])
    more = f"; and {len(errors) - LISTED:,} more" if len(errors) > LISTED else ""
    return f"{len(errors):,} of {count_noun(files, 'image')} cannot be read: {listed}{more}"


def usual_size(files: Sequence[str], largest: int) -> tuple[Pair, bool]:
    """The size to bring images to, and whether it is their own.

    It is their own where they share one up to `largest`. Otherwise it is a square: `largest`, or
    the median of the shorter sides where that is less.

    Args:
        files: Paths.
        largest: Pixels of a side.
    """

    def read(path: str) -> Pair | None:
        try:
            return image_size(path)
        except DataError:  # decoding says why
            return None

    with ThreadPoolExecutor(available_threads()) as pool:
        sizes = [size for size in pool.map(read, files) if size is not None]
    if not sizes:
        return (largest, largest), False
    if len(set(sizes)) == 1 and max(sizes[0]) <= largest:
        return sizes[0], True
    side = min(largest, sorted(map(min, sizes))[len(sizes) // 2])
    return (side, side), False
