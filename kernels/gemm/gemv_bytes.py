"""GEMV of 8-bit activations by tables of bytes, for AVX2 and NEON.

Neither looks up int16 by one instruction, but both look up bytes in a table of 16 (`vpshufb`,
`tbl`), and a Cortex-A76 does in one of 32 at the same speed (`gemv_packing.py`). So the 2**g sums
of g = 4 inputs, or 5, are split into two bytes:

    +-x0 +-x1 +-x2 +-x3 = 32 * high + low,    low in 0..31,    high in -16..15 (g = 5: -20..19)

A piece of a row is 8 tables of 4 inputs or 6 of 5, as many as add up in bytes: in the first of them
high takes 4 * 32 (3 * 32) from low, so that the sum of low is signed too. The piece's 32 * high +
low is added to int16, which are exact for 64 tables (51).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv_loops import gemv_kernel, table_summer, table_writer
from bwn.kernels.gemm.gemv_packing import BYTES_LAYOUT
from bwn.kernels.simd.neon import after, hidden, load_some, registers_of, store_run
from bwn.kernels.simd.scalars import get_i8, put_i8
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import (
    I8_16,
    I8_HALF,
    I16,
    I32,
    Vec,
    at,
    call_function,
    join,
    lanes_of,
    llvm_type,
    load_at,
    offset_by,
    pick,
)
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic

LANES, GROUP, TABLES = BYTES_LAYOUT.lanes, BYTES_LAYOUT.group, BYTES_LAYOUT.tables
TABLE_BYTES = BYTES_LAYOUT.table_bytes
BLOCKS = 2
IS_NEON = "neon" in features()
OCTETS = (I8_16 if IS_NEON else I8_HALF).dtype
REGISTERS = LANES // OCTETS.lanes
EIGHT_OCTETS = Vec(types.int8, 8)
EIGHT = ir.VectorType(ir.IntType(16), 8)
STEP_BITS = 5
STEP = 1 << STEP_BITS
CARRY = TABLES // 2
# A unit is bytes whose bits are the indices of some tables: `_index` finds them, and here are the
# numbers of their inputs.
UNIT_BYTES = 1 if GROUP == 4 else 2
UNIT_TABLES = (
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    if GROUP == 4
    else [[0, 1, 2, 3, 4], [5, 6, 7, 13, 14], [8, 9, 10, 11, 12]]
)
UNIT_INPUTS = GROUP * len(UNIT_TABLES)
UNITS = TABLES // len(UNIT_TABLES)


def _constant(kind: Any, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count)


def _unit_inputs(builder: Any, address: Any) -> list[Any]:
    """Of each input of a unit, an LLVM value that has it in every lane, of int16."""
    last = UNIT_INPUTS - 8  # the second eight overlap the first: no input further is read
    first, second = (
        hidden(
            builder,
            builder.sext(load_at(builder, EIGHT_OCTETS, offset_by(builder, address, start)), EIGHT),
        )
        for start in (0, last)
    )
    places = [(first, k) if k < 8 else (second, k - last) for k in range(UNIT_INPUTS)]
    return [pick(builder, eight, [lane] * 8) for eight, lane in places]


def _sums(builder: Any, inputs: list[Any]) -> Any:
    """LLVM value of the int16 sums of a table: bit j of an index is the sign of input j."""
    eight = ir.Constant(EIGHT, None)
    for j, x in enumerate(inputs[:3]):
        signs = ir.Constant(EIGHT, [(index >> j & 1) * 2 - 1 for index in range(8)])
        eight = builder.add(eight, builder.mul(signs, x))
    sums = [eight]
    for x in inputs[3:]:
        sums = [combine(each, x) for combine in (builder.sub, builder.add) for each in sums]
    return join(builder, sums)


@intrinsic
def write_tables(kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
    """write_tables(kind, inputs, tables): the tables of a piece, first low, then high."""
    octets = ir.VectorType(ir.IntType(8), 1 << GROUP)

    def gen(builder: Any, args: Any) -> None:
        address = args[2]
        for unit in range(UNITS):
            all_inputs = _unit_inputs(builder, offset_by(builder, args[1], unit * UNIT_INPUTS))
            for table in UNIT_TABLES:
                sums = _sums(builder, [all_inputs[k] for k in table])
                low = builder.and_(builder.trunc(sums, octets), _constant(octets, STEP - 1))
                high = builder.lshr(sums, _constant(sums.type, STEP_BITS))
                high = builder.trunc(high, octets)
                if address is args[2]:
                    low = builder.sub(low, _constant(octets, CARRY * STEP))
                    high = builder.add(high, _constant(octets, CARRY))
                both = join(builder, [low, high])
                if IS_NEON:
                    store_run(builder, registers_of(builder, both), address)
                else:
                    builder.store(both, at(builder, address, both.type), align=1)
                address = offset_by(builder, address, TABLE_BYTES)

    return types.void(kind, types.intp, types.intp), gen


class Place(NamedTuple):
    """An address whose constant part LLVM makes part of an instruction.

    Attributes:
        address: LLVM value.
        start: Bytes from there.
    """

    address: Any
    start: int = 0


def _load(builder: Any, vec: Vec, place: Place, count: int) -> tuple[list[Any], Place]:
    """LLVM values of registers of bytes in a row, and the next place.

    Tables of 5 inputs need pairs of registers, which NEON loads by fours.
    """
    if GROUP == 5:
        registers, further = load_some(builder, vec, place.address, count)
        return registers, Place(further)
    starts = [place.start + i * vec.lanes for i in range(count + 1)]
    loads = [load_at(builder, vec, offset_by(builder, place.address, i)) for i in starts[:-1]]
    return loads, Place(place.address, starts[-1])


def _load_table(builder: Any, place: Place) -> tuple[list[Any], list[Any], Place]:
    """LLVM values of a table's registers of low, of those of high, and the next place."""
    registers, further = _load(builder, I8_16.dtype, place, TABLE_BYTES // 16)
    if not IS_NEON:  # each half of the indices has a table
        registers = [join(builder, [register] * 2) for register in registers]
    middle = len(registers) // 2
    return registers[:middle], registers[middle:], further


def _index(builder: Any, octets: list[Any], table: int, mask: Any) -> Any:
    """LLVM value of the indices of one of a unit's tables. mask: of their bits."""
    kind, shift = octets[0].type, ir.Constant(ir.IntType(32), 5)
    if GROUP == 4 and table == 1:
        return builder.lshr(octets[0], _constant(kind, 4))
    if GROUP == 5 and table == 1:  # three bits above those of the first byte, and two of the second
        above = builder.lshr(octets[1], _constant(kind, 3))
        name = "llvm.aarch64.neon.vsri.v16i8"
        return call_function(builder, name, kind, above, octets[0], shift)
    return builder.and_(octets[table // 2], mask)


def _added(builder: Any, totals: list[Any], table: list[Any], indices: list[Any]) -> list[Any]:
    """LLVM values of the entries at each of the indices, added to the totals where there are."""
    entries = [take_value(builder, OCTETS, table, index) for index in indices]
    return list(map(builder.add, totals, entries)) if totals else entries


def _widened(builder: Any, total: Any, low: list[Any], high: list[Any]) -> Any:
    """LLVM value of a block's int16 totals plus STEP * high + low, registers of bytes."""
    totals, steps = registers_of(builder, total), _constant(llvm_type(EIGHT_OCTETS), STEP)
    for number, some in enumerate(totals):
        lanes = range(number % 2 * 8, number % 2 * 8 + 8)
        lows, highs = (pick(builder, octets[number // 2], lanes) for octets in (low, high))
        some = builder.add(some, builder.sext(lows, EIGHT))
        more = call_function(builder, "llvm.aarch64.neon.smull.v8i16", EIGHT, highs, steps)
        totals[number] = builder.add(some, more)
    return join(builder, totals)


def _widened_by_pairs(builder: Any, total: Any, low: list[Any], high: list[Any]) -> Any:
    """The same for AVX2, in the order in which bytes of the halves of registers interleave."""
    octets, sums = llvm_type(OCTETS), ir.VectorType(ir.IntType(16), LANES // 2)
    factors = ir.Constant(octets, [1, STEP] * (LANES // 2))
    products = []
    for start in (0, 8):
        lanes = [half + lane for half in (0, 16) for lane in range(start, start + 8)]
        order = lanes_of([place for lane in lanes for place in (lane, LANES + lane)])
        pairs = builder.shuffle_vector(low[0], high[0], order)
        products.append(call_function(builder, "llvm.x86.avx2.pmadd.ub.sw", sums, factors, pairs))
    return builder.add(total, join(builder, products))


@intrinsic
def add_entries(sums: Any, tables: Any, indices: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """add_entries(sums, tables, indices, block_bytes): sums plus the entries of one piece."""

    def gen(builder: Any, args: Any) -> Any:
        places = [Place(args[2])]
        for _ in range(1, sums.count):
            places.append(Place(builder.add(places[-1].address, args[3])))
        low: list[Any] = []
        high: list[Any] = []
        table = Place(args[1])
        # Hidden: or each use makes it anew.
        mask = hidden(builder, _constant(llvm_type(OCTETS), (1 << GROUP) - 1))
        for _ in range(UNITS):
            octets = []
            for block, place in enumerate(places):
                some, places[block] = _load(builder, OCTETS, place, UNIT_BYTES * REGISTERS)
                octets += [some[i::REGISTERS] for i in range(REGISTERS)]
            for number in range(len(UNIT_TABLES)):
                lows, highs, table = _load_table(builder, table)
                found = [_index(builder, each, number, mask) for each in octets]
                low = _added(builder, low, lows, found)
                high = _added(builder, high, highs, found)
                if IS_NEON:  # or LLVM has more values at once than there are registers
                    address, both = after(builder, table.address, low + high)
                    table = Place(address, table.start)
                    low, high = both[: len(low)], both[len(low) :]
        blocks = [slice(start, start + REGISTERS) for start in range(0, len(low), REGISTERS)]
        widened = _widened if IS_NEON else _widened_by_pairs
        return [
            widened(builder, builder.extract_value(args[0], m), low[block], high[block])
            for m, block in enumerate(blocks)
        ]

    return sums(sums, types.intp, types.intp, types.intp), gen


@intrinsic
def add_to_totals(totals: Any, sums: Any) -> tuple[Any, Codegen]:
    """add_to_totals(totals, sums): add the sums to int32 totals, 32 a block, in a row."""
    order = [*range(LANES)]
    if not IS_NEON:
        order[8:16], order[16:24] = order[16:24], order[8:16]

    def gen(builder: Any, args: Any) -> None:
        wide = ir.VectorType(ir.IntType(32), LANES)
        for m in range(sums.count):
            value = builder.sext(pick(builder, builder.extract_value(args[1], m), order), wide)
            pointer = at(builder, offset_by(builder, args[0], m * LANES * 4), wide)
            builder.store(builder.add(builder.load(pointer, align=4), value), pointer, align=4)

    return types.void(types.intp, sums), gen


bytes_gemv = gemv_kernel(
    layout=BYTES_LAYOUT,
    prepare=table_writer(I16, BYTES_LAYOUT, write_tables, get_i8, put_i8),
    sum_blocks=table_summer(I16, BYTES_LAYOUT, add_entries, add_to_totals, BLOCKS),
    total_kind=I32,
    blocks_at_once=BLOCKS,
)


def i8_b1_f32_planes_bytes(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights packed by `pack_bytes`: exact sums."""
    bytes_gemv(p, begin, end, part)
