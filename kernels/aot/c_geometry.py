"""Which part of an image becomes the network's input, axis by axis, as `bwn.data.resizing` has it.

An axis maps output pixel i to the input position `start + (first + i + 0.5) * step`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bwn.kernels.target.jit import helper


@helper
def span(low: float, high: float, pixels: int) -> tuple[float, float]:
    """Start and step of an axis whose part from low to high becomes so many pixels.

    Pillow keeps the edges as float32.
    """
    start, stop = np.float32(low), np.float32(high)
    return np.float64(start), np.float64(stop - start) / pixels


@helper
def half_to_even(count: int) -> int:
    """round(count / 2)."""
    return (count + ((count >> 1) & 1)) >> 1


@helper
def resized(side: int, length: int, shorter: int) -> int:
    """Pixels of an axis when the image's shorter side is resized to `side`."""
    return side if length == shorter else side * length // shorter


def make_axis(resize: str | int, most: int) -> Callable[..., Any]:
    """The compiled function (length, other, out, other_out) to (start, step, first).

    length, out: pixels of the axis in the image, and in the input; other: those of the other axis.

    Args:
        resize: As in `Preprocess`.
        most: Most pixels of an image that is resized as a whole to keep only its center.
    """

    @helper
    def stretch(length: int, other: int, out: int, other_out: int) -> tuple[float, float, int]:
        start, step = span(0.0, float(length), out)
        return start, step, 0

    @helper
    def crop(length: int, other: int, out: int, other_out: int) -> tuple[float, float, int]:
        scale = min(length / out, other / other_out)
        part = out * scale
        low = max((length - part) / 2, 0.0)
        start, step = span(low, min(low + part, float(length)), out)
        return start, step, 0

    side = 0 if isinstance(resize, str) else resize

    @helper
    def center(length: int, other: int, out: int, other_out: int) -> tuple[float, float, int]:
        shorter = min(length, other)
        pixels = resized(side, length, shorter)
        first = half_to_even(pixels - out)
        if pixels * resized(side, other, shorter) <= most:
            start, step = span(0.0, float(length), pixels)
            return start, step, first
        per_pixel = length / pixels
        high = min((first + out) * per_pixel, float(length))
        start, step = span(first * per_pixel, high, out)
        return start, step, 0

    return {"stretch": stretch, "crop": crop}.get(str(resize), center)
