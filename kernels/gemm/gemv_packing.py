"""Weight packing for the kernels that keep output channels in the lanes, and the scratch those
need.

The rows of a block of channels are packed side by side. A `GemvLayout` says how wide a block is,
how many inputs one element serves, and when sums must be widened. The kernels are `gemv.py`,
`gemv_bytes.py`, `gemv_split.py`, `gemv_sdot.py` and `gemv_xnor.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from bwn.kernels.bits import WORD, words_for
from bwn.kernels.target.cpu import features

TOTALS_BYTES = 8 * 128
"""Totals of the blocks of channels that are summed at once, in int32 or float32."""
BLOCKS_AT_ONCE = 8
"""That `pack_bytes` packs: more are no faster, but take memory."""
BYTE_SAFE_WORDS = 31
"""Words after which counts in bytes are widened: each adds at most 8."""


class GemvLayout(NamedTuple):
    """How weights are packed and looked up: by indices of tables that registers hold.

    Attributes:
        lanes: Channels of a block, and entries of a register.
        group: Inputs of a table.
        tables: Tables that one lane of indices serves; their inputs are a piece of a row.
        safe_pieces: Pieces after which sums are widened.
        register_bytes: Bytes of a register of indices.
        table_bytes: Bytes of a table.
        input_bytes: Bytes of an input.
    """

    lanes: int
    group: int
    tables: int
    safe_pieces: int
    register_bytes: int
    table_bytes: int
    input_bytes: int

    @property
    def inputs(self) -> int:
        """Inputs of a piece."""
        return self.group * self.tables

    def pack(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        """Pack rows as lanes of indices, the rows of a block of channels side by side.

        Args:
            words: (N, row_words) uint64.

        Returns:
            (blocks of rows, pieces, lanes) unsigned integers that fill a register: the bits of a
            piece, the first input lowest; zeros past the last row and bit.
        """
        element = np.dtype(f"u{self.register_bytes // self.lanes}")
        pieces = self._pieces(words.shape[1])
        packed = np.zeros((-(-len(words) // self.lanes), pieces, self.lanes), element)
        octets = np.zeros((self.lanes, words.shape[1] * 8 + 8), np.uint8)  # a word past the last
        for block, rows in enumerate(packed):
            some = words[block * self.lanes : (block + 1) * self.lanes]
            octets[: len(some), :-8] = np.ascontiguousarray(some).view(np.uint8)
            octets[len(some) :] = 0
            if self.inputs == element.itemsize * 8:
                indices = octets[:, :-8].view(element)
            else:
                bit = np.arange(pieces, dtype=np.uint64) * np.uint64(self.inputs)
                piece = sliding_window_view(octets, 8, axis=1)[:, bit // 8].view(np.uint64)[..., 0]
                indices = piece >> bit % 8 & np.uint64((1 << self.inputs) - 1)
            rows[:] = indices.T
        return packed

    def scratch(self, outputs: int, depth: int) -> int:
        """Bytes a part needs: totals, the tables, the gathered inputs."""
        piece = self.tables * self.table_bytes + self.inputs * self.input_bytes
        return TOTALS_BYTES + self._pieces(words_for(depth)) * piece

    def _pieces(self, row_words: int) -> int:
        """Pieces of a row of so many words."""
        return -(-row_words * WORD // self.inputs)


# Lanes, group, tables, safe pieces; bytes of a register, of a table, of an input.
AVX512_FLOAT_LAYOUT = GemvLayout(16, 5, 6, 64, 64, 128, 4)
AVX2_FLOAT_LAYOUT = GemvLayout(8, 3, 10, 64, 32, 32, 4)
FLOAT_LAYOUT = AVX512_FLOAT_LAYOUT if "avx512f" in features() else AVX2_FLOAT_LAYOUT
SHORT_LAYOUT = GemvLayout(32, 5, 3, 17, 64, 64, 1)
BYTES_OF_4_LAYOUT = GemvLayout(32, 4, 8, 8, 128, 2 * 16, 1)
BYTES_OF_5_LAYOUT = GemvLayout(32, 5, 6, 8, 128, 2 * 32, 1)
# Of the cores that LLVM models, those with dot products look up two registers as fast as one.
BYTES_LAYOUT = BYTES_OF_5_LAYOUT if "dotprod" in features() else BYTES_OF_4_LAYOUT
SPLIT_LAYOUT = GemvLayout(16, 4, 2, 2**31, 16, 4 * 16, 4)
DOTS_LAYOUT = GemvLayout(32, 16, 1, 2**31, 64, 16, 1)
# Without an instruction that counts words, bytes are counted: adding up their counts once costs
# less.
COUNTS_WORDS = "avx512vpopcntdq" in features()
SIGNS_LAYOUT = GemvLayout(8, WORD, 1, 2**31 if COUNTS_WORDS else BYTE_SAFE_WORDS, 64, 0, 1)


def pack_bytes(
    words: npt.NDArray[np.uint64], layout: GemvLayout = BYTES_LAYOUT
) -> npt.NDArray[np.uint8]:
    """Pack rows as `gemv_bytes.py` reads them.

    Args:
        words: (N, row_words) uint64.
        layout: Of the tables, of 4 inputs or of 5.

    Returns:
        (blocks of 32 rows, pieces, 4, 32) uint8: the four bytes of a piece, the first inputs
        lowest. With tables of 5, a piece is twice 15 inputs in two bytes, of which bit 13 is 0.
    """
    pieces = -(-words.shape[1] * WORD // layout.inputs)
    packed = np.empty((-(-len(words) // layout.lanes), pieces, 4, layout.lanes), np.uint8)
    for first in range(0, len(packed), BLOCKS_AT_ONCE):
        blocks = packed[first : first + BLOCKS_AT_ONCE]
        some = words[first * layout.lanes : (first + BLOCKS_AT_ONCE) * layout.lanes]
        rows = np.zeros((len(blocks) * layout.lanes, words.shape[1]), np.uint64)
        rows[: len(some)] = some
        octets = rows.view(np.uint8) if layout.group == 4 else _by_fifteen(rows, 2 * pieces)
        blocks[:] = octets.reshape(-1, layout.lanes, pieces, 4).transpose(0, 2, 3, 1)
    return packed


def _by_fifteen(words: npt.NDArray[np.uint64], units: int) -> npt.NDArray[np.uint8]:
    """Rows of bits as so many units of two bytes: 13 bits, a 0, 2 bits."""
    cycles = -(-units // 16)  # of 15 uint16 that become 16 units
    short = np.zeros((len(words), cycles * 15), np.uint16)
    short[:, : words.shape[1] * 4] = words.view(np.uint16)
    below, above = np.zeros((2, len(words), cycles, 16), np.uint16)
    below[:, :, 1:] = above[:, :, :15] = short.reshape(-1, cycles, 15)
    shift = np.arange(16, dtype=np.uint16)  # unit i begins i bits before uint16 i
    bits = below >> 16 - shift | above << shift
    spread = bits & 0x1FFF | (bits & 0x6000) << 1
    return spread.reshape(len(words), -1)[:, :units].view(np.uint8)


def pack_dots(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """Pack rows as `gemv_sdot.py` reads them.

    Args:
        words: (N, row_words) uint64.

    Returns:
        (blocks of 32 rows, pieces of 16 inputs, 4, 4, 4) uint8: bit j of byte [.., .., q, c, i] is
        row 4 * j + c of the block and input 4 * q + i of the piece; zeros past the last row.
    """
    blocks = -(-len(words) // DOTS_LAYOUT.lanes)
    octets = np.zeros((blocks * DOTS_LAYOUT.lanes, words.shape[1] * WORD // 8), np.uint8)
    octets[: len(words)] = np.ascontiguousarray(words).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, bitorder="little").reshape(blocks, 8, 4, -1, 4, 4)
    return np.packbits(bits.transpose(0, 3, 4, 2, 5, 1), axis=5, bitorder="little")[..., 0]


def signs_scratch(outputs: int, depth: int) -> int:
    """Bytes a part of `gemv_xnor.py` needs: totals, bits, mask and their number, the inputs."""
    return TOTALS_BYTES + words_for(depth) * (16 + WORD) + 8
