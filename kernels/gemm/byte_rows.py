"""Rows of int8 weights, as kernels of 8-bit products read them. Nothing here needs a compiler."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LINE = 64


def byte_row(depth: int) -> int:
    """Bytes from one row of K weights to the next: an odd number of lines.

    Rows of 4096 bytes would all lie in one set of the cache.
    """
    return (-(-(depth + 4) // LINE) | 1) * LINE


def pack_byte_rows(weights: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Rows of weights, (N, K) int8, each with zeros up to byte_row(K) and its sum as an int32."""
    rows = np.zeros((len(weights), byte_row(weights.shape[1])), np.int8)
    rows[:, : weights.shape[1]] = weights
    rows[:, -4:].view(np.int32)[:, 0] = weights.sum(axis=1, dtype=np.int32)
    return rows
