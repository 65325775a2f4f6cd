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

    @property
    def inputs(self) -> int:
        """Inputs of a piece."""
        return self.group * self.tables


FLOAT_FORM = Form(16, 5, 6, 64, 64, 128) if "avx512f" in features() else Form(8, 3, 10, 64, 32, 32)
SHORT_FORM = Form(32, 5, 3, 17, 64, 64)
BYTES_FORM = Form(32, 4, 2, 32, 32, 2 * 16)
SPLIT_FORM = Form(16, 4, 2, 2**31, 16, 4 * 16)
DOTS_FORM = Form(32, 16, 1, 2**31, 64, 16)
# Without an instruction that counts words, bytes are counted: their counts cost less to add up once than each time.
COUNTS_WORDS = "avx512vpopcntdq" in features()
SIGNS_FORM = Form(8, WORD, 1, 2**31 if COUNTS_WORDS else BYTE_SAFE_WORDS, 64, 0)


def lay_out(
    words: npt.NDArray[np.uint64], lanes: int, inputs: int, element: type[np.unsignedinteger[Any]]
) -> npt.NDArray[Any]:
    """ModelSpec rows as lanes of numbers.

    words: (N, row_words) uint64. inputs: bits of a row that one lane takes, the lowest first.
    Returns (blocks of `lanes` rows, pieces of `inputs` bits, lanes) of `element`, zeros past the last row and bit.
    """
    count, width = len(words), np.dtype(element).itemsize * 8
    pieces = -(-words.shape[1] * WORD // inputs)
    out = np.zeros((-(-count // lanes), pieces, lanes), element)
    for block, rows in enumerate(out):
        octets = np.ascontiguousarray(words[block * lanes : (block + 1) * lanes]).view(np.uint8)
        bits = np.zeros((len(octets), pieces * inputs), np.uint8)
        bits[:, : words.shape[1] * WORD] = np.unpackbits(octets, axis=1, bitorder="little")
        lane = np.zeros((len(octets), pieces, width), np.uint8)
        lane[:, :, :inputs] = bits.reshape(len(octets), pieces, inputs)
        rows[:, : len(octets)] = (
            np.packbits(lane, axis=2, bitorder="little").view(element)[..., 0].T
        )
    return out


def float_lay(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """The weights as `f32_b1_f32_planes_inlane` reads them."""
    return lay_out(words, FLOAT_FORM.lanes, FLOAT_FORM.inputs, np.uint32)


def short_lay(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """The weights as `i8_b1_f32_planes_inlane` reads them."""
    return lay_out(words, SHORT_FORM.lanes, SHORT_FORM.inputs, np.uint16)


def bytes_lay(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """The weights as `i8_b1_f32_planes_bytes` reads them: bytes of 32 rows side by side."""
    return lay_out(words, BYTES_FORM.lanes, BYTES_FORM.inputs, np.uint8)


def split_lay(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """The weights as `f32_b1_f32_planes_split` reads them: bytes of 16 rows side by side."""
    return lay_out(words, SPLIT_FORM.lanes, SPLIT_FORM.inputs, np.uint8)


def dots_lay(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
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


def signs_lay(words: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """The weights as `s1_b1_f32_planes_inlane` reads them: 8 rows side by side."""
    return lay_out(words, SIGNS_FORM.lanes, SIGNS_FORM.inputs, np.uint64)


def float_scratch(outputs: int, depth: int) -> int:
    """Scratch that one part of `f32_b1_f32_planes_inlane` needs."""
    return _scratch(FLOAT_FORM, depth, 4)


def short_scratch(outputs: int, depth: int) -> int:
    """Scratch that one part of `i8_b1_f32_planes_inlane` needs."""
    return _scratch(SHORT_FORM, depth, 1)


def bytes_scratch(outputs: int, depth: int) -> int:
    """Scratch that one part of `i8_b1_f32_planes_bytes` needs."""
    return _scratch(BYTES_FORM, depth, 1)


def split_scratch(outputs: int, depth: int) -> int:
    """Scratch that one part of `f32_b1_f32_planes_split` needs."""
    return _scratch(SPLIT_FORM, depth, 4)


def dots_scratch(outputs: int, depth: int) -> int:
    """Scratch that one part of `i8_b1_f32_planes_dots` needs."""
    return _scratch(DOTS_FORM, depth, 1)


def signs_scratch(outputs: int, depth: int) -> int:
    """Scratch that one part needs: totals, two rows of bits and their number, the gathered inputs."""
    return TOTALS_BYTES + words_for(depth) * (16 + WORD) + 8


def _scratch(form: Form, depth: int, itemsize: int) -> int:
    # Totals, the tables, the gathered inputs.
    pieces = -(-words_for(depth) * WORD // form.inputs)
    return TOTALS_BYTES + pieces * (form.tables * form.table_bytes + form.inputs * itemsize)
