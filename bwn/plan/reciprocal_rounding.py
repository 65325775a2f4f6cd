"""How the outputs of a layer are rounded to 8 bits without a division.

An output is rint(y / s). Vectors divide slowly: 34 cycles for four numbers on a Cortex-A72, by
LLVM's model. Kernels multiply by the reciprocal of s, which is two float32, r and the rest e:

    t = y * r + y * e,    r = 1 / s and e = 1 / s - r, both rounded

e is at most u / s, u = 2^-24, and so are its error and that of y * e to y / s: t is the float32
next to a number within 2 u^2 of y / s. So rint(t) can only differ from rint(y / s), whose quotient
is rounded too, where y / s is that close to a midpoint of two float32 next to a half.
`divides_exactly` looks at all of these.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bwn.ir.node import Array

CLOSE = 2.0**-45
"""Relative distance, four times what the errors can add up to."""
LEAST_SCALE = 2.0**-100
"""From here to its reciprocal neither s, r nor e leaves the range of float32."""

Range = tuple[int, int]


@lru_cache(maxsize=256)
def divides_exactly(scale: float, qrange: Range) -> bool:
    """Whether the kernels' rounding equals that of a division for all float32.

    A midpoint m has 25 bits and the scale 24, so s * m and its distance to a float32 are exact in
    float64. One scale in some thousands has a y too close to tell.

    Args:
        scale: s, a float32.
        qrange: Least and greatest integer.
    """
    if not LEAST_SCALE <= scale <= 1 / LEAST_SCALE:
        return False
    halves = np.arange(qrange[0], qrange[1]).astype(np.float32) + np.float32(0.5)
    sides = [np.nextafter(halves, np.float32(end)).astype(np.float64) for end in (-np.inf, np.inf)]
    midpoints = np.concatenate([(side + halves) / 2 for side in sides])
    products = midpoints * float(np.float32(scale))
    distances = np.abs(products.astype(np.float32) - products)
    return bool((distances > CLOSE * np.abs(products)).all())


def rounding(scale: float, qrange: Range, bounds: tuple[float | None, float | None]) -> Array:
    """What kernels read of it, as the parameter `rounding` describes it: (6,) float32.

    Division and rounding keep the order of numbers, so the bounds of outputs before and after are
    one pair, before.

    Args:
        scale: s.
        qrange: Least and greatest integer.
        bounds: Lower and upper bound of outputs; None is infinite.
    """
    s = np.float32(scale)
    low, high = (np.float32(q) * s for q in qrange)
    if bounds[0] is not None:
        low = max(low, np.float32(bounds[0]))
    if bounds[1] is not None:
        high = min(high, np.float32(bounds[1]))
    reciprocal = np.float32(1) / s
    rest = 1 / np.float64(s) - np.float64(reciprocal)
    return np.array([s, reciprocal, rest, low, high, sum(qrange) // 2], np.float32)
