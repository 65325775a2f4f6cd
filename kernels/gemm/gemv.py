"""GEMV: for few positions, output channels in the lanes, sums looked up in tables in registers.

    sum[n] = sum_k s[n, k] * x[k],    s = +-1

1. The inputs of a position are gathered once. For g consecutive k, all 2**g sums +-x0 +-x1 .. fill
   one or two registers: a table.
2. A lane is an output channel, and holds the indices of its next table entries, g bits each: a
   shift brings the next.
3. So a permute, an add and a shift do g multiply-accumulates a lane. Many channels share each
   table.

| activations | table | lanes | g | lane of the sum | needs |
|---|---|---|---|---|---|
| float32 | 2 of 16 entries | 16 | 5 | float32 | AVX-512 |
| float32 | 1 of 8 entries | 8 | 3 | float32 | AVX2 |
| 8-bit, +-127 | 1 of 32 entries | 32 | 5 | int16, widened after 51 tables | AVX-512BW |

`GemvLayout.pack` packs the weights once a model: the indices of 16 (8, 32) channels side by side. A
unit of work is one output channel; parts that share a block of lanes both compute it, and each
writes its own channels.

The loops are in `gemv_loops.py`; here is what looks up entries, of the tables that fit registers
whole.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv_loops import gemv_kernel, table_summer, table_writer
from bwn.kernels.gemm.gemv_packing import FLOAT_LAYOUT, SHORT_LAYOUT, GemvLayout
from bwn.kernels.gemm.lut import totals_adder
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.scalars import get_f32, get_i8, put_f32, put_i8
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import (
    F32,
    F32_HALF,
    I16,
    I32,
    add,
    at,
    llvm_type,
    load_at,
    offset_by,
    splat_value,
)
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic

FLOAT, SHORT = F32 if FLOAT_LAYOUT.lanes == 16 else F32_HALF, I16
LAYOUTS: dict[Any, GemvLayout] = {FLOAT.dtype: FLOAT_LAYOUT, SHORT.dtype: SHORT_LAYOUT}
BLOCKS = 8 if "avx512f" in features() else 6
"""Blocks of channels that share each load of a table: what 32, or 16, registers hold of sums and
indices."""


def signed_sums(builder: Any, vec: Any, inputs: Any, layout: GemvLayout, first: int = 0) -> Any:
    """LLVM value of the entries of a table from `first` on: bit j of an index is input j's sign.

    inputs: address of the table's, float32 or int8.
    """
    lanes, is_float = llvm_type(vec), vec.element == types.float32
    stored = lanes.element if is_float else ir.IntType(8)
    entries = ir.Constant(lanes, None)
    for j in range(layout.group):
        address = offset_by(builder, inputs, j * layout.input_bytes)
        x = builder.load(at(builder, address, stored), align=1)
        x = splat_value(builder, vec, x if is_float else builder.sext(x, lanes.element))
        indices = range(first, first + vec.lanes)
        signs = ir.Constant(lanes, [(index >> j & 1) * 2 - 1 for index in indices])
        if is_float:
            entries = fma_value(builder, x, signs, entries)
        else:
            entries = builder.add(entries, builder.mul(x, signs))
    return entries


def tables_writer(layout: GemvLayout) -> Any:
    """write_tables(kind, inputs, tables): the tables of a piece. inputs: their address."""

    @intrinsic
    def write_tables(kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
        vec = kind.dtype
        starts = range(0, 1 << layout.group, vec.lanes)

        def gen(builder: Any, args: Any) -> None:
            for table in range(layout.tables):
                address = offset_by(builder, args[1], table * layout.group * layout.input_bytes)
                registers = [signed_sums(builder, vec, address, layout, start) for start in starts]
                for start, entries in zip(starts, registers, strict=True):
                    offset = table * layout.table_bytes + start * vec.element.bitwidth // 8
                    pointer = at(builder, offset_by(builder, args[2], offset), entries.type)
                    builder.store(entries, pointer, align=layout.register_bytes)

        return types.void(kind, types.intp, types.intp), gen

    return write_tables


@intrinsic
def add_entries(sums: Any, tables: Any, indices: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """add_entries(sums, tables, indices, block_bytes): sums[m] plus the entries that block m names.

    indices: address of block 0's lanes for these tables; block m's are m * block_bytes further.
    """
    vec, layout = sums.dtype, LAYOUTS[sums.dtype]
    index = ir.VectorType(ir.IntType(vec.element.bitwidth), vec.lanes)

    def gen(builder: Any, args: Any) -> Any:
        totals, lanes, address = [], [], args[2]
        shift = ir.Constant(index, [layout.group] * vec.lanes)
        for m in range(sums.count):
            totals.append(builder.extract_value(args[0], m))
            lanes.append(builder.load(at(builder, address, index), align=1))
            address = builder.add(address, args[3])
        for number in range(layout.tables):
            start, end = number * layout.table_bytes, (number + 1) * layout.table_bytes
            table = [
                load_at(builder, vec, offset_by(builder, args[1], offset))
                for offset in range(start, end, layout.register_bytes)
            ]
            for m in range(sums.count):
                totals[m] = add(builder, vec, totals[m], take_value(builder, vec, table, lanes[m]))
                lanes[m] = builder.lshr(lanes[m], shift)
        return totals

    return sums(sums, types.intp, types.intp, types.intp), gen


add_to_totals = totals_adder(4)
float_gemv = gemv_kernel(
    layout=FLOAT_LAYOUT,
    prepare=table_writer(FLOAT, FLOAT_LAYOUT, tables_writer(FLOAT_LAYOUT), get_f32, put_f32),
    sum_blocks=table_summer(FLOAT, FLOAT_LAYOUT, add_entries, add_to_totals, BLOCKS),
    total_kind=F32,
    blocks_at_once=BLOCKS,
)
short_gemv = gemv_kernel(
    layout=SHORT_LAYOUT,
    prepare=table_writer(SHORT, SHORT_LAYOUT, tables_writer(SHORT_LAYOUT), get_i8, put_i8),
    sum_blocks=table_summer(SHORT, SHORT_LAYOUT, add_entries, add_to_totals, BLOCKS),
    total_kind=I32,
    blocks_at_once=BLOCKS,
)


def f32_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights packed by FLOAT_LAYOUT."""
    float_gemv(p, begin, end, part)


def i8_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights packed by SHORT_LAYOUT: exact sums."""
    short_gemv(p, begin, end, part)
