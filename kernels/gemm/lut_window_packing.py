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

    def reads(self, rows: int, columns: int) -> list[tuple[int, int]]:
        """Row and column of an entry from which each lookup of a word of indices reads.

        One for each tap of a rectangle. A single tap leaves columns of an entry free: as many
        groups of channels as fit have theirs side by side, and a word an index for each.
        """
        if rows * columns > 1:
            return [(y, x) for y in range(rows) for x in range(columns)]
        return [(0, number * self.columns) for number in range(self.single)]

    @property
    def single(self) -> int:
        """Groups of channels that a single tap looks up at once."""
        return (self.columns + SPAN - 1) // self.columns

    def step(self, rows: int, columns: int) -> int:
        """Channels of a word of indices of a rectangle."""
        return self.group * (self.single if rows * columns == 1 else 1)

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
            (groups, words of all rectangles * outputs) uint64: lookup i, of `reads`, has index i of
            `group` bits.
        """
        outputs = len(words) // groups
        octets = np.zeros((len(words), words.shape[1] * 8 + 1), np.uint16)
        octets[:, :-1] = words.astype("<u8", copy=False).view(np.uint8)
        octets[:, :-1] |= octets[:, 1:] << 8  # every 16 bits that begin with an octet
        pairs = np.ascontiguousarray(octets.T)
        starts = [np.arange(0, channels, self.step(r.rows, r.columns)) for r in rectangles]
        packed = np.zeros((sum(map(len, starts)), len(words)), np.uint64)
        end = 0
        for rectangle, firsts in zip(rectangles, starts, strict=True):
            part = packed[end : (end := end + len(firsts))]
            for i in range(len(self.reads(rectangle.rows, rectangle.columns))):
                if len(rectangle.taps) == 1:
                    tap, bits = rectangle.taps[0], firsts + i * self.group
                    bits = bits[bits < channels]  # the last word may have no such group
                else:
                    tap, bits = rectangle.taps[i], firsts
                masks = np.array((1 << np.minimum(self.group, channels - bits)) - 1, np.uint16)
                bits = bits + tap * channels
                indices = pairs[bits // 8] >> (bits % 8).astype(np.uint16)[:, None]
                indices &= masks[:, None]
                part[: len(bits)] |= indices.astype(np.uint64) << np.uint64(i * self.group)
        by_group = packed.reshape(-1, groups, outputs)
        return np.ascontiguousarray(by_group.transpose(1, 0, 2)).reshape(groups, -1)


def _float_tile(rows: int, columns: int) -> Tile:
    return Tile(rows, columns, REGISTER // 4, GROUP, safe_lookups=2**40, wide_bytes=0)


def _byte_tile(rows: int, columns: int) -> Tile:
    return Tile(rows, columns, REGISTER // 2, GROUP, 32767 // (127 * GROUP), wide_bytes=4)


F32_TALL, F32_WIDE, F32_SQUARE = _float_tile(7, 1), _float_tile(4, 2), _float_tile(2, 2)
I8_TALL, I8_WIDE, I8_SQUARE = _byte_tile(7, 1), _byte_tile(4, 2), _byte_tile(2, 2)
# For the 32 registers of NEON and an L1 of 64 KiB.
F32_7X2, F32_8X2 = _float_tile(7, 2), _float_tile(8, 2)
I8_7X2, I8_8X2 = _byte_tile(7, 2), _byte_tile(8, 2)
