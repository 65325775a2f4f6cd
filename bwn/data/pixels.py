"""From every pixel format that Pillow decodes to 8-bit grayscale or RGB, or a refusal by name.

Pillow leaves several meanings to its caller: whether 16-bit gray is stored white-is-zero, whether
it uses 12 of its bits, whether samples are signed, and which gray value is transparent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bwn.data.records import Pixels
from bwn.errors import DataError
from bwn.ir.model_spec import BLACK

# TIFF 6.0, section 8 and 19.
_BITS, _PHOTOMETRIC, _PLANAR, _COLOR_MAP, _SAMPLE_FORMAT = 258, 262, 284, 320, 339
_WHITE_IS_ZERO, _SEPARATE_PLANES = 0, 2
_UNSIGNED = 1
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}

ROWS = 64
"""Rows of an image that are laid over the background at once."""

_PNG_GRAY_STEPS = {"L;2": 85, "L;4": 17}
"""Pillow's name of how a PNG stores gray, to the step between its levels in 8 bits."""
_STORAGE = "bwn_storage"
"""Key in an image's `info`: that name, which Pillow forgets once the image is decoded."""


Color = tuple[int, int, int]


def to_8_bit(image: Image.Image, name: str, background: Color = BLACK) -> Image.Image:
    """Convert an image of any mode to `L` or `RGB`; transparent pixels are laid over a background.

    Args:
        image: Decoded or not; it is decoded here.
        name: What to call it in a message.
        background: Red, green and blue. A gray image with transparent pixels over a color is `RGB`.

    Raises:
        DataError: What its numbers mean is not known; the message names the pixel format.
    """
    _refuse_unknown(image, name)
    transparent = image.info.get("transparency")
    storage = _storage(image) if isinstance(transparent, (int, tuple)) else ""
    _load(image)
    image = _with_true_palette(image, name)
    if image.mode.startswith("I"):
        return _deep_gray(image, transparent, background)
    if isinstance(transparent, int) and image.mode == "1":
        levels: list[tuple[int, ...]] = [(255 * bool(transparent),)]
        return _without(image.convert("L"), levels, name, background)
    if isinstance(transparent, int) and image.mode == "L":
        return _without(image, _transparent_levels((transparent,), storage), name, background)
    if isinstance(transparent, tuple) and image.mode == "RGB":
        return _without(image, _transparent_levels(transparent, storage), name, background)
    if image.has_transparency_data:
        return _over(image, background)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _storage(image: Image.Image) -> str:
    """How the file stores samples, in Pillow's words; "" where the image was decoded elsewhere."""
    tile = getattr(image, "tile", None)  # empty once decoded
    if tile:
        image.info[_STORAGE] = str(tile[0][3])
    elif image.format == "GIF":
        return "8 bits"
    return str(image.info.get(_STORAGE, ""))


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
    elif image.mode.startswith("I;16") and not tags and _is_from_tiff(image):
        raise DataError(
            f"{name}: a copy of a TIFF with 16-bit gray, which no longer says how many bits it "
            "uses and whether 0 is white; pass the file, or the image as it was opened"
        )
    else:
        return
    raise DataError(
        f"{name}: {meaning} pixels, whose range is not known; save it with 8 or 16 unsigned bits"
    )


def _over(image: Image.Image, background: Color) -> Image.Image:
    """An image with opacity laid over a color, a few rows at a time: copies take much memory."""
    gray = image.mode in ("LA", "La") and len({*background}) == 1
    plain = Image.new("L" if gray else "RGB", image.size)
    for top in range(0, image.height, ROWS):
        box = (0, top, image.width, min(top + ROWS, image.height))
        rows = image.crop(box)
        straight = rows.convert("LA") if rows.mode == "La" else rows
        below = Image.new("RGBA", rows.size, (*background, 255))
        over = Image.alpha_composite(below, straight.convert("RGBA"))
        plain.paste(over.convert(plain.mode), box)
    return plain


