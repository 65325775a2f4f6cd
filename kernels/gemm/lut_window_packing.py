"""Tiles, scratch and weight packing of `lut_window.py`. Nothing here needs a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

REGISTER = 16
"""Bytes of a register of NEON."""
SPAN = 3
"""Taps along each axis of the largest rectangle that shares tables."""
RECTANGLES = ((3, 3), (2, 2), (2, 1), (1, 2), (1, 1))
"""Rows and columns of taps for which there is code."""
GATHERED = 4
"""Columns of inputs that are read at once."""
RUN_FIELDS = 5
"""int64 of a run of outputs: image, position, offset in the tile's row, length, rows."""


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
    def channel_bytes(self) -> int:
        """Bytes of the inputs of a channel, as they lie in an entry, and of columns beyond it."""
        columns = self.columns + SPAN - 1
        return -(-columns // GATHERED) * GATHERED * self.entry_rows * REGISTER

    @property
    def row_outputs(self) -> int:
        """Outputs of a row of all blocks of a tile."""
        return self.lanes * self.columns

    @property
    def small_bytes(self) -> int:
        """Bytes of what does not depend on the outputs: addresses, runs, inputs, rows, a table."""
        lanes = self.lanes * 8 * (1 + RUN_FIELDS)
        rows = self.rows * self.row_outputs * 4
        return lanes + self.group * self.channel_bytes + rows + self.table_bytes

    def scratch_bytes(self, outputs: int) -> int:
        """Bytes that a part needs for so many outputs."""
        total = self.registers * (REGISTER + self.lanes * self.wide_bytes)
        return self.small_bytes + outputs * total

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


F32_TALL = Tile(rows=7, columns=1, lanes=4, group=6, safe_lookups=2**40, wide_bytes=0)
F32_WIDE = Tile(rows=4, columns=2, lanes=4, group=6, safe_lookups=2**40, wide_bytes=0)
I8_TALL = Tile(rows=7, columns=1, lanes=8, group=6, safe_lookups=32767 // (127 * 6), wide_bytes=4)
I8_WIDE = Tile(rows=4, columns=2, lanes=8, group=6, safe_lookups=32767 // (127 * 6), wide_bytes=4)
