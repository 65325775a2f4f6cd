"""Widths that the planner and the compiled code agree on. Nothing here needs a compiler.

A 64-byte vector is one register of AVX-512 (of 32), two of AVX2 (of 16), four of NEON (of 32).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bwn.kernels.target.cpu import features

VECTOR_BYTES = 64
LANES = 16
"""float32 of a vector; writers of planes store this many elements at a time."""
NARROW = 4
"""Lanes of the vector for rows that are shorter."""

BLOCK = 64
"""Output channels of a block of packed signs: they make one word."""
BLOCK_VECTORS = BLOCK // LANES
CARRIES = "neon" not in features()
"""Whether products of packed signs count carries of pairs (`gemm/xnor.py`). NEON counts a register
of bytes in one instruction, as many as a carry takes."""


def xor_halves(words: Any) -> Any:
    """Words with the low half XORed into the high one where carries are counted; undoes itself.

    So the words of `bits.py` are stored where products of packed signs read them, see
    `gemm/xnor.py`. words: uint64.
    """
    return words ^ (words << np.uint64(32)) if CARRIES else words
