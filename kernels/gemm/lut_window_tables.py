"""Tables of `lut_window.py`: inputs are gathered from planes into lanes and summed with signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.lut_window_packing import GATHERED, REGISTER, Tile
from bwn.kernels.simd.neon import hidden, store_pair
from bwn.kernels.simd.vectors import (
    Vec,
    add,
    at,
    lanes_of,
    llvm_type,
    load_at,
    offset_by,
    pick,
    store,
    sub,
    zero,
)
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@intrinsic
def load_addresses(kind: Any, address: Any) -> tuple[Any, Codegen]:
    """load_addresses(kind, address): as many int64 as `kind` has lanes, as a tuple."""
    lanes = kind.dtype.lanes

    def gen(builder: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        return [
            builder.load(at(builder, offset_by(builder, args[1], 8 * lane), i64), align=8)
            for lane in range(lanes)
        ]

    return types.UniTuple(types.int64, lanes)(kind, types.intp), gen


def _columns_of_f32(builder: Any, addresses: list[Any]) -> list[Any]:
    """Registers of 4 neighboring float32 of 4 lanes: one a column."""
    kind = Vec(types.float32, GATHERED)
    rows = [load_at(builder, kind, address) for address in addresses]
    shuffle = builder.shuffle_vector
    low = [shuffle(rows[i], rows[i + 2], lanes_of([0, 4, 1, 5])) for i in (0, 1)]
    high = [shuffle(rows[i], rows[i + 2], lanes_of([2, 6, 3, 7])) for i in (0, 1)]
    return [
        shuffle(*half, lanes_of(order))
        for half in (low, high)
        for order in ([0, 4, 1, 5], [2, 6, 3, 7])
    ]


def _columns_of_i8(builder: Any, addresses: list[Any]) -> list[Any]:
    """Registers of 4 neighboring int8 of 8 lanes, as int16: one a column."""
    word, octets = ir.IntType(32), ir.VectorType(ir.IntType(8), 16)
    halves = []
    for start in (0, 4):
        rows = ir.Constant(ir.VectorType(word, 4), ir.Undefined)
        for lane in range(4):
            row = builder.load(at(builder, addresses[start + lane], word), align=1)
            rows = builder.insert_element(rows, row, ir.Constant(ir.IntType(32), lane))
        halves.append(builder.bitcast(rows, octets))
    wide = ir.VectorType(ir.IntType(16), 8)
    columns = []
    for pair in (0, 2):
        order = [column + 4 * lane for column in (pair, pair + 1) for lane in range(8)]
        both = builder.shuffle_vector(*halves, lanes_of(order))
        eights = (pick(builder, both, range(first, first + 8)) for first in (0, 8))
        columns += [builder.sext(eight, wide) for eight in eights]
    return columns


@intrinsic
def gather_columns(kind: Any, addresses: Any, target: Any, step: Any) -> tuple[Any, Codegen] | None:
    """gather_columns(kind, addresses, target, step): 4 neighboring inputs of all lanes.

    addresses: of each lane. target: of the first column's register; `step` bytes to the next.
    """
    if not isinstance(step, types.IntegerLiteral):
        return None
    columns_of = _columns_of_f32 if kind.dtype.element == types.float32 else _columns_of_i8

    def gen(builder: Any, args: Any) -> None:
        lanes = [builder.extract_value(args[1], lane) for lane in range(addresses.count)]
        for column, value in enumerate(columns_of(builder, lanes)):
            place = offset_by(builder, args[2], column * step.literal_value)
            builder.store(value, at(builder, place, value.type), align=16)

    return types.void(kind, addresses, types.intp, step), gen


@intrinsic
def move_on(addresses: Any, offset: Any) -> tuple[Any, Codegen]:
    """move_on(addresses, offset): all of them `offset` bytes further, hidden from LLVM."""

    def gen(builder: Any, args: Any) -> Any:
        return [
            hidden(builder, builder.add(builder.extract_value(args[0], lane), args[1]))
            for lane in range(addresses.count)
        ]

    return addresses(addresses, types.intp), gen


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
"""Inputs whose sums stay in registers: 16 of two times 8."""


def pair_writer(tile: Tile) -> Any:
    """An operation that writes two neighboring registers of all entries of a table."""

    @intrinsic
    def write_pair(kind: Any, table: Any, inputs: Any) -> tuple[Any, Codegen]:
        """write_pair(kind, table, inputs): their addresses, of the first of the two."""
        vec = kind.dtype

        def gen(builder: Any, args: Any) -> None:
            values = [
                [
                    load_at(
                        builder,
                        vec,
                        offset_by(builder, args[2], channel * tile.channel_bytes + half * REGISTER),
                    )
                    for channel in range(tile.group)
                ]
                for half in (0, 1)
            ]
            lows = [
                [hidden(builder, low) for low in _signed_sums(builder, vec, half[:LOW])]
                for half in values
            ]
            address, stride = args[1], hidden(builder, ir.Constant(ir.IntType(64), tile.stride))
            highs = [_signed_sums(builder, vec, half[LOW:]) for half in values]
            for both in zip(*highs, strict=True):
                high = [hidden(builder, each) for each in both]
                for entries in zip(*lows, strict=True):
                    pair = [add(builder, vec, *each) for each in zip(entries, high, strict=True)]
                    store_pair(builder, pair[0], pair[1], address)
                    address = hidden(builder, builder.add(address, stride))

        return types.void(kind, types.intp, types.intp), gen

    return write_pair


def table_writer(kind: Any, tile: Tile, input_bytes: int) -> Any:
    """A helper that writes the table of a group of channels around a tile."""
    group, entry_rows, step = tile.group, tile.entry_rows, tile.entry_rows * REGISTER
    channel_bytes, columns_step = tile.channel_bytes, GATHERED * tile.entry_rows * REGISTER
    write_pair = pair_writer(tile)

    @helper
    def write_table(
        f: Any, lanes: Any, offset: int, channels: int, rows: int, columns: int,
        inputs: int, table: int,
    ) -> None:  # fmt: skip
        """Write what `rows` by `columns` registers of each entry hold; the others stay.

        lanes: addresses. offset: bytes from them to the first input. channels: those that exist.
        """
        row_bytes = f.x_row * input_bytes
        for channel in range(group):
            to = inputs + channel * channel_bytes
            if channel < channels:
                first = move_on(lanes, offset + channel * f.x_plane * input_bytes)
                for column in range(0, columns, GATHERED):
                    at, places = move_on(first, column * input_bytes), to
                    for _row in range(rows):
                        gather_columns(kind, at, places, step)
                        at = move_on(at, row_bytes)
                        places += REGISTER
                    to += columns_step
            else:
                for i in range(channel_bytes // REGISTER):
                    store(to + i * REGISTER, 0, zero(kind))
        run, runs = (rows * columns, 1) if rows == entry_rows else (rows, columns)
        for column in range(runs):
            for row in range(0, run, 2):
                place = (column * entry_rows + min(row, run - 2)) * REGISTER
                write_pair(kind, table + place, inputs + place)

    return write_table
