"""What all GEMV kernels share: loops over images, groups, positions and blocks of channels.

`gemv_kernel` makes a kernel of what differs: how the inputs of a position are prepared, and how
blocks of channels are summed. Kernels that look up entries of tables make those by `table_writer`
and `table_summer`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from bwn.kernels.gemm.epilogue import (
    fill_padding,
    gemm_params,
    is_alone,
    out_plane,
    write_channels,
    write_one,
    x_scale_at,
)
from bwn.kernels.gemm.gemv_packing import TOTALS_BYTES, GemvLayout
from bwn.kernels.simd.arithmetic import to_float
from bwn.kernels.simd.scalars import gather, get_f32, get_i32
from bwn.kernels.simd.stores import clear
from bwn.kernels.simd.vectors import F32, get, load, zeros
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.jit import helper


class Prepare(Protocol):
    """What is done for a position before its channels are summed."""

    def __call__(self, f: Any, x: int, scratch: int) -> None:
        """Write to scratch what channels share of the position whose inputs start at x."""


class SumBlocks(Protocol):
    """What sums blocks of channels at a position."""

    def __call__(self, f: Any, block: int, several: bool, scratch: int, totals: int) -> None:
        """Write the totals of several blocks from `block` on, or of one. scratch: as prepared."""


@helper
def pieces_of(layout: Any, row_words: int) -> int:
    """Pieces of a row of weights."""
    return (row_words * 64 + layout.group * layout.tables - 1) // (layout.group * layout.tables)


def table_writer(kind: Any, layout: GemvLayout, write_tables: Any, get: Any, put: Any) -> Prepare:
    """The `Prepare` of a kernel that looks up: gathers the inputs behind the tables, writes those.

    Args:
        kind: Of the sums.
        layout: Of the tables.
        write_tables: (kind, inputs, tables): writes the tables of one piece.
        get: Reads an input.
        put: Writes an input.
    """

    @helper
    def prepare(f: Any, x: int, scratch: int) -> None:
        pieces, piece_inputs = pieces_of(layout, f.row_words), layout.group * layout.tables
        inputs = scratch + pieces * layout.tables * layout.table_bytes
        gather(get, put, x, f.offsets, f.depth, pieces * piece_inputs, inputs)
        for piece in range(pieces):
            write_tables(
                kind,
                inputs + piece * piece_inputs * layout.input_bytes,
                scratch + piece * layout.tables * layout.table_bytes,
            )

    return prepare


def table_summer(
    kind: Any, layout: GemvLayout, add_entries: Any, add_to_totals: Any, blocks: int, sums: int = 1
) -> SumBlocks:
    """The `SumBlocks` of a kernel that looks up.

    Args:
        kind: Of the sums.
        layout: Of the tables.
        add_entries: (sums, tables, indices, block_bytes): sums plus the entries of one piece.
        add_to_totals: (totals, sums): adds to the totals at an address.
        blocks: Blocks of channels that are summed at once.
        sums: Of a block.
    """
    most = blocks * sums

    @helper
    def sum_pieces(sums_zero: Any, tables: int, indices: int, pieces: int, totals: int) -> None:
        for start in range(0, pieces, layout.safe_pieces):
            sums = sums_zero
            for piece in range(start, min(start + layout.safe_pieces, pieces)):
                table = tables + piece * layout.tables * layout.table_bytes
                piece_indices = indices + piece * layout.register_bytes
                sums = add_entries(sums, table, piece_indices, pieces * layout.register_bytes)
            add_to_totals(totals, sums)

    @helper
    def sum_blocks(f: Any, block: int, several: bool, scratch: int, totals: int) -> None:
        pieces = pieces_of(layout, f.row_words)
        indices = f.words + block * pieces * layout.register_bytes
        clear(totals, blocks * layout.lanes)
        if several:
            sum_pieces(zeros(kind, most), scratch, indices, pieces, totals)
        else:
            sum_pieces(zeros(kind, sums), scratch, indices, pieces, totals)

    return sum_blocks


@helper
def write_range(
    f: Any,
    total_kind: Any,
    totals: int,
    image: int,
    first: int,
    last: int,
    position: int,
    x_scale: Any,
) -> None:
    """Write outputs first..last-1 of a position. totals: the first's address, of `total_kind`."""
    if last - first < LANES:
        for n in range(first, last):
            total = np.float32(get(total_kind, totals, n - first)) + get_f32(f.correction, n)
            write_one(f, total, image, n, position, x_scale)
    else:
        for start in range(first, last, LANES):
            n = min(start, last - LANES)  # the last may overlap those before, with equal results
            sums = to_float(load(total_kind, totals, n - first)) + load(F32, f.correction, n)
            write_channels(f, sums, image, n, position, x_scale)


def channel_writer(
    layout: GemvLayout, sum_blocks: SumBlocks, total_kind: Any, blocks_at_once: int
) -> Any:
    """A helper that computes channels of one position. The arguments are those of `gemv_kernel`."""

    @helper
    def sum_and_write(
        f: Any, image: int, first: int, last: int, position: int, scratch: int, totals: int
    ) -> None:
        """Channels first..last-1 of one position; at position 0 their planes are cleared first."""
        end_block = (last + layout.lanes - 1) // layout.lanes
        step = blocks_at_once if end_block - first // layout.lanes >= blocks_at_once else 1
        is_output = get_i32(f.mask, position) != 0
        x_scale = x_scale_at(f, image, position)
        for start_block in range(first // layout.lanes, end_block, step):
            block = min(start_block, end_block - step)  # the last may overlap those before
            start = max(first, block * layout.lanes)
            end = min(last, (block + step) * layout.lanes)
            if is_output:
                sum_blocks(f, block, step > 1, scratch, totals)
            whole = is_output and is_alone(f) and end - start >= LANES  # written with their padding
            if position == 0 and not whole:
                fill_padding(f, out_plane(f, image, start), 0, (end - start) * f.out_plane)
            if is_output:
                sums = totals + (start - block * layout.lanes) * 4
                write_range(f, total_kind, sums, image, start, end, position, x_scale)

    return sum_and_write


def gemv_kernel(
    layout: GemvLayout,
    prepare: Prepare,
    sum_blocks: SumBlocks,
    total_kind: Any,
    blocks_at_once: int,
) -> Any:
    """A GEMV: a helper that computes output channels begin..end-1, over all images and positions.

    Args:
        layout: Of the weights: channels of a block, bytes of an input.
        prepare: Of a position, before its channels are summed.
        sum_blocks: Of `blocks_at_once` blocks of channels, or of one.
        total_kind: Of the totals that it writes, F32 or I32.
        blocks_at_once: Where a group has so many.
    """
    sum_and_write = channel_writer(layout, sum_blocks, total_kind, blocks_at_once)

    @helper
    def gemv(p: int, begin: int, end: int, part: int) -> None:
        f = gemm_params(p)
        totals = f.scratch + part * f.scratch_part
        scratch = totals + TOTALS_BYTES
        for image in range(f.images):
            for group in range(begin // f.outputs, (end + f.outputs - 1) // f.outputs):
                first, last = max(begin, group * f.outputs), min(end, (group + 1) * f.outputs)
                for position in range(f.positions):
                    if get_i32(f.mask, position) != 0:
                        offset = image * f.x_image + group * f.x_group + position
                        prepare(f, f.x + offset * layout.input_bytes, scratch)
                    sum_and_write(f, image, first, last, position, scratch, totals)

    return gemv
