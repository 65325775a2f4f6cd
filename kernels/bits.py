"""The bit rule: how signs are stored in words. Every other file refers to this one.

- sign(x) = +1 where x >= 0 (so sign(0) = +1, sign(-0.0) = +1), else -1. NaN counts as -1.
- Bit 1 means +1, bit 0 means -1.
- A row of K signs is ceil(K / 64) little-endian uint64 words: sign k is bit k % 64 of word k // 64,
  bit 0 lowest.
- A row starts on a word. The unused high bits of its last word are zero.
- Nothing is read before or after a row's words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

WORD = 64


def words_for(count: int) -> int:
    """Words that `count` signs take: ceil(count / 64)."""
    return -(-count // WORD)


def pack(signs: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Pack the signs of rows.

    Args:
        signs: (rows, K) real, any dtype; only `signs >= 0` counts.

    Returns:
        (rows, ceil(K / 64)) uint64.
    """
    rows, count = signs.shape
    bits = np.zeros((rows, words_for(count) * WORD), np.bool_)
    np.greater_equal(signs, 0, out=bits[:, :count])
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def sums(words: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int64]:
    """Sums of the signs of packed rows: 2 * (bits that are 1) - count.

    Args:
        words: (rows, ceil(count / 64)) uint64.
        count: Signs of a row.

    Returns:
        (rows,) int64.
    """
    return np.asarray(2 * np.bitwise_count(words).sum(axis=1, dtype=np.int64) - count)


def unpack(words: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int8]:
    """Signs of packed rows.

    Args:
        words: (rows, ceil(count / 64)) uint64.
        count: Signs of a row.

    Returns:
        (rows, count) int8, +-1.
    """
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    signs = np.unpackbits(octets, axis=1, count=count, bitorder="little").view(np.int8)
    signs *= 2  # in place: the memory of planning peaks here
    signs -= 1
    return signs


def pads_are_zero(words: npt.NDArray[np.uint64], count: int) -> bool:
    """Whether the unused bits of every row's last word are zero."""
    used = count % WORD
    return used == 0 or not bool((words[:, -1] >> np.uint64(used)).any())