def _deep_gray(image: Image.Image, transparent: object, background: Color) -> Image.Image:
    """Round gray levels of 12 or 16 bits to 8; the transparent one becomes the background."""
    tags: Any = getattr(image, "tag_v2", {})
    white = 2 ** min(tags.get(_BITS, (16,))[0], 16) - 1
    stored = np.arange(2**16)  # what each number means, in place of arithmetic on all pixels
    levels = np.clip(
        white - stored if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else stored, 0, white
    )
    gray = ((levels * 255 + white // 2) // white).astype(np.uint8)
    if transparent is None:
        return Image.fromarray(gray[np.asarray(image)])
    colors = _filled(gray[:, None], levels == transparent, background)
    return Image.fromarray(colors[np.asarray(image)])


def _filled(pixels: Pixels, clear: npt.NDArray[np.bool_], background: Color) -> Pixels:
    """Pixels with the background where they are clear; gray while both are.

    Args:
        pixels: (..., 1) gray or (..., 3) RGB.
        clear: (...)
        background: Red, green and blue.

    Returns:
        (...) or (..., 3)
    """
    gray = pixels.shape[-1] == 1 and len({*background}) == 1
    filled = np.where(clear[..., None], np.array(background, np.uint8)[: 1 if gray else 3], pixels)
    return filled[..., 0] if gray else filled


def _is_from_tiff(image: Image.Image) -> bool:
    """Whether an image without a TIFF's tags is derived from one."""
    return isinstance(image.info.get("compression"), str)


def _with_true_palette(image: Image.Image, name: str) -> Image.Image:
    """The image with the palette that its TIFF means.

    Entries have 16 bits, but some programs write 8. As libtiff does, a palette whose entries are
    all below 256 is taken to be of 8 bits, where Pillow makes it black.
    """
    if image.mode not in ("P", "PA"):
        return image
    colors = getattr(image, "tag_v2", {}).get(_COLOR_MAP)
    if colors and max(colors) < 256:
        image = image.copy()
        image.putpalette(np.reshape(colors, (3, -1)).T.astype(np.uint8).tobytes())
    elif not colors and _is_from_tiff(image) and not any(image.getpalette() or ()):
        raise DataError(
            f"{name}: a copy of a TIFF whose palette Pillow made black; pass the file, or the "
            "image as it was opened"
        )
    return image


def _transparent_levels(stored: tuple[int, ...], storage: str) -> list[tuple[int, ...]]:
    """What a stored transparent level can mean in 8 bits: several levels if the depth is unknown.

    Args:
        stored: One number, or one for each channel, in the depth of the file.
        storage: How the file stores samples, or "".
    """
    coarse = tuple(value >> 8 for value in stored)
    if storage == "RGB;16B" or max(stored) > 255:
        return [coarse]  # of 16 bits; the pixels keep eight
    if storage:
        return [tuple(value * _PNG_GRAY_STEPS.get(storage, 1) for value in stored)]
    steps = [step for step in (17, 85) if len({*stored}) == 1 and stored[0] <= 255 // step]
    scaled = [tuple(value * step for value in stored) for step in steps]
    return [stored, *scaled] + [coarse] * (len(stored) > 1)


def _without(
    image: Image.Image, levels: list[tuple[int, ...]], name: str, background: Color
) -> Image.Image:
    """The image with its transparent pixels filled; refused if it depends on which level they are.

    Args:
        image: Mode `L` or `RGB`.
        levels: What the transparent level can be.
        name: What to call the image in a message.
        background: What they are filled with.
    """
    pixels = np.atleast_3d(np.asarray(image))
    masks = [(pixels == np.array(level)).all(-1) for level in levels]
    different = np.logical_or.reduce(masks) & ~np.logical_and.reduce(masks)
    if (pixels[different] != background).any():
        level = levels[0][0] if len(levels[0]) == 1 else levels[0]
        raise DataError(
            f"{name}: already decoded, so the bit depth of its transparent level {level} is not "
            "known; pass the file, or the image as it was opened"
        )
    return Image.fromarray(_filled(pixels, masks[0], background))
