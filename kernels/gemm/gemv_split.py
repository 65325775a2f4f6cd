"""float32 activations for few positions, output channels in the lanes: tables split into their bytes, for NEON.

NEON looks up bytes: `tbl` takes 16 of them out of a register at once. A table of 4 inputs has 16 float32, so its
first bytes fill one register, its second ones the next, and so on; one load (`ld4`) splits them. Four lookups by the
same numbers, put together again, are 16 channels' entries: 64 multiply-accumulates in 4 lookups, 8 instructions that
interleave, 4 additions.

    sum[n] = sum over groups g of table[g][number[n, g]],    table[g] = the 16 sums +-x0 +-x1 +-x2 +-x3
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv import merge, product, tables_by, totals_by
from bwn.kernels.gemm.weight_packing import SPLIT_FORM
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.neon import hidden
from bwn.kernels.simd.scalars import get_f32, put_f32
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import F32, I8_16, Codegen, Vec, at, llvm_type, load_at, splat_value
from bwn.kernels.target.jit import intrinsic

FORM = SPLIT_FORM
LANES, GROUP, TABLES, TABLE_BYTES, INPUTS = (
    FORM.lanes,
    FORM.group,
    FORM.tables,
    FORM.table_bytes,
    FORM.inputs,
)
BLOCKS = 4
"""Blocks of channels that share each load of a table: 16 registers of sums, 4 of the table."""
OCTETS = I8_16.dtype


@intrinsic
def build(_: Any, kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
    """build(kind, inputs, tables): write the 16 entries of each of 2 tables, from 8 float32 inputs."""
    vec = kind.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, i64 = llvm_type(vec), ir.IntType(64)
        for table in range(TABLES):
            entries = ir.Constant(kind, None)
            for j in range(GROUP):
                where = builder.add(args[1], ir.Constant(i64, (table * GROUP + j) * 4))
                x = splat_value(
                    builder, vec, builder.load(at(builder, where, ir.FloatType()), align=4)
                )
                signs = ir.Constant(kind, [float((i >> j & 1) * 2 - 1) for i in range(LANES)])
                entries = fma_value(builder, x, signs, entries)
            where = builder.add(args[2], ir.Constant(i64, table * TABLE_BYTES))
            builder.store(entries, at(builder, where, kind), align=16)
        return context.get_dummy_value()

    return types.void(kind, types.intp, types.intp), gen


def _interleave(builder: Any, a: Any, b: Any) -> Any:
    count = a.type.count
    order = [
        lane for pair in zip(range(count), range(count, 2 * count), strict=True) for lane in pair
    ]
    return builder.shuffle_vector(
        a, b, ir.Constant(ir.VectorType(ir.IntType(32), 2 * count), order)
    )


def _entries(builder: Any, planes: list[Any], numbers: Any) -> Any:
    """The float32 whose bytes stand in `planes` at the numbers."""
    found = [take_value(builder, OCTETS, [plane], numbers) for plane in planes]
    halves = ir.VectorType(ir.IntType(16), LANES)
    low, high = (builder.bitcast(_interleave(builder, *found[i : i + 2]), halves) for i in (0, 2))
    return builder.bitcast(_interleave(builder, low, high), llvm_type(F32.dtype))


@intrinsic
def pick(_: Any, sums: Any, tables: Any, numbers: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """pick(sums, tables, numbers, block_bytes): sums[m] plus the entries of 2 tables that block m's bytes name."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, lanes = llvm_type(OCTETS), ir.VectorType(ir.IntType(32), LANES)
        totals, octets, where = [], [], args[2]
        for m in range(sums.count):
            totals.append(builder.extract_value(args[0], m))
            octets.append(load_at(builder, OCTETS, where))
            where = builder.add(where, args[3])
        for table in range(TABLES):
            start = builder.add(args[1], ir.Constant(ir.IntType(64), table * TABLE_BYTES))
            whole = load_at(builder, Vec(types.int8, TABLE_BYTES), start)
            empty = ir.Constant(whole.type, ir.Undefined)
            planes = [
                builder.shuffle_vector(
                    whole, empty, ir.Constant(lanes, list(range(byte, TABLE_BYTES, 4)))
                )
                for byte in range(4)
            ]
            for m in range(sums.count):
                shifted = builder.lshr(octets[m], ir.Constant(kind, [GROUP * table] * LANES))
                number = builder.and_(shifted, ir.Constant(kind, [15] * LANES))
                totals[m] = hidden(
                    builder, builder.fadd(totals[m], _entries(builder, planes, number))
                )
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, types.intp, types.intp, types.intp), gen


READY, TOTALS = tables_by(build, get_f32, put_f32, 4), totals_by(pick, merge, BLOCKS)


def f32_b1_f32_planes_split(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights laid out by `lanes.split_lay`."""
    product(READY, TOTALS, F32, F32, FORM, BLOCKS, 4, p, begin, end, part)
