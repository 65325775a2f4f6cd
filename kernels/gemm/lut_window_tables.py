"""Tables of `lut_window.py`: inputs are copied from planes into lanes and summed with signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.lut_window_packing import REGISTER, RUN_FIELDS, Tile
from bwn.kernels.simd.neon import after, hidden, store_pair
from bwn.kernels.simd.scalars import get_i64
from bwn.kernels.simd.vectors import (
    Vec,
    add,
    at,
    llvm_type,
    load_at,
    offset_by,
    pick,
    splat_value,
    store,
    sub,
    zero,
)
from bwn.kernels.target.jit import Codegen, helper, intrinsic


def lanes_writer(tile: Tile) -> Any:
    """An operation that writes a row of inputs of some neighboring blocks, by columns."""
    columns = tile.columns

    def column_of(builder: Any, line: Any, vec: Vec, column: int) -> Any:
        if vec.element == types.float32:
            return pick(builder, line, range(column, tile.row_outputs, columns))
        if columns == 1:
            return builder.sext(line, llvm_type(vec))
        by = splat_value(builder, vec, ir.Constant(ir.IntType(16), 8))
        pairs = builder.bitcast(line, llvm_type(vec))  # the first of two columns is the low byte
        return builder.ashr(pairs if column else builder.shl(pairs, by), by)

    @intrinsic
    def write_lanes(kind: Any, to: Any, first: Any) -> tuple[Any, Codegen]:
        """write_lanes(kind, to, first): whole registers, from the address of the first input."""
        vec = kind.dtype
        stored = types.float32 if vec.element == types.float32 else types.int8

        def gen(builder: Any, args: Any) -> None:
            line = load_at(builder, Vec(stored, tile.row_outputs), args[2])
            for column in range(columns):
                value = column_of(builder, line, vec, column)
                place = offset_by(builder, args[1], column * tile.input_column)
                builder.store(value, at(builder, place, value.type), align=1)

        return types.void(kind, types.intp, types.intp), gen

    return write_lanes


def _signed_sums(builder: Any, vec: Vec, values: list[Any]) -> Iterator[Any]:
    """The sums +-v0 +-v1 ...: bit j of a sum's number is the sign of v[j].

    No number is doubled, so infinity and what is near it stay right.
    """
    zeros = ir.Constant(llvm_type(vec), None)
    first, *rest = values
    if not rest:
        yield (
            sub(builder, vec, zeros, first) if vec.element != types.float32 else builder.fneg(first)
        )
        yield first
    elif len(rest) == 1:
        both = add(builder, vec, first, rest[0])
        yield sub(builder, vec, zeros, both) if vec.element != types.float32 else builder.fneg(both)
        yield sub(builder, vec, first, rest[0])
        yield sub(builder, vec, rest[0], first)
        yield both
    else:
        for others in _signed_sums(builder, vec, rest):
            yield sub(builder, vec, others, first)
            yield add(builder, vec, others, first)


LOW = 3
"""Inputs whose sums stay in registers: 8 of each register of an entry that is written at once."""
TOGETHER = 2 if REGISTER == 16 else 1
"""Those, which take 16 registers of 32 of NEON, 8 of 16 of AVX2."""


def entry_writer(tile: Tile) -> Any:
    """An operation that writes TOGETHER neighboring registers of all entries of a table."""

    @intrinsic
    def write_entries(kind: Any, table: Any, inputs: Any) -> tuple[Any, Codegen]:
        """write_entries(kind, table, inputs): their addresses, of the first register."""
        vec = kind.dtype

        def gen(builder: Any, args: Any) -> None:
            values = [
                [
                    load_at(
                        builder,
                        vec,
                        offset_by(builder, args[2], channel * tile.channel_bytes + i * REGISTER),
                    )
                    for channel in range(tile.group)
                ]
                for i in range(TOGETHER)
            ]
            lows = [
                [hidden(builder, low) for low in _signed_sums(builder, vec, each[:LOW])]
                for each in values
            ]
            address, stride = args[1], hidden(builder, ir.Constant(ir.IntType(64), tile.stride))
            highs = [_signed_sums(builder, vec, each[LOW:]) for each in values]
            for some in zip(*highs, strict=True):
                high = [hidden(builder, each) for each in some]
                for entries in zip(*lows, strict=True):
                    sums = [add(builder, vec, *each) for each in zip(entries, high, strict=True)]
                    if TOGETHER == 2:
                        store_pair(builder, sums[0], sums[1], address)
                        # No sum before the store ahead of it: they would not fit the registers.
                        address = builder.add(address, stride)
                        address, high = after(builder, address, high)
                    else:
                        builder.store(sums[0], at(builder, address, sums[0].type), align=REGISTER)
                        address = builder.add(address, stride)

        return types.void(kind, types.intp, types.intp), gen

    return write_entries


def input_writer(kind: Any, tile: Tile) -> Any:
    """A helper that writes what all positions around a tile read of a channel."""
    input_bytes, input_column, together = tile.input_bytes, tile.input_column, tile.columns
    run_bytes, lane_bytes = RUN_FIELDS * 8, REGISTER // tile.lanes
    write_lanes = lanes_writer(tile)

    @helper
    def write_inputs(
        f: Any, runs: int, count: int, offset: int, rows: int, columns: int, inputs: int
    ) -> None:
        """count: of the runs. offset: bytes from what they read first to the first input.

        A run writes registers up to their end and past it, where the next is then written.
        """
        first, end = get_i64(runs, 5), runs + count * run_bytes
        for column in range(0, columns, together):
            to, at = inputs + column * input_column, offset + column * input_bytes
            for _row in range(rows):
                write_lanes(kind, to, first + at)
                for run in range(runs + run_bytes, end, run_bytes):
                    lane = get_i64(run, 2) // together
                    write_lanes(kind, to + lane * lane_bytes, get_i64(run, 5) + at)
                to += REGISTER
                at += f.x_row * input_bytes

    return write_inputs


def table_writer(kind: Any, tile: Tile) -> Any:
    """A helper that writes the table of a group of channels around a tile."""
    group, entry_rows, channel_bytes = tile.group, tile.entry_rows, tile.channel_bytes
    input_column, side_by_side = tile.input_column, tile.input_column == entry_rows * REGISTER
    inputs_at, table_at, input_bytes = tile.inputs_at, tile.table_at, tile.input_bytes
    write_inputs, write_entries = input_writer(kind, tile), entry_writer(tile)

    @helper
    def write_table(
        f: Any, scratch: int, runs: int, offset: int, channels: int, groups: int, rows: int,
        columns: int,
    ) -> None:  # fmt: skip
        """Write what `rows` by `columns` registers of each entry hold, for each group of channels
        in columns of its own; the others stay.

        scratch: address of the runs, so many, and of all else. offset: bytes from what they read
        first to the first input. channels: those that exist.
        """
        inputs, table = scratch + inputs_at, scratch + table_at
        for channel in range(group * groups):
            to = inputs + channel % group * channel_bytes
            to += channel // group * columns * input_column
            if channel < channels:
                at = offset + channel * f.x_plane * input_bytes
                write_inputs(f, scratch, runs, at, rows, columns, to)
            else:
                for i in range(columns * input_column // REGISTER):
                    store(to + i * REGISTER, 0, zero(kind))
        whole = side_by_side and rows == entry_rows
        count, length = (1, rows * columns) if whole else (columns * groups, rows)
        for column in range(count):
            for row in range(0, length, TOGETHER):
                at = min(row, length - TOGETHER) * REGISTER
                entry = table + column * (entry_rows * REGISTER) + at
                write_entries(kind, entry, inputs + column * input_column + at)

    return write_table
