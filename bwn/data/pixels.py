"""From every pixel format that Pillow decodes to 8-bit grayscale or RGB, or a refusal by name.

Pillow leaves several meanings to its caller: whether 16-bit gray is stored white-is-zero, whether
it uses 12 of its bits, whether samples are signed, and which gray value is transparent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bwn.errors import DataError

# TIFF 6.0, section 8 and 19.
_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 262, 284, 339
_WHITE_IS_ZERO, _SEPARATE_PLANES = 0, 2
_UNSIGNED = 1
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}

ROWS = 64
"""Rows of an image that are laid over black at once."""

_PNG_GRAY_STEPS = {"L;2": 85, "L;4": 17}
"""Pillow's name of how a PNG stores gray, to the step between its levels in 8 bits."""


def to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Convert an image of any mode to `L` or `RGB`; transparent pixels are laid over black.

    Args:
        image: Decoded or not; it is decoded here.
        name: What to call it in a message.

    Raises:
        DataError: What its numbers mean is not known; the message names the pixel format.
    """
    tile = getattr(image, "tile", None)  # empty once decoded
    storage = str(tile[0][3]) if tile else ""
    _refuse_unknown(image, name)
    _load(image)
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        return _deep_gray(image, transparent)
    if isinstance(transparent, int) and image.mode in ("1", "L"):
        level = transparent * _PNG_GRAY_STEPS.get(storage, 1)
        if image.mode == "1":
            level = 255 * bool(transparent)
        return _without(np.array(image.convert("L")), level)
    if isinstance(transparent, tuple) and image.mode == "RGB":
        if storage == "RGB;16B" or max(transparent) > 255:  # of 16 bits; the pixels keep eight
            transparent = tuple(value >> 8 for value in transparent)
        return _without(np.array(image), transparent)
    if image.has_transparency_data:
        return _over_black(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _load(image: Image.Image) -> None:
    """Decode the pixels.

    Pillow 13 maps an uncompressed TIFF into memory with height and width exchanged if it is stored
    on its side; an image without the name of its file is read instead.
    """
    name = getattr(image, "filename", "")
    if image.format == "TIFF" and name:
        image.filename = ""  # type: ignore[attr-defined]  # only opened images have one
    try:
        image.load()
    finally:
        if name:
            image.filename = name  # type: ignore[attr-defined]


def _refuse_unknown(image: Image.Image, name: str) -> None:
    """Raise DataError where the range or the layout of the samples is not known."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (8,))[0]
    sample_format = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0]
    if image.mode == "F" or sample_format != _UNSIGNED:
        meaning = _SAMPLE_FORMATS.get(sample_format, "floating-point")
    elif image.mode == "I" and (bits > 16 or image.format not in ("PNG", "PPM")):
        meaning = "32-bit"  # in PNG and PPM these are 16 bits
    elif bits > 8 and len(tags.get(_BITS, ())) > 1 and tags.get(_PLANAR) == _SEPARATE_PLANES:
        raise DataError(f"{name}: 16-bit color in separate planes cannot be read; save it as RGB")
    elif image.mode == "LAB":
        raise DataError(f"{name}: CIELAB colors cannot be read; save it as RGB")
    else:
        return
    raise DataError(
        f"{name}: {meaning} pixels, whose range is not known; save it with 8 or 16 unsigned bits"
    )


def _over_black(image: Image.Image) -> Image.Image:
    """An image with opacity laid over black, a few rows at a time: copies take much memory."""
    plain = Image.new("L" if image.mode in ("LA", "La") else "RGB", image.size)
    for top in range(0, image.height, ROWS):
        box = (0, top, image.width, min(top + ROWS, image.height))
        rows = image.crop(box)
        straight = rows.convert("LA") if rows.mode == "La" else rows
        below = Image.new("RGBA", rows.size, (0, 0, 0, 255))
        over = Image.alpha_composite(below, straight.convert("RGBA"))
        plain.paste(over.convert(plain.mode), box)
    return plain


def _deep_gray(image: Image.Image, transparent: object) -> Image.Image:
    """Round gray levels of 12 or 16 bits to 8; the transparent one becomes black."""
    tags: Any = getattr(image, "tag_v2", {})
    white = 2 ** min(tags.get(_BITS, (16,))[0], 16) - 1
    stored = np.arange(2**16)  # what each number means, in place of arithmetic on all pixels
    levels = np.clip(
        white - stored if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else stored, 0, white
    )
    levels[levels == transparent] = 0
    return Image.fromarray(
        ((levels * 255 + white // 2) // white).astype(np.uint8)[np.asarray(image)]
    )


def _without(pixels: npt.NDArray[np.uint8], transparent: int | tuple[int, ...]) -> Image.Image:
    """An image whose pixels of the transparent value are black."""
    same = pixels == np.array(transparent)
    pixels[same if pixels.ndim == 2 else same.all(-1)] = 0
    return Image.fromarray(pixels)
