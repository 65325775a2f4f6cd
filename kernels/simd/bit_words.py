"""Words of packed signs in memory, as `gemm/xnor.py` describes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bwn.kernels.simd import widths
from bwn.kernels.simd.scalars import put_u64
from bwn.kernels.simd.vectors import at
from bwn.kernels.target.jit import Codegen, helper, intrinsic

WORD_SIGNS = 64
HALF = WORD_SIGNS // 2

xor_halves = helper(widths.xor_halves)


@intrinsic
def store_words(address: Any, low: Any, high: Any) -> tuple[Any, Codegen]:
    """store_words(address, low, high): 16 uint64, each low | high << 32."""

    def gen(builder: Any, args: Any) -> None:
        wide = ir.VectorType(ir.IntType(64), low.lanes)
        shift = ir.Constant(wide, [32] * low.lanes)
        top = builder.shl(builder.zext(args[2], wide), shift)
        words = builder.or_(builder.zext(args[1], wide), top)
        builder.store(words, at(builder, args[0], wide), align=8)

    return types.void(types.intp, low, high), gen


@helper
def clear_border(f: Any, corner: int, y: int) -> None:
    """Zero one word of the positions around row y of an image; of all above the first, below the
    last.

    f: with the fields of a bitpacked output. corner: address of the word in the corner of the
    zeros.
    """
    first = 0 if y == 0 else y + f.top
    last = f.rows if y == f.height - 1 else y + f.top + 1
    for row in range(first, last):
        inside = f.top <= row < f.top + f.height
        start = corner + row * f.out_row
        for column in range(f.left if inside else f.columns):
            put_u64(start + column * f.out_position, 0, np.uint64(0))
        for column in range(f.left + f.width, f.columns if inside else 0):
            put_u64(start + column * f.out_position, 0, np.uint64(0))
