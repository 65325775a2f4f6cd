"""Sums of `lut_window.py`: the outputs of a tile, looked up in the table of a group of channels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.lut import WIDER
from bwn.kernels.gemm.lut_window_packing import REGISTER, Tile
from bwn.kernels.simd.neon import (
    MOST,
    after,
    hidden,
    load_run,
    load_some,
    opaque,
    store_run,
)
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
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, helper, intrinsic, outlined, stay_outlined

RUNS = "neon" in features()
"""Whether one instruction loads up to four registers in a row."""


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
        if RUNS:
            return load_run(builder, sums.dtype, args[1], sums.count)
        return [
            load_at(builder, sums.dtype, offset_by(builder, args[1], i * REGISTER))
            for i in range(sums.count)
        ]

    return sums(sums, types.intp), gen


@intrinsic
def store_sums(address: Any, sums: Any) -> tuple[Any, Codegen]:
    """store_sums(address, sums): registers in a row."""

    def gen(builder: Any, args: Any) -> None:
        if RUNS:
            values = [builder.extract_value(args[1], i) for i in range(sums.count)]
            store_run(builder, values, args[0])
            return
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


def tap_finder(tile: Tile, rows: int, columns: int) -> Any:
    """An operation that finds where the taps of a rectangle begin to read an entry."""
    starts = [
        (x * tile.entry_rows + y) * REGISTER
        for y, x in tile.reads(rows, columns)[: None if RUNS else 1]
    ]
    across = (tile.entry_rows - (tile.rows - 1) // MOST * MOST) * REGISTER

    @intrinsic
    def find_taps(table: Any) -> tuple[Any, Codegen]:
        """find_taps(table): where each tap begins to read the first entry, and the bytes from the
        last load of a column to the next column; where loads have offsets, the entry.
        """

        def gen(builder: Any, args: Any) -> Any:
            places = [offset_by(builder, args[0], start) for start in starts]
            step = ir.Constant(ir.IntType(64), across)
            # Else LLVM makes them anew for every output.
            return [opaque(builder, number) for number in (*places, step)]

        return types.UniTuple(types.int64, len(starts) + 1)(types.int64), gen

    return find_taps


def entry_adder(tile: Tile, rows: int, columns: int) -> Any:
    """An operation that adds what the taps of a rectangle look up."""
    reads, ahead = tile.reads(rows, columns), 2 if tile.registers <= 8 else 3
    runs = [
        (first, min(first + MOST, column + tile.rows))
        for column in range(0, tile.registers, tile.rows)
        for first in range(column, column + tile.rows, MOST)
    ]

    def find_entry(builder: Any, start: Any, stride: Any, word: Any, tap: int) -> Any:
        """The address at which a tap's entry is read."""
        i64 = ir.IntType(64)
        index = builder.lshr(word, ir.Constant(i64, tap * tile.group))
        index = builder.and_(index, ir.Constant(i64, (1 << tile.group) - 1))
        return builder.add(start, builder.mul(index, stride))

    def add_by_offsets(
        builder: Any, vec: Vec, totals: list[Any], starts: Any, stride: Any, word: Any
    ) -> None:
        """Loads at offsets from each entry."""
        start = builder.extract_value(starts, 0)
        for tap, (y, x) in enumerate(reads):
            entry = find_entry(builder, start, stride, word, tap)
            for i in range(tile.registers):
                column, row = divmod(i, tile.rows)
                register = (x + column) * tile.entry_rows + y + row
                value = load_at(builder, vec, offset_by(builder, entry, register * REGISTER))
                totals[i] = add(builder, vec, totals[i], value)

    def add_by_runs(
        builder: Any, vec: Vec, totals: list[Any], starts: Any, stride: Any, word: Any
    ) -> None:
        """Loads of up to MOST registers, each of which moves the address to the next."""
        done: list[tuple[int, int]] = []
        across = builder.extract_value(starts, len(reads))

        def in_turn(number: Any) -> Any:
            """The same, known when the run `ahead` runs before is added: LLVM would load more than
            32 registers hold. Each sum keeps its register, or runs would find no room in a row."""
            if len(done) < ahead:
                return number
            first, stop = done[-ahead]
            registers = range(first + 32 - tile.registers, stop + 32 - tile.registers)
            number, totals[first:stop] = after(builder, number, totals[first:stop], registers)
            return number

        for tap in range(len(reads)):
            word = in_turn(word)
            place = find_entry(builder, builder.extract_value(starts, tap), stride, word, tap)
            for first, stop in runs:
                step = across if stop % tile.rows == 0 else None
                values, place = load_some(builder, vec, place, stop - first, step)
                place = in_turn(place)
                for i, value in enumerate(values, first):
                    totals[i] = add(builder, vec, totals[i], value)
                done.append((first, stop))

    @intrinsic
    def add_entries(sums: Any, starts: Any, stride: Any, word: Any) -> tuple[Any, Codegen]:
        """add_entries(sums, starts, stride, word): plus the entries that a word names.

        starts: from `find_taps`.
        """

        def gen(builder: Any, args: Any) -> Any:
            totals = [builder.extract_value(args[0], i) for i in range(sums.count)]
            (add_by_runs if RUNS else add_by_offsets)(builder, sums.dtype, totals, *args[1:])
            return totals

        return sums(sums, starts, types.intp, types.uint64), gen

    return add_entries


def rectangle_summer(kind: Any, tile: Tile, rows: int, columns: int) -> Any:
    """A helper that adds a group of channels to the sums of `count` outputs."""
    add_entries, registers, stride = entry_adder(tile, rows, columns), tile.registers, tile.stride
    find_taps = tap_finder(tile, rows, columns)
    tag = "_".join(map(str, (*tile, rows, columns)))
    sum_bytes, wide_bytes = registers * REGISTER, registers * tile.lanes * tile.wide_bytes

    @outlined(tag)
    def sum_first(table: int, words: int, count: int, totals: int) -> None:
        stay_outlined()
        starts, step = find_taps(table), hide_factor(stride)
        for n in range(count):
            sums = add_entries(zeros(kind, registers), starts, step, get_u64(words, n))
            store_sums(totals, sums)
            totals += sum_bytes

    @outlined(tag)
    def sum_more(table: int, words: int, count: int, totals: int) -> None:
        stay_outlined()
        starts, step = find_taps(table), hide_factor(stride)
        for n in range(count):
            sums = load_sums(zeros(kind, registers), totals)
            sums = add_entries(sums, starts, step, get_u64(words, n))
            store_sums(totals, sums)
            totals += sum_bytes

    @outlined(tag)
    def sum_wide(table: int, words: int, count: int, totals: int, wide: int, begins: int) -> None:
        stay_outlined()
        starts, step = find_taps(table), hide_factor(stride)
        for n in range(count):
            sums = load_sums(zeros(kind, registers), totals)
            sums = add_entries(sums, starts, step, get_u64(words, n))
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
