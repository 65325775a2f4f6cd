"""Weight packing for `lut_permute.py`, table indices in the order that they are read; its sizes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.kernels.bits import unpack
from bwn.kernels.simd.widths import VECTOR_BYTES

TILE = 4
"""Positions of a tile."""
TABLE_BYTES = 2 * VECTOR_BYTES
OUTPUT_BYTES = 2 * 16 * VECTOR_BYTES
"""Scratch for 16 outputs at 16 positions, before and after they are transposed."""
MAX_CHUNK = 13
"""Tables of a chunk: for 3x3 taps those around a tile are of 18 positions by 13, 30 KB."""


class Layout(NamedTuple):
    """How one type of activations is looked up.

    Attributes:
        group: Inputs of a table.
        lanes: Outputs of a vector.
        held: Table indices of a lane.
        safe_tables: Tables after which sums are widened.
        input_bytes: Bytes of an input.
    """

    group: int
    lanes: int
    held: int
    safe_tables: int
    input_bytes: int

    def vectors(self, outputs: int) -> int:
        """Vectors of so many outputs."""
        return -(-outputs // self.lanes)

    def chunk(self, channels: int) -> int:
        """Tables of a chunk: the fewest chunks of at most MAX_CHUNK, as even as can be."""
        tables = -(-channels // self.group)
        return -(-tables // -(-tables // MAX_CHUNK))

    def rows_bytes(self, channels: int, positions: int) -> int:
        """Bytes of a chunk's activations at so many positions as int16, a multiple of 64."""
        return self.chunk(channels) * self.group * (-(-positions // 32) * 32) * 2

    def scratch_bytes(self, outputs: int, channels: int, positions: int, tiles: int) -> int:
        """Bytes a part needs: rows and tables of a chunk, the totals of `tiles`, OUTPUT_BYTES."""
        totals = tiles * TILE * self.vectors(outputs) * self.lanes * 4
        tables = positions * self.chunk(channels) * TABLE_BYTES
        return self.rows_bytes(channels, positions) + tables + totals + OUTPUT_BYTES

    def pack(
        self,
        words: npt.NDArray[np.uint64],
        groups: int,
        channels: int,
        segments: list[list[int]],
    ) -> npt.NDArray[Any]:
        """Pack weights as table indices, in the order that they are read.

        Args:
            words: (groups * outputs, ceil(K / 64)) uint64, K = taps * channels, tap by tap.
            groups: Groups of channels.
            channels: Input channels of one group.
            segments: The taps of each segment.

        Returns:
            (groups, chunks of all segments and their taps, vectors, index vectors of a chunk,
            lanes) unsigned integers that fill a vector.
        """
        chunk, dtype = self.chunk(channels), np.dtype(f"<u{VECTOR_BYTES // self.lanes}")
        chunks = -(-channels // (chunk * self.group))
        taps = sum(map(len, segments))
        rows, vectors = len(words) // groups, -(-chunk // self.held)
        size = (groups, self.vectors(rows) * self.lanes, taps)
        bits = np.zeros((*size, chunks * chunk * self.group), np.uint8)
        signs = unpack(words, taps * channels).reshape(groups, rows, taps, channels)
        bits[:, :rows, :, :channels] = signs > 0
        indices = np.zeros((*size, chunks, vectors * self.held), dtype)
        tables = bits.reshape(*size, chunks, chunk, self.group)
        indices[..., :chunk] = np.packbits(tables, axis=-1, bitorder="little")[..., 0]
        lane = np.zeros((*size, chunks, vectors), dtype)
        for place in range(self.held):
            shift = np.array(place * self.group, dtype)
            lane |= indices[..., place :: self.held] << shift
        lane = lane.reshape(groups, -1, self.lanes, taps, chunks, vectors)
        order = [
            lane[:, :, :, segment].transpose(0, 4, 3, 1, 5, 2).reshape(groups, -1)
            for segment in segments
        ]
        return np.ascontiguousarray(np.concatenate(order, axis=1))


F32_LAYOUT = Layout(group=5, lanes=16, held=6, safe_tables=2**40, input_bytes=4)
I8_LAYOUT = Layout(group=6, lanes=32, held=2, safe_tables=255 // 6, input_bytes=1)
"""A table's sums are of 6 inputs within +-128; sums of 255 of them fit int16."""
