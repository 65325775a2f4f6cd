"""8-bit activations for few positions, output channels in the lanes: tables in bytes, for AVX2 and NEON.

Neither looks up int16 by one instruction, but both look up bytes in a table of 16 (`vpshufb`, `tbl`). So 4 inputs make
16 entries v within +-508, in two tables: v = 256 * high + low, with high in -2..1 and low in 0..255.

- high is summed in int8: 64 tables add at most -128.
- low is summed as pairs of bytes, in uint16 that wrap, and the odd byte of each pair once more on its own, shifted
  down: the even byte's sum is what is left. Both sums of 64 tables fit.

The sum of 64 tables, within 64 * 508, fits an int16, in which it is put together: exact.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv import product, tables_by, totals_by
from bwn.kernels.gemm.weight_packing import BYTES_FORM
from bwn.kernels.simd.neon import by_register
from bwn.kernels.simd.scalars import get_i8, put_i8
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import (
    I8_16,
    I8_HALF,
    I32,
    Codegen,
    Vec,
    at,
    llvm_type,
    load_at,
    splat_value,
)
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import intrinsic

FORM = BYTES_FORM
LANES, GROUP, TABLES, TABLE_BYTES, INPUTS = (
    FORM.lanes,
    FORM.group,
    FORM.tables,
    FORM.table_bytes,
    FORM.inputs,
)
BLOCKS = 2
GEMMS = 3
"""Of each block: low pairs, low odd bytes, high."""
OCTETS = I8_16.dtype
SHORTS = ir.VectorType(ir.IntType(16), 16)


@intrinsic
def build(_: Any, kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
    """build(kind, inputs, tables): write both bytes of the 16 entries of each of 2 tables, from 8 int8 inputs."""
    vec = Vec(types.int16, 16)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        small, i64 = ir.VectorType(ir.IntType(8), 16), ir.IntType(64)
        signs = [
            ir.Constant(SHORTS, [(i >> j & 1) * 2 - 1 for i in range(16)]) for j in range(GROUP)
        ]
        for table in range(TABLES):
            entry = ir.Constant(SHORTS, None)
            for j in range(GROUP):
                where = builder.add(args[1], ir.Constant(i64, table * GROUP + j))
                x = builder.sext(
                    builder.load(at(builder, where, ir.IntType(8)), align=1), ir.IntType(16)
                )
                entry = builder.add(entry, builder.mul(splat_value(builder, vec, x), signs[j]))
            high = builder.lshr(entry, ir.Constant(SHORTS, [8] * 16))
            for half, value in enumerate((entry, high)):
                where = builder.add(args[2], ir.Constant(i64, table * TABLE_BYTES + half * 16))
                builder.store(builder.trunc(value, small), at(builder, where, small), align=1)
        return context.get_dummy_value()

    return types.void(kind, types.intp, types.intp), gen


def _take_bytes(builder: Any, table: Any, numbers: Any) -> Any:
    # table: 16 bytes; numbers: 32 of 0..15.
    if "neon" in features():
        return by_register(
            builder, numbers, lambda part: take_value(builder, OCTETS, [table], part)
        )
    twice = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [*range(16)] * 2)
    return take_value(
        builder, I8_HALF.dtype, [builder.shuffle_vector(table, table, twice)], numbers
    )


@intrinsic
def pick(_: Any, sums: Any, tables: Any, numbers: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """pick(sums, tables, numbers, block_bytes): sums plus the entries of 2 tables that each block's bytes name."""
    vec = sums.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_type(vec)
        eight = ir.Constant(SHORTS, [8] * 16)
        where, totals = args[2], []
        for m in range(0, sums.count, GEMMS):
            pairs, odd, high = (builder.extract_value(args[0], m + i) for i in range(GEMMS))
            both = load_at(builder, vec, where)
            for table in range(TABLES):
                number = builder.lshr(both, ir.Constant(kind, [GROUP * table] * LANES))
                number = builder.and_(number, ir.Constant(kind, [15] * LANES))
                low_table, high_table = (
                    load_at(
                        builder,
                        OCTETS,
                        builder.add(
                            args[1], ir.Constant(ir.IntType(64), table * TABLE_BYTES + half)
                        ),
                    )
                    for half in (0, 16)
                )
                low = builder.bitcast(_take_bytes(builder, low_table, number), SHORTS)
                pairs = builder.bitcast(builder.add(builder.bitcast(pairs, SHORTS), low), kind)
                odd = builder.bitcast(
                    builder.add(builder.bitcast(odd, SHORTS), builder.lshr(low, eight)), kind
                )
                high = builder.add(high, _take_bytes(builder, high_table, number))
            totals += [pairs, odd, high]
            where = builder.add(where, args[3])
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, types.intp, types.intp, types.intp), gen


@intrinsic
def merge(_: Any, totals: Any, sums: Any) -> tuple[Any, Codegen]:
    """merge(totals, sums): add what `pick` summed to 32 int32 totals a block, one block after another."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        eight = ir.Constant(SHORTS, [8] * 16)
        wide = ir.VectorType(ir.IntType(32), LANES)
        order = ir.Constant(wide, [lane // 2 + 16 * (lane % 2) for lane in range(LANES)])
        for m in range(0, sums.count, GEMMS):
            pairs, odd, high = (builder.extract_value(args[1], m + i) for i in range(GEMMS))
            odd = builder.bitcast(odd, SHORTS)
            even = builder.sub(builder.bitcast(pairs, SHORTS), builder.shl(odd, eight))
            low = builder.shuffle_vector(even, odd, order)
            above = builder.shl(builder.sext(high, low.type), ir.Constant(low.type, [8] * LANES))
            value = builder.sext(builder.add(low, above), wide)
            where = at(
                builder,
                builder.add(args[0], ir.Constant(ir.IntType(64), m // GEMMS * LANES * 4)),
                wide,
            )
            builder.store(builder.add(builder.load(where, align=4), value), where, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, sums), gen


READY, TOTALS = tables_by(build, get_i8, put_i8, 1), totals_by(pick, merge, BLOCKS, GEMMS)


def i8_b1_f32_planes_bytes(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights laid out by `bytes_lay`: exact sums."""
    product(READY, TOTALS, I32, I8_HALF, FORM, BLOCKS, 1, p, begin, end, part)
