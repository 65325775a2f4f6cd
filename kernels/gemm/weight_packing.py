"""How one-bit weights are laid out for the products that keep output channels in the lanes, and what those need.

The rows of a block of channels stand side by side: `lay_out`. A `Form` says how wide a block is, how many inputs one
element serves, and when sums must be widened. The products are in `inlane.py`, `inlane_bytes.py`, `inlane_split.py`,
`inlane_dots.py` and `inlane_signs.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.kernels.bits import WORD, words_for
from bwn.kernels.target.cpu import features

TOTALS_BYTES = 8 * 128
"""Totals of the blocks of channels that are summed at once, in int32 or float32."""
BYTE_SAFE_WORDS = 31
"""Words after which counts in bytes are widened: each adds at most 8."""


class Form(NamedTuple):
    """How one register holds a table."""

    lanes: int
    """Channels of a block, and entries of a register."""
    group: int
    """Inputs of a table."""
    tables: int
    """Tables that one lane of numbers serves; a piece of the inputs."""
    safe: int
    """Pieces after which sums are widened."""
    bytes: int
    """Bytes of a register."""
    table_bytes: int
    input_bytes: int
    """Bytes of an input of the activations."""

    @property
    def inputs(self) -> int:
        """Inputs of a piece."""
        return self.group * self.tables

    def pack(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        """Packed rows as lanes of numbers, the rows of a block of channels side by side.

        Args:
            words: (N, row_words) uint64.

        Returns:
            (blocks of `lanes` rows, pieces, lanes) unsigned integers that fill a register: the bits
            of a piece, the first input lowest; zeros past the last row and bit.
        """
        element = np.dtype(f"u{self.bytes // self.lanes}")
        pieces = self._pieces(words.shape[1])
        packed = np.zeros((-(-len(words) // self.lanes), pieces, self.lanes), element)
        for block, rows in enumerate(packed):
            some = words[block * self.lanes : (block + 1) * self.lanes]
            octets = np.ascontiguousarray(some).view(np.uint8)
            bits = np.zeros((len(octets), pieces * self.inputs), np.uint8)
            bits[:, : words.shape[1] * WORD] = np.unpackbits(octets, axis=1, bitorder="little")
            numbers = np.zeros((len(octets), pieces, element.itemsize * 8), np.uint8)
            numbers[:, :, : self.inputs] = bits.reshape(len(octets), pieces, self.inputs)
            lanes = np.packbits(numbers, axis=2, bitorder="little").view(element)[..., 0]
            rows[:, : len(octets)] = lanes.T
        return packed

    def scratch(self, outputs: int, depth: int) -> int:
        """Scratch that a part needs, in bytes: totals, the tables, the gathered inputs."""
        piece = self.tables * self.table_bytes + self.inputs * self.input_bytes
        return TOTALS_BYTES + self._pieces(words_for(depth)) * piece

    def _pieces(self, row_words: int) -> int:
        """Pieces of a row of so many words."""
        return -(-row_words * WORD // self.inputs)


AVX512_FLOAT_FORM = Form(16, 5, 6, 64, 64, 128, 4)
AVX2_FLOAT_FORM = Form(8, 3, 10, 64, 32, 32, 4)
FLOAT_FORM = AVX512_FLOAT_FORM if "avx512f" in features() else AVX2_FLOAT_FORM
SHORT_FORM = Form(32, 5, 3, 17, 64, 64, 1)
BYTES_FORM = Form(32, 4, 2, 32, 32, 2 * 16, 1)
SPLIT_FORM = Form(16, 4, 2, 2**31, 16, 4 * 16, 4)
DOTS_FORM = Form(32, 16, 1, 2**31, 64, 16, 1)
# Without an instruction that counts words, bytes are counted: their counts cost less to add up once than each time.
COUNTS_WORDS = "avx512vpopcntdq" in features()
SIGNS_FORM = Form(8, WORD, 1, 2**31 if COUNTS_WORDS else BYTE_SAFE_WORDS, 64, 0, 1)


def pack_dots(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """The weights as `i8_b1_f32_planes_dots` reads them.

    words: (N, row_words) uint64.
    Returns (blocks of 32 rows, pieces of 16 inputs, 4, 4, 4) uint8: bit j of byte [.., .., q, c, i] is row 4 * j + c of
    the block and input 4 * q + i of the piece; zeros past the last row.
    """
    blocks = -(-len(words) // DOTS_FORM.lanes)
    octets = np.zeros((blocks * DOTS_FORM.lanes, words.shape[1] * WORD // 8), np.uint8)
    octets[: len(words)] = np.ascontiguousarray(words).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, bitorder="little").reshape(blocks, 8, 4, -1, 4, 4)
    return np.packbits(bits.transpose(0, 3, 4, 2, 5, 1), axis=5, bitorder="little")[..., 0]


def signs_scratch(outputs: int, depth: int) -> int:
    """Scratch that a part of `gemv_xnor.py` needs: totals, bits, mask and their number, the inputs."""
    return TOTALS_BYTES + words_for(depth) * (16 + WORD) + 8
