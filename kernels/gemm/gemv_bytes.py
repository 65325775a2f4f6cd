"""GEMV of 8-bit activations by tables of bytes, for AVX2 and NEON.

Neither looks up int16 by one instruction, but both look up bytes in a table of 16 (`vpshufb`,
`tbl`). So 4 inputs make 16 entries v within +-508, in two tables: v = 256 * high + low, with high
in -2..1 and low in 0..255.

- high is summed in int8: 64 tables add at most -128.
- low is summed as pairs of bytes, in uint16 that wrap, and the odd byte of each pair once more on
  its own, shifted down: the even byte's sum is what is left. Both sums of 64 tables fit.

The sum of 64 tables, within 64 * 508, fits an int16, in which it is put together: exact.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv import signed_sums
from bwn.kernels.gemm.gemv_loops import gemv_kernel, table_summer, table_writer
from bwn.kernels.gemm.gemv_packing import BYTES_LAYOUT
from bwn.kernels.simd.neon import by_register
from bwn.kernels.simd.scalars import get_i8, put_i8
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import (
    I8_16,
    I8_HALF,
    I32,
    Vec,
    at,
    join,
    lanes_of,
    llvm_type,
    load_at,
    offset_by,
)
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic

LANES, GROUP, TABLES = BYTES_LAYOUT.lanes, BYTES_LAYOUT.group, BYTES_LAYOUT.tables
TABLE_BYTES = BYTES_LAYOUT.table_bytes
BLOCKS = 2
SUMS = 3
"""Of each block: low pairs, low odd bytes, high."""
OCTETS = I8_16.dtype
SHORTS = ir.VectorType(ir.IntType(16), 16)


@intrinsic
def write_tables(kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
    """write_tables(kind, inputs, tables): both bytes of the entries of 2 tables, of 8 int8."""
    vec = Vec(types.int16, 16)

    def gen(builder: Any, args: Any) -> None:
        half = ir.VectorType(ir.IntType(8), 16)
        for table in range(TABLES):
            address = offset_by(builder, args[1], table * GROUP)
            entries = signed_sums(builder, vec, address, BYTES_LAYOUT)
            high = builder.lshr(entries, ir.Constant(SHORTS, [8] * 16))
            for number, value in enumerate((entries, high)):
                address = offset_by(builder, args[2], table * TABLE_BYTES + number * 16)
                builder.store(builder.trunc(value, half), at(builder, address, half), align=1)

    return types.void(kind, types.intp, types.intp), gen


def _take_bytes(builder: Any, table: Any, indices: Any) -> Any:
    """LLVM value of the bytes at 32 indices of 0..15. table: 16 bytes."""
    if "neon" in features():
        return by_register(
            builder, indices, lambda part: take_value(builder, OCTETS, [table], part)
        )
    return take_value(builder, I8_HALF.dtype, [join(builder, [table, table])], indices)


@intrinsic
def add_entries(sums: Any, tables: Any, indices: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """add_entries(sums, tables, indices, block_bytes): sums plus the entries that bytes name."""
    vec = sums.dtype

    def gen(builder: Any, args: Any) -> Any:
        kind = llvm_type(vec)
        eight = ir.Constant(SHORTS, [8] * 16)
        address, totals = args[2], []
        for m in range(0, sums.count, SUMS):
            pairs, odd, high = (builder.extract_value(args[0], m + i) for i in range(SUMS))
            pair = load_at(builder, vec, address)
            for table in range(TABLES):
                index = builder.lshr(pair, ir.Constant(kind, [GROUP * table] * LANES))
                index = builder.and_(index, ir.Constant(kind, [15] * LANES))
                low_table, high_table = (
                    load_at(
                        builder, OCTETS, offset_by(builder, args[1], table * TABLE_BYTES + half)
                    )
                    for half in (0, 16)
                )
                low = builder.bitcast(_take_bytes(builder, low_table, index), SHORTS)
                pairs = builder.bitcast(builder.add(builder.bitcast(pairs, SHORTS), low), kind)
                more_odd = builder.add(builder.bitcast(odd, SHORTS), builder.lshr(low, eight))
                odd = builder.bitcast(more_odd, kind)
                high = builder.add(high, _take_bytes(builder, high_table, index))
            totals += [pairs, odd, high]
            address = builder.add(address, args[3])
        return totals

    return sums(sums, types.intp, types.intp, types.intp), gen


@intrinsic
def add_to_totals(totals: Any, sums: Any) -> tuple[Any, Codegen]:
    """add_to_totals(totals, sums): add the sums of bytes to int32 totals, 32 a block, in a row."""

    def gen(builder: Any, args: Any) -> None:
        eight = ir.Constant(SHORTS, [8] * 16)
        wide = ir.VectorType(ir.IntType(32), LANES)
        order = lanes_of([lane // 2 + 16 * (lane % 2) for lane in range(LANES)])
        for m in range(0, sums.count, SUMS):
            pairs, odd, high = (builder.extract_value(args[1], m + i) for i in range(SUMS))
            odd = builder.bitcast(odd, SHORTS)
            even = builder.sub(builder.bitcast(pairs, SHORTS), builder.shl(odd, eight))
            low = builder.shuffle_vector(even, odd, order)
            above = builder.shl(builder.sext(high, low.type), ir.Constant(low.type, [8] * LANES))
            value = builder.sext(builder.add(low, above), wide)
            pointer = at(builder, offset_by(builder, args[0], m // SUMS * LANES * 4), wide)
            total = builder.add(builder.load(pointer, align=4), value)
            builder.store(total, pointer, align=4)

    return types.void(types.intp, sums), gen


bytes_gemv = gemv_kernel(
    layout=BYTES_LAYOUT,
    prepare=table_writer(I8_HALF, BYTES_LAYOUT, write_tables, get_i8, put_i8),
    sum_blocks=table_summer(I8_HALF, BYTES_LAYOUT, add_entries, add_to_totals, BLOCKS, SUMS),
    total_kind=I32,
    blocks_at_once=BLOCKS,
)


def i8_b1_f32_planes_bytes(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights packed by BYTES_LAYOUT: exact sums."""
    bytes_gemv(p, begin, end, part)
