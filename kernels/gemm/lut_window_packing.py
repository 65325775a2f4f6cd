"""Tiles, scratch and weight packing of `lut_window.py`. Nothing here needs a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.kernels.target.cpu import features

REGISTER = 16 if "neon" in features() else 32
"""Bytes of a register: of NEON, of AVX2."""
GROUP = 6 if REGISTER == 16 else 5
"""Input channels of a table, which stays in an L1 of 32 KiB."""
SPAN = 3
"""Taps along each axis of the largest rectangle that shares tables."""
RECTANGLES = ((3, 3), (2, 2), (2, 1), (1, 2), (1, 1))
"""Rows and columns of taps for which there is code."""
RUN_FIELDS = 6
"""int64 of a run of neighboring outputs: image, position, offset in the tile's row, length, rows,
address of what they read first."""


class Rectangle(NamedTuple):
    """Neighboring taps that read one phase of the stride: they share tables.

    Attributes:
        rows: Rows of taps.
        columns: Columns of taps.
        phase: Phase of the stride.
        y: Row of what the first tap reads for output (0, 0), in the phase's plane.
        x: Column of it.
        taps: Tap numbers, row by row.
    """

    rows: int
    columns: int
    phase: int
    y: int
    x: int
    taps: tuple[int, ...]


class Tile(NamedTuple):
    """How one type of activations is looked up.

    A lane has a block of outputs, `rows` by `columns`; each of them is a register.

    Attributes:
        rows: Rows of a block.
        columns: Columns of a block.
        lanes: Blocks of a tile.
        group: Input channels of a table.
        safe_lookups: Entries whose sum fits a lane.
        wide_bytes: Bytes of an output's widened total, 0 where totals are not widened.
    """

    rows: int
    columns: int
    lanes: int
    group: int
    safe_lookups: int
    wide_bytes: int

    @property
    def registers(self) -> int:
        """Registers of sums."""
        return self.rows * self.columns

    @property
    def entry_rows(self) -> int:
        """Registers of a column of an entry."""
        return self.rows + SPAN - 1

    @property
    def entry(self) -> int:
        """Registers of an entry: all that the taps of the largest rectangle read."""
        return self.entry_rows * (self.columns + SPAN - 1)

    @property
    def stride(self) -> int:
        """Bytes from one entry to the next."""
        return self.entry * REGISTER

    @property
    def table_bytes(self) -> int:
        """Bytes of the table of a group of channels."""
        return self.stride << self.group

    @property
    def row_outputs(self) -> int:
        """Outputs of a row of all blocks of a tile."""
        return self.lanes * self.columns

    @property
    def input_bytes(self) -> int:
        """Bytes of an input."""
        return 1 if self.wide_bytes else 4

    @property
    def input_column(self) -> int:
        """Bytes from one column of a channel's inputs to the next; columns that are written
        together end apart.
        """
        return (self.entry_rows + (self.columns > 1)) * REGISTER

    @property
    def channel_bytes(self) -> int:
        """Bytes of the inputs of a channel."""
        return self.input_column * (self.columns + SPAN - 1)

    @property
    def inputs_at(self) -> int:
        """Offset in the scratch of the inputs of a group, after the runs."""
        return self.lanes * RUN_FIELDS * 8

    @property
    def rows_at(self) -> int:
        """Offset of the sums of an output channel, row by row; before them, inputs may end late."""
        return self.inputs_at + self.group * self.channel_bytes

    @property
    def table_at(self) -> int:
        """Offset of the table."""
        return -(-(self.rows_at + self.rows * self.row_outputs * 4) // 64) * 64

    @property
    def totals_at(self) -> int:
        """Offset of the sums of all outputs, after what does not depend on how many there are."""
        return -(-(self.table_at + self.table_bytes) // 64) * 64

    def scratch_bytes(self, outputs: int) -> int:
        """Bytes that a part needs for so many outputs."""
        total = self.registers * (REGISTER + self.lanes * self.wide_bytes)
        return self.totals_at + outputs * total

    def tiles(self, images: int, height: int, width: int) -> int:
        """Tiles that so many outputs take."""
        return -(-images * -(-height // self.rows) * -(-width // self.columns) // self.lanes)

    def groups(self, channels: int) -> int:
        """Tables of so many channels."""
        return -(-channels // self.group)

    def pack(
        self,
        words: npt.NDArray[np.uint64],
        groups: int,
        channels: int,
        rectangles: Sequence[Rectangle],
    ) -> npt.NDArray[np.uint64]:
        """Pack weights as the table indices of all taps of a rectangle, in the order of reading.

        Args:
            words: (groups * outputs, ceil(K / 64)) uint64, K = taps * channels, tap by tap.
            groups: Groups of channels.
            channels: Input channels of one group.
            rectangles: The taps.

        Returns:
            (groups, rectangles * tables of the channels * outputs) uint64: index t of `group` bits
            is that of tap t.
        """
        outputs = len(words) // groups
        octets = np.zeros((len(words), words.shape[1] * 8 + 1), np.uint16)
        octets[:, :-1] = words.astype("<u8", copy=False).view(np.uint8)
        octets[:, :-1] |= octets[:, 1:] << 8  # every 16 bits that begin with an octet
        pairs = np.ascontiguousarray(octets.T)
        firsts = np.arange(0, channels, self.group)
        masks = np.array((1 << np.minimum(self.group, channels - firsts)) - 1, np.uint16)
        packed = np.zeros((len(rectangles), len(firsts), len(words)), np.uint64)
        for rectangle, part in zip(rectangles, packed, strict=True):
            for t, tap in enumerate(rectangle.taps):
                bit = tap * channels + firsts
                indices = pairs[bit // 8] >> (bit % 8).astype(np.uint16)[:, None]
                indices &= masks[:, None]
                part |= indices.astype(np.uint64) << np.uint64(t * self.group)
        by_group = packed.reshape(len(rectangles), len(firsts), groups, outputs)
        return np.ascontiguousarray(by_group.transpose(2, 0, 1, 3)).reshape(groups, -1)


def _float_tile(rows: int, columns: int) -> Tile:
    return Tile(rows, columns, REGISTER // 4, GROUP, safe_lookups=2**40, wide_bytes=0)


def _byte_tile(rows: int, columns: int) -> Tile:
    return Tile(rows, columns, REGISTER // 2, GROUP, 32767 // (127 * GROUP), wide_bytes=4)


F32_TALL, F32_WIDE, F32_SQUARE = _float_tile(7, 1), _float_tile(4, 2), _float_tile(2, 2)
I8_TALL, I8_WIDE, I8_SQUARE = _byte_tile(7, 1), _byte_tile(4, 2), _byte_tile(2, 2)
# For the 32 registers of NEON and an L1 of 64 KiB.
F32_7X2, F32_8X2 = _float_tile(7, 2), _float_tile(8, 2)
I8_7X2, I8_8X2 = _byte_tile(7, 2), _byte_tile(8, 2)
