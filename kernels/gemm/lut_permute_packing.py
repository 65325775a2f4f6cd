"""What `permute.py` reads: its fields, and packed weights laid out as table indices."""

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
MOST_CHUNK = 13
"""Groups of a chunk: for 3x3 taps the tables around a tile take 18 positions of 13 tables, 30 KB."""


class Layout(NamedTuple):
    """How one type of activations is looked up: inputs of a table, outputs of a vector, table indices of a lane."""

    group: int
    lanes: int
    held: int
    dtype: str

    def vectors(self, outputs: int) -> int:
        """Vectors of `outputs`."""
        return -(-outputs // self.lanes)

    def chunk(self, channels: int) -> int:
        """Tables of a chunk: the fewest chunks of at most MOST_CHUNK, as even as can be."""
        tables = -(-channels // self.group)
        return -(-tables // -(-tables // MOST_CHUNK))

    def room_bytes(self, channels: int, positions: int) -> int:
        """Bytes of a chunk's activations at `positions` as int16, a multiple of 64."""
        return self.chunk(channels) * self.group * (-(-positions // 32) * 32) * 2

    def scratch_bytes(self, outputs: int, channels: int, positions: int, tiles: int) -> int:
        """Scratch that a part needs: a chunk's activations and tables, the totals of `tiles`, OUTPUT_BYTES."""
        totals = tiles * TILE * self.vectors(outputs) * self.lanes * 4
        tables = positions * self.chunk(channels) * TABLE_BYTES
        return self.room_bytes(channels, positions) + tables + totals + OUTPUT_BYTES


F32_LAYOUT = Layout(5, 16, 6, "<u4")
I8_LAYOUT = Layout(6, 32, 2, "<u2")


def prepare(
    layout: Layout,
    words: npt.NDArray[np.uint64],
    groups: int,
    channels: int,
    segments: list[list[int]],
) -> npt.NDArray[Any]:
    """Table indices of packed weights, in the order that they are read.

    words: (groups * outputs, ceil(K / 64)) uint64, K = taps * channels, tap by tap. segments: the taps of each segment.
    Returns (groups, chunks of all segments and their taps, vectors, index vectors of a chunk, lanes).
    """
    size, chunk = layout.group, layout.chunk(channels)
    chunks = -(-channels // (chunk * size))
    taps = sum(map(len, segments))
    rows, held = len(words) // groups, -(-chunk // layout.held)
    signs = np.zeros(
        (groups, layout.vectors(rows) * layout.lanes, taps, chunks * chunk * size), np.uint8
    )
    signs[:, :rows, :, :channels] = (
        unpack(words, taps * channels).reshape(groups, rows, taps, channels) > 0
    )
    picks = np.zeros((*signs.shape[:3], chunks, held * layout.held), layout.dtype)
    tables = signs.reshape(*signs.shape[:3], chunks, chunk, size)
    picks[..., :chunk] = np.packbits(tables, axis=-1, bitorder="little")[..., 0]
    lane = np.zeros((*picks.shape[:4], held), layout.dtype)
    for number in range(layout.held):
        lane |= picks[..., number :: layout.held] << np.array(number * size, layout.dtype)
    lane = lane.reshape(groups, -1, layout.lanes, taps, chunks, held)
    order = [
        lane[:, :, :, taps_of].transpose(0, 4, 3, 1, 5, 2).reshape(groups, -1)
        for taps_of in segments
    ]
    return np.ascontiguousarray(np.concatenate(order, axis=1))


def in_a_row(
    layout: Layout,
    words: npt.NDArray[np.uint64],
    groups: int,
    channels: int,
    taps: int,
    positions: int,
    end: int,
    band: int,
) -> tuple[dict[str, int], tuple[npt.NDArray[Any], ...]]:
    """Fields of a product whose taps are neighbours in a row, and the arrays they point to: for tests and measurements.

    words: (groups * outputs, ceil(taps * channels / 64)) uint64. end: the plane's end, from position 0. band: blocks of
    a unit.
    """
    indices = prepare(layout, words, groups, channels, [list(range(taps))])
    starts = np.array([*range(0, positions, TILE), end])
    ends, shifts = np.array([0, taps]), np.arange(taps, dtype=np.int64)
    fields = {
        "x_segment": 0, "channels": channels, "chunk": layout.chunk(channels), "segments": 1, "taps": ends.ctypes.data,
        "shifts": shifts.ctypes.data, "min_shift": 0, "max_shift": taps - 1, "indices": indices.ctypes.data,
        "index_group": indices[0].nbytes, "starts": starts.ctypes.data, "blocks": len(starts) - 1, "band": band,
        "rows_bytes": layout.room_bytes(channels, band * TILE + taps - 1),
    }  # fmt: skip
    return fields, (indices, starts, ends, shifts)
