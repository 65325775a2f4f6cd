"""Images: found in folders, read safely, and turned into a network's input.

Reading decodes PNG, JPEG, BMP, GIF, PPM, TIFF and WebP by content, whatever the file is called, and
nothing else: Pillow's other readers (PostScript runs a program) are never tried. Every way in which
a file can be wrong is a DataError of one line.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bwn._files import check_file
from bwn._text import one_line, read_failure
from bwn._types import Floats, StrPath
from bwn.errors import ArgumentError, DataError
from bwn.ir.model_spec import Preprocess

MAX_PIXELS = 64 * 2**20
"""Largest image decoded, in pixels; a small file can claim a size that fills any memory."""
QUOTED = 200
"""Characters of Pillow's message that are quoted at most."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp"}
)
"""Endings of the names that a search of a folder takes for images, in upper or lower case."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (Exif 2.32, tag 274) to what undoes it."""


def read_image(source: StrPath | bytes, name: str = "image") -> Image.Image:
    """Decode one image: upright, first frame, mode `L` or `RGB`.

    Transparent pixels are laid over black; 16-bit gray is rounded to 8 bits.

    Args:
        source: A path, or the bytes of a file.
        name: What to call bytes in a message.

    Raises:
        DataError: It is missing, a folder, empty, larger than MAX_PIXELS, truncated, or no image.
    """
    name = name if isinstance(source, bytes) else os.fspath(source)
    try:
        with _open(source, name) as stream, warnings.catch_warnings():
            # Pillow warns of odd metadata, and of sizes that are refused here.
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=FORMATS) as image:
                _check_size(image.size, name)
                orientation = _orientation(image)
                plain = _plain(image, name)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image that bwn reads ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: far more pixels than the {MAX_PIXELS:,} that bwn reads") from None
    except Exception as error:  # a broken file makes Pillow raise almost anything
        raise DataError(
            f"{name}: truncated or damaged image ({one_line(error, QUOTED)})"
        ) from error
    return plain.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else plain


def as_image(
    source: Image.Image | npt.NDArray[np.uint8] | StrPath | bytes | BinaryIO, name: str = "image"
) -> Image.Image:
    """Turn any form of image that `Model.predict` accepts into a PIL image of mode `L` or `RGB`.

    Args:
        source: A PIL image; uint8 pixels (H, W), (H, W, 1) or (H, W, 3); a path; the bytes of a
            file; or a file opened in binary mode.
        name: What to call an image without a path in a message.

    Raises:
        DataError: The array has another shape or type, or the file is refused.
        ArgumentError: `source` is none of these.
    """
    if isinstance(source, Image.Image):
        return _plain(source, name)
    if isinstance(source, np.ndarray):
        return _from_pixels(source, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_image(bytes(source), name)
    if isinstance(source, (str, os.PathLike)):
        return read_image(source)
    if hasattr(source, "read"):
        return read_image(source.read(), name)
    raise ArgumentError(
        f"{name} is {type(source).__name__}, expected a path, a PIL image, a uint8 array, "
        "or the bytes of an image file"
    )


def _from_pixels(pixels: npt.NDArray[np.uint8], name: str) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if (
        pixels.dtype != np.uint8
        or pixels.size == 0
        or not (pixels.ndim == 2 or pixels.shape[2:] == (3,))
    ):
        several = "; pass several images as a list" if pixels.ndim in (3, 4) else ""
        raise DataError(
            f"{name}: array of {pixels.dtype} {pixels.shape}, expected one image of uint8 pixels, "
            f"(H, W) or (H, W, 3){several}"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def prepare(image: Image.Image, preprocess: Preprocess) -> Floats:
    """Turn an image into a network's input: color, then size, then normalization.

    x = (pixel / 255 - mean) / std, in float32. Resizing is bilinear, and averages where it shrinks;
    an image that has the size already keeps every pixel. `crop` takes the largest centered part of
    the size's proportions, `stretch` the whole.

    Args:
        image: Mode `L` or `RGB`.
        preprocess: What the network expects.

    Returns:
        (C, H, W) float32.
    """
    height, width = preprocess.size
    if image.mode != preprocess.color:
        image = image.convert(preprocess.color)
    if image.size != (width, height):
        box = _center(image.size, (width, height)) if preprocess.resize == "crop" else None
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    x = np.asarray(image, np.float32).reshape(height, width, -1).transpose(2, 0, 1)  # (C, H, W)
    mean, std = (
        np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (preprocess.mean, preprocess.std)
    )
    return np.ascontiguousarray((x / np.float32(255) - mean) / std, np.float32)


def find_images(paths: Iterable[StrPath], recursive: bool = True) -> Iterator[Path]:
    """Yield the paths of images in the order of `paths`, one at a time.

    A folder gives its files that are named as images (SUFFIXES), sorted, with those of its
    subfolders if `recursive`; hidden names and links to folders inside it are skipped. Any other
    path is yielded unchanged.
    """
    for path in map(Path, paths):
        if os.path.isdir(path):  # never raises, as Path's does for a name that is too long
            yield from map(Path, images_in(path, recursive))
        else:
            yield path


def images_in(folder: StrPath, recursive: bool = True) -> Iterator[str]:
    """Yield the images of a folder as `find_images` does; or itself if it cannot be listed."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        yield os.fspath(folder)  # reading it says why
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from images_in(entry.path, recursive)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and not (
            entry.is_symlink() and os.path.isdir(entry.path)
        ):
            yield entry.path


def _open(source: StrPath | bytes, name: str) -> IO[bytes]:
    """Open a file that ends: a pipe or a device could keep a run waiting forever."""
    if isinstance(source, bytes):
        return BytesIO(source)
    try:
        if os.path.isdir(source):
            os.scandir(source).close()  # says why if it cannot be listed
        check_file(source, DataError)
        if os.path.getsize(source) == 0:
            raise DataError(f"{name}: the file is empty, expected an image")
        return open(source, "rb")
    except OSError as error:
        raise DataError(read_failure(name, error)) from None


def _check_size(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"{name}: {size[0]} x {size[1]} pixels, more than the {MAX_PIXELS:,} that bwn reads"
        )


def _orientation(image: Image.Image) -> object:
    """Value of the EXIF orientation tag; None if there is none or the metadata is broken."""
    try:
        return image.getexif().get(274)
    except Exception:  # Pillow raises anything; the pixels may be sound all the same
        return None


def _plain(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode to `L` or `RGB`."""
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, (0, 0, 0, 255))
        plain = Image.alpha_composite(below, image.convert("RGBA"))
        return plain.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    if image.mode in ("L", "RGB"):
        return image.copy()
    if image.mode.startswith("I"):  # 16-bit gray, 0..65535
        gray = np.clip(np.asarray(image), 0, 65535).astype(np.int32)
        return Image.fromarray(((gray * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise DataError(
            f"{name}: floating-point pixels, whose range is not known; save it with 8 or 16 bits"
        )
    return image.convert("L" if image.mode == "1" else "RGB")


def _center(size: tuple[int, int], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Box of the largest centered part of `size` in the proportions of `shape` (width, height)."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    width, height = shape[0] * scale, shape[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, min(left + width, size[0]), min(top + height, size[1])
