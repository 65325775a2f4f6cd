"""Random floats with everything that IEEE 754 allows among them."""

from __future__ import annotations

import numpy as np

TINY = np.finfo(np.float32).tiny
SPECIAL = np.array(
    [0.0, -0.0, np.nan, np.inf, -np.inf, TINY / 4, -TINY / 4, TINY, np.finfo(np.float32).smallest_subnormal],
    np.float32,
)  # fmt: skip


def special(
    rng: np.random.Generator, shape: tuple[int, ...], share: float = 0.1, finite: bool = False
) -> np.ndarray:
    """Normal numbers, of which a share is replaced: signed zeros, denormals, NaN, infinities."""
    values = SPECIAL[np.isfinite(SPECIAL)] if finite else SPECIAL
    x = rng.standard_normal(shape).astype(np.float32)
    return np.where(rng.random(shape) < share, rng.choice(values, shape), x).astype(np.float32)
