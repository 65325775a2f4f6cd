"""Pillow's resampling filters, in float64 as Pillow has them: src/libImaging/Resample.c."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from bwn.kernels.target.jit import helper


@helper
def box(x: float) -> float:
    """1 over one pixel."""
    return 1.0 if -0.5 < x <= 0.5 else 0.0


@helper
def bilinear(x: float) -> float:
    """A triangle."""
    return max(1.0 - abs(x), 0.0)


@helper
def hamming(x: float) -> float:
    """A sinc in a window."""
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    return math.sin(x) / x * (0.54 + 0.46 * math.cos(x))


@helper
def bicubic(x: float) -> float:
    """Keys' cubic with a = -0.5."""
    x = abs(x)
    if x < 1.0:
        return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return 0.0


@helper
def sinc(x: float) -> float:
    """sin(pi x) / (pi x)."""
    if x == 0.0:
        return 1.0
    x *= math.pi
    return math.sin(x) / x


@helper
def lanczos(x: float) -> float:
    """A sinc in the middle of a wider one."""
    if -3.0 <= x < 3.0:
        return sinc(x) * sinc(x / 3.0)
    return 0.0


class Filter(NamedTuple):
    """A filter.

    Attributes:
        weight: Its compiled function of the distance in output pixels.
        support: From which distance on it is 0.
    """

    weight: Any
    support: float


FILTERS = {
    "box": Filter(box, 0.5),
    "bilinear": Filter(bilinear, 1.0),
    "hamming": Filter(hamming, 1.0),
    "bicubic": Filter(bicubic, 2.0),
    "lanczos": Filter(lanczos, 3.0),
}
"""By Pillow's names. `nearest` takes one pixel and has no weights."""
