"""GEMV of float32 activations by tables split into their bytes, for NEON.

NEON looks up bytes: `tbl` takes 16 of them out of a register at once. A table of 4 inputs has 16
float32, so its first bytes fill one register, its second ones the next, and so on; one load (`ld4`)
splits them. Four lookups by the same indices, put together again, are 16 channels' entries: 64
multiply-accumulates in 4 lookups, 8 instructions that interleave, 4 additions.

    sum[n] = sum over groups g of table[g][index[n, g]]
    table[g] = the 16 sums +-x0 +-x1 +-x2 +-x3
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv import add_to_totals, tables_writer
from bwn.kernels.gemm.gemv_loops import gemv_kernel, table_summer, table_writer
from bwn.kernels.gemm.gemv_packing import SPLIT_LAYOUT
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.scalars import get_f32, put_f32
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import (
    F32,
    I8_16,
    Vec,
    lanes_of,
    llvm_type,
    load_at,
    offset_by,
    pick,
)
from bwn.kernels.target.jit import Codegen, intrinsic

LANES, GROUP, TABLES = SPLIT_LAYOUT.lanes, SPLIT_LAYOUT.group, SPLIT_LAYOUT.tables
TABLE_BYTES = SPLIT_LAYOUT.table_bytes
BLOCKS = 4
"""Blocks of channels that share each load of a table: 16 registers of sums, 4 of the table."""
OCTETS = I8_16.dtype


def _interleave(builder: Any, a: Any, b: Any) -> Any:
    count = a.type.count
    order = lanes_of([lane for i in range(count) for lane in (i, count + i)])
    return builder.shuffle_vector(a, b, order)


def _entries(builder: Any, planes: list[Any], indices: Any) -> Any:
    """LLVM value of the float32 whose bytes are at the indices in four registers of a table."""
    octets = [take_value(builder, OCTETS, [plane], indices) for plane in planes]
    halves = ir.VectorType(ir.IntType(16), LANES)
    low = builder.bitcast(_interleave(builder, octets[0], octets[1]), halves)
    high = builder.bitcast(_interleave(builder, octets[2], octets[3]), halves)
    return builder.bitcast(_interleave(builder, low, high), llvm_type(F32.dtype))


@intrinsic
def add_entries(sums: Any, tables: Any, indices: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """add_entries(sums, tables, indices, block_bytes): sums[m] plus the entries block m names."""

    def gen(builder: Any, args: Any) -> Any:
        kind = llvm_type(OCTETS)
        totals, octets, address = [], [], args[2]
        for m in range(sums.count):
            totals.append(builder.extract_value(args[0], m))
            octets.append(load_at(builder, OCTETS, address))
            address = builder.add(address, args[3])
        for table in range(TABLES):
            start = offset_by(builder, args[1], table * TABLE_BYTES)
            whole = load_at(builder, Vec(types.int8, TABLE_BYTES), start)
            planes = [pick(builder, whole, range(byte, TABLE_BYTES, 4)) for byte in range(4)]
            for m in range(sums.count):
                shifted = builder.lshr(octets[m], ir.Constant(kind, [GROUP * table] * LANES))
                index = builder.and_(shifted, ir.Constant(kind, [15] * LANES))
                total = builder.fadd(totals[m], _entries(builder, planes, index))
                totals[m] = hidden(builder, total)
        return totals

    return sums(sums, types.intp, types.intp, types.intp), gen


split_gemv = gemv_kernel(
    layout=SPLIT_LAYOUT,
    prepare=table_writer(F32, SPLIT_LAYOUT, tables_writer(SPLIT_LAYOUT), get_f32, put_f32),
    sum_blocks=table_summer(F32, SPLIT_LAYOUT, add_entries, add_to_totals, BLOCKS),
    total_kind=F32,
    blocks_at_once=BLOCKS,
)


def f32_b1_f32_planes_split(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights packed by SPLIT_LAYOUT."""
    split_gemv(p, begin, end, part)
