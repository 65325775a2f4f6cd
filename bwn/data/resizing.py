"""From a decoded image to a network's input: color, size, normalization."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bwn._types import Floats
from bwn.data.records import Pixels
from bwn.ir.model_spec import Preprocess
from bwn.ir.node import Pair

MAX_RESIZED = 2**24
"""Most pixels of a resized image of which only the center is kept."""


def prepare(image: Image.Image, preprocess: Preprocess) -> Floats:
    """Turn an image into a network's input.

    x = (pixel / scale - mean) / std, in float32, of the pixels that `sized` gives.

    Args:
        image: Mode `L` or `RGB`.
        preprocess: What the network expects.

    Returns:
        (C, H, W) float32.
    """
    return normalized(np.asarray(sized(image, preprocess)), preprocess)


def sized(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """An image in a network's size, mode `L` or `RGB` (for BGR too).

    Where it shrinks, resizing averages. `stretch` and `crop` keep every pixel of an image that has
    the size already. `crop` takes the largest centered part of the size's proportions. A number
    resizes the shorter side to it, then takes the center, pixel for pixel as torchvision does.
    """
    height, width = preprocess.size
    mode = "L" if preprocess.color == "L" else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    method = Image.Resampling[preprocess.interpolation.upper()]
    if isinstance(preprocess.resize, int):
        return _resized_center(image, preprocess.resize, (width, height), method)
    if keeps((image.height, image.width), preprocess):
        return image
    box = _center(image.size, (width, height)) if preprocess.resize == "crop" else None
    return image.resize((width, height), method, box=box)


def keeps(size: Pair, preprocess: Preprocess) -> bool:
    """Whether an image of `size`, (H, W), is not resized."""
    return size == preprocess.size and not isinstance(preprocess.resize, int)


def normalized(pixels: Pixels, preprocess: Preprocess) -> Floats:
    """Pixels of a network's size as its input.

    Args:
        pixels: (H, W) gray or (H, W, 3) RGB, uint8.
        preprocess: What the network expects.

    Returns:
        (C, H, W) float32.
    """
    x = pixels.astype(np.float32).reshape(*preprocess.size, -1).transpose(2, 0, 1)  # (C, H, W)
    if preprocess.color == "BGR":
        x = x[::-1]
    mean, std = (
        np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (preprocess.mean, preprocess.std)
    )
    return np.ascontiguousarray((x / np.float32(preprocess.scale) - mean) / std, np.float32)


def _resized_center(
    image: Image.Image, side: int, size: Pair, method: Image.Resampling
) -> Image.Image:
    """The center of an image whose shorter side is resized to `side`.

    Args:
        image: Any.
        side: Pixels, at least as many as either of `size`.
        size: (width, height) of the center.
        method: How to resize.
    """
    shorter = min(image.size)
    scaled = [side if length == shorter else side * length // shorter for length in image.size]
    left, top = (round((most - least) / 2) for most, least in zip(scaled, size, strict=True))
    part = left, top, left + size[0], top + size[1]
    if scaled[0] * scaled[1] <= MAX_RESIZED:
        if tuple(scaled) != image.size:
            image = image.resize((scaled[0], scaled[1]), method)
        return image.crop(part)
    # So long and thin that only the center can be resized, at the same scale but for rounding.
    per_pixel = [length / most for length, most in zip(image.size, scaled, strict=True)] * 2
    low_x, low_y, high_x, high_y = (edge * step for edge, step in zip(part, per_pixel, strict=True))
    box = low_x, low_y, min(high_x, image.width), min(high_y, image.height)
    return image.resize(size, method, box=box)


def _center(size: Pair, shape: Pair) -> tuple[float, float, float, float]:
    """Box of the largest centered part of `size` in the proportions of `shape` (width, height)."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    width, height = shape[0] * scale, shape[1] * scale
    # Rounding may leave either a little below 0 or above the size, which Pillow refuses.
    left, top = max((size[0] - width) / 2, 0.0), max((size[1] - height) / 2, 0.0)
    return left, top, min(left + width, size[0]), min(top + height, size[1])
