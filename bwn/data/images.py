"""Images read safely, upright and in 8 bits, from whatever form they come in.

A file is decoded by its content, whatever it is called, by those of Pillow's readers that run no
other program (its PostScript reader does). Every way in which a file can be wrong is a DataError of
one line.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, BinaryIO

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, UnidentifiedImageError

from bwn._file_types import HEAD, looks_like, mismatch
from bwn._files import check_file, read_stream
from bwn._text import one_line, read_failure
from bwn._types import StrPath
from bwn.data.pixels import to_8_bit
from bwn.errors import ArgumentError, DataError
from bwn.ir.model_spec import BLACK, Preprocess
from bwn.ir.node import Pair

MAX_PIXELS = 64 * 2**20
"""Largest image decoded, in pixels; a small file can claim a size that fills any memory."""
MAX_FILE = 2**30
"""Most bytes that are read of an open file: more than MAX_PIXELS of four 16-bit samples take."""
QUOTED = 200
"""Characters of Pillow's message that are quoted at most."""

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000"]
if tuple(map(int, PIL.__version__.split(".")[:2])) >= (11, 3):
    FORMATS.append("AVIF")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")

# Pillow warns of odd metadata in pictures that it reads all the same.
warnings.filterwarnings("ignore", module=r"PIL\b")

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


def read_image(
    source: StrPath | bytes, name: str = "image", rule: Preprocess | None = None
) -> Image.Image:
    """Decode one image: upright, first frame, mode `L` or `RGB`.

    Transparent pixels are laid over the background; 16-bit gray is rounded to 8 bits.

    Args:
        source: A path, or the bytes of a file.
        name: What to call bytes in a message.
        rule: How the image will be prepared; None: as it is, over black. A JPEG several times as
            large as what it will be resized to is decoded at 1/2, 1/4 or 1/8 of its size, so that
            it is still twice as large; one whose shorter side is resized, if its size is a multiple
            of that.

    Raises:
        DataError: It is missing, a folder, empty, larger than MAX_PIXELS, truncated, no image, or
            its pixels have a meaning that is not known.
    """
    name = name if isinstance(source, bytes) else os.fspath(source)
    with _open(source, name) as stream:
        return _decode(stream, name, rule)


def as_image(
    source: Image.Image | npt.NDArray[np.uint8] | StrPath | bytes | BinaryIO,
    name: str = "image",
    rule: Preprocess | None = None,
) -> Image.Image:
    """Turn any form of image that `Model.predict` accepts into a PIL image of mode `L` or `RGB`.

    Args:
        source: A PIL image; uint8 pixels (H, W), (H, W, 1) or (H, W, 3); a path; the bytes of a
            file; or a file opened in binary mode. All but arrays are turned upright by their EXIF
            orientation.
        name: What to call an image without a path in a message.
        rule: As for `read_image`.

    Raises:
        DataError: The array has another shape or type, the image is empty, or the file is refused
            or cannot be read.
        ArgumentError: `source` is none of these.
    """
    if isinstance(source, Image.Image):
        if not all(source.size):
            raise DataError(f"{name}: {source.width} x {source.height} pixels, expected an image")
        with _errors_in_one_line(name):
            return _upright(source, name, rule)
    if isinstance(source, np.ndarray):
        return _from_pixels(source, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_image(bytes(source), name, rule)
    if isinstance(source, (str, os.PathLike)):
        return read_image(source, rule=rule)
    if hasattr(source, "read"):
        return read_image(read_stream(source, name, MAX_FILE, DataError), name, rule)
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


def _open(source: StrPath | bytes, name: str) -> IO[bytes]:
    """Open a file that ends: a pipe or a device could keep a run waiting forever."""
    if isinstance(source, bytes):
        return BytesIO(source)
    try:
        if os.path.isdir(source):
            os.scandir(source).close()  # says why if it cannot be listed
        check_file(source, "an image", DataError)
        if os.path.getsize(source) == 0:
            raise DataError(f"{name}: the file is empty, expected an image")
        return open(source, "rb")
    except OSError as error:
        raise DataError(read_failure(name, error)) from None


def image_size(path: StrPath) -> Pair:
    """(H, W) of an image file, upright, from its first bytes. Raises DataError."""
    name = os.fspath(path)
    with _open(path, name) as stream, _errors_in_one_line(name), _opened(stream, name) as image:
        # Pillow knows the upright size of a TIFF.
        turned = image.format != "TIFF" and image.getexif().get(274) in (5, 6, 7, 8)
        return image.size if turned else image.size[::-1]


def _decode(stream: IO[bytes], name: str, rule: Preprocess | None) -> Image.Image:
    with _errors_in_one_line(name), _opened(stream, name) as image:
        if rule is not None and rule.needed is not None:
            # Either side may be the longer one before it is turned.
            _draft(image, 2 * max(rule.needed), exact=isinstance(rule.resize, int))
        return _upright(image, name, rule)


def _draft(image: Image.Image, least: int, exact: bool) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size.

    Args:
        image: Changed in place; other formats stay.
        least: Pixels that its sides keep, at least.
        exact: Whether its proportions must stay, to the last pixel.
    """
    for scale in (8, 4, 2):
        rounded = any(side % scale for side in image.size)
        if min(image.size) >= least * scale and not (exact and rounded):
            image.draft(None, (image.width // scale, image.height // scale))
            return


def _opened(stream: IO[bytes], name: str) -> Image.Image:
    """An image whose header is read."""
    try:
        image = Image.open(stream, formats=_formats(stream))
    except UnidentifiedImageError:
        raise DataError(f"{name}: {_why_not(stream)}") from None
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{name}: {image.width:,} x {image.height:,} pixels, more than the {MAX_PIXELS:,} "
            "that bwn reads"
        )
    return image


@contextmanager
def _errors_in_one_line(name: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{name}: far more pixels than the {MAX_PIXELS:,} that bwn reads") from None
    except Exception as error:  # a broken file makes Pillow raise almost anything
        raise DataError(
            f"{name}: truncated or damaged image ({one_line(error, QUOTED)})"
        ) from error


def _formats(stream: IO[bytes]) -> list[str]:
    """Pillow's readers to try; the one for HEIC photos is a package of its own."""
    head = stream.read(12)
    stream.seek(0)
    if head[4:8] != b"ftyp" or head[8:] not in _HEIF_BRANDS:
        return FORMATS
    try:
        import pillow_heif  # type: ignore[import-not-found]  # not asked for, used if there
    except ImportError:
        return FORMATS
    pillow_heif.register_heif_opener()
    return ["HEIF"]


def _why_not(stream: IO[bytes]) -> str:
    """Why Pillow cannot read a file: what it is instead of an image, where that is known."""
    stream.seek(0)
    head = stream.read(HEAD)
    kind = looks_like(head)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "a HEIC image; to read it, pip install pillow-heif, or save it as JPEG"
    if kind.endswith(" image"):
        return f"{kind} in a pixel format that bwn cannot read; save it with 8 bits a channel"
    return mismatch(f"an image that bwn reads ({', '.join(FORMATS)})", head)


def _upright(image: Image.Image, name: str, rule: Preprocess | None) -> Image.Image:
    """The image in 8 bits, turned upright."""
    plain = to_8_bit(image, name, BLACK if rule is None else rule.background)
    try:
        # Asked after decoding: only then has Pillow turned a TIFF itself, or seen the end of a PNG.
        orientation = image.getexif().get(274)
    except Exception:  # Pillow raises anything; the pixels may be sound all the same
        return plain
    return plain.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else plain
