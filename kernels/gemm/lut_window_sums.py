"""Sums of `lut_window.py`: the outputs of a tile, looked up in the table of a group of channels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.lut import WIDER
from bwn.kernels.gemm.lut_window_packing import REGISTER, Tile
from bwn.kernels.simd.neon import hidden, opaque
from bwn.kernels.simd.scalars import get_u64
from bwn.kernels.simd.vectors import (
    Vec,
    add,
    at,
    lanes_of,
    llvm_type,
    load_at,
    offset_by,
    splat_value,
    zeros,
)
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@intrinsic
def hide(address: Any) -> tuple[Any, Codegen]:
    """hide(address): the same, of which LLVM does not know that it is a sum to make anew."""

    def gen(builder: Any, args: Any) -> Any:
        return opaque(builder, args[0])

    return types.int64(types.int64), gen


@intrinsic
def hide_factor(number: Any) -> tuple[Any, Codegen]:
    """hide_factor(number): the same; NEON then multiplies by it, not by a shift and additions."""

    def gen(builder: Any, args: Any) -> Any:
        return hidden(builder, args[0])

    return types.int64(types.int64), gen


@intrinsic
def load_sums(sums: Any, address: Any) -> tuple[Any, Codegen]:
    """load_sums(sums, address): registers in a row, as many as sums."""

    def gen(builder: Any, args: Any) -> Any:
        return [
            load_at(builder, sums.dtype, offset_by(builder, args[1], i * REGISTER))
            for i in range(sums.count)
        ]

    return sums(sums, types.intp), gen


@intrinsic
def store_sums(address: Any, sums: Any) -> tuple[Any, Codegen]:
    """store_sums(address, sums): registers in a row."""

    def gen(builder: Any, args: Any) -> None:
        for i in range(sums.count):
            value = builder.extract_value(args[1], i)
            place = offset_by(builder, args[0], i * REGISTER)
            builder.store(value, at(builder, place, value.type), align=16)

    return types.void(types.intp, sums), gen


@intrinsic
def widen_sums(address: Any, sums: Any, first: Any) -> tuple[Any, Codegen]:
    """widen_sums(address, sums, first): add int16 to the int32 totals at an address; the first
    replace them.
    """
    wide = Vec(WIDER[sums.dtype.element], sums.dtype.lanes)
    kind = llvm_type(wide)
    size = wide.lanes * 4

    def gen(builder: Any, args: Any) -> None:
        values = [builder.sext(builder.extract_value(args[1], i), kind) for i in range(sums.count)]
        places = [
            at(builder, offset_by(builder, args[0], i * size), kind) for i in range(sums.count)
        ]
        with builder.if_else(builder.trunc(args[2], ir.IntType(1))) as (then, otherwise):
            with then:
                for value, place in zip(values, places, strict=True):
                    builder.store(value, place, align=16)
            with otherwise:
                for value, place in zip(values, places, strict=True):
                    total = builder.add(builder.load(place, align=16), value)
                    builder.store(total, place, align=16)

    return types.void(types.intp, sums, types.int64), gen


def entry_adder(tile: Tile, rows: int, columns: int) -> Any:
    """An operation that adds what the taps of a rectangle look up."""

    @intrinsic
    def add_entries(sums: Any, table: Any, stride: Any, word: Any) -> tuple[Any, Codegen]:
        """add_entries(sums, table, stride, word): plus the entries that a word names."""
        vec = sums.dtype

        def gen(builder: Any, args: Any) -> Any:
            i64 = ir.IntType(64)
            totals = [builder.extract_value(args[0], i) for i in range(sums.count)]
            for tap in range(rows * columns):
                y, x = divmod(tap, columns)
                index = builder.lshr(args[3], ir.Constant(i64, tap * tile.group))
                index = builder.and_(index, ir.Constant(i64, (1 << tile.group) - 1))
                entry = hidden(builder, builder.add(args[1], builder.mul(index, args[2])))
                for i in range(sums.count):
                    column, row = divmod(i, tile.rows)
                    register = (x + column) * tile.entry_rows + y + row
                    value = load_at(builder, vec, offset_by(builder, entry, register * REGISTER))
                    totals[i] = hidden(builder, add(builder, vec, totals[i], value))
            return totals

        return sums(sums, types.intp, types.intp, types.uint64), gen

    return add_entries


def rectangle_summer(kind: Any, tile: Tile, rows: int, columns: int) -> Any:
    """A helper that adds a group of channels to the sums of `count` outputs."""
    add_entries, registers, stride = entry_adder(tile, rows, columns), tile.registers, tile.stride
    sum_bytes, wide_bytes = registers * REGISTER, registers * tile.lanes * tile.wide_bytes

    @helper
    def sum_first(table: int, words: int, count: int, totals: int) -> None:
        table, step = hide(table), hide_factor(stride)
        for n in range(count):
            sums = add_entries(zeros(kind, registers), table, step, get_u64(words, n))
            store_sums(totals, sums)
            totals += sum_bytes

    @helper
    def sum_more(table: int, words: int, count: int, totals: int) -> None:
        table, step = hide(table), hide_factor(stride)
        for n in range(count):
            sums = load_sums(zeros(kind, registers), totals)
            sums = add_entries(sums, table, step, get_u64(words, n))
            store_sums(totals, sums)
            totals += sum_bytes

    @helper
    def sum_wide(table: int, words: int, count: int, totals: int, wide: int, begins: int) -> None:
        table, step = hide(table), hide_factor(stride)
        for n in range(count):
            sums = load_sums(zeros(kind, registers), totals)
            sums = add_entries(sums, table, step, get_u64(words, n))
            widen_sums(wide, sums, begins)
            totals += sum_bytes
            wide += wide_bytes

    @helper
    def sum_rectangle(
        table: int, words: int, count: int, totals: int, wide: int, first: bool, widens: int
    ) -> None:
        """first: whether sums start at zero. widens: 1 where they are then added to wide totals, 2
        where these begin with them; never at the first.
        """
        if first:
            sum_first(table, words, count, totals)
        elif wide_bytes and widens:
            sum_wide(table, words, count, totals, wide, widens >> 1)
        else:
            sum_more(table, words, count, totals)

    return sum_rectangle


def widener(kind: Any, tile: Tile) -> Any:
    """A helper that widens sums as they are."""
    registers = tile.registers
    sum_bytes, wide_bytes = registers * REGISTER, registers * tile.lanes * tile.wide_bytes

    @helper
    def widen(count: int, totals: int, wide: int, begins: int) -> None:
        if wide_bytes:
            for _n in range(count):
                widen_sums(wide, load_sums(zeros(kind, registers), totals), begins)
                totals += sum_bytes
                wide += wide_bytes

    return widen


def sums_writer(kind: Any, tile: Tile) -> Any:
    """An operation that writes the totals of an output channel row by row, as float32."""

    @intrinsic
    def write_sums(kind: Any, rows: Any, totals: Any, correction: Any) -> tuple[Any, Codegen]:
        """write_sums(kind, rows, totals, correction): plus the correction; addresses of both."""
        lanes = tile.lanes
        total = Vec(types.int32 if tile.wide_bytes else types.float32, lanes)
        floats = Vec(types.float32, lanes)

        def gen(builder: Any, args: Any) -> None:
            more = splat_value(builder, floats, args[3])
            for row in range(tile.rows):
                values = []
                for column in range(tile.columns):
                    place = (column * tile.rows + row) * lanes * 4
                    value = load_at(builder, total, offset_by(builder, args[2], place))
                    if tile.wide_bytes:
                        value = builder.sitofp(value, llvm_type(floats))
                        value = builder.fadd(value, more)
                    values.append(value)
                joined = values[0]
                if tile.columns == 2:
                    order = [lane + half * lanes for lane in range(lanes) for half in (0, 1)]
                    joined = builder.shuffle_vector(*values, lanes_of(order))
                place = offset_by(builder, args[1], row * tile.row_outputs * 4)
                builder.store(joined, at(builder, place, joined.type), align=16)

        return types.void(kind, types.intp, types.intp, types.float32), gen

    return write_sums
