"""From a decoded image to a network's input: color, size, normalization."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bwn._types import Floats
from bwn.ir.model_spec import Preprocess
from bwn.ir.node import Pair


def prepare(image: Image.Image, preprocess: Preprocess) -> Floats:
    """Turn an image into a network's input.

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


def _center(size: Pair, shape: Pair) -> tuple[float, float, float, float]:
    """Box of the largest centered part of `size` in the proportions of `shape` (width, height)."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    width, height = shape[0] * scale, shape[1] * scale
    # Rounding may leave either a little below 0 or above the size, which Pillow refuses.
    left, top = max((size[0] - width) / 2, 0.0), max((size[1] - height) / 2, 0.0)
    return left, top, min(left + width, size[0]), min(top + height, size[1])
