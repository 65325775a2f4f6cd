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

`Form.pack` packs the weights once a model: the indices of 16 (8, 32) channels side by side. A unit
of work is one output channel; parts that share a block of lanes both compute it, and each writes
its own channels.

The loops are in `gemv_loops.py`; here is what looks up entries, of the tables that fit registers
whole.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.gemv_loops import gemv_kernel, table_summer, table_writer
from bwn.kernels.gemm.weight_packing import FLOAT_FORM, SHORT_FORM, Form
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.scalars import get_f32, get_i8, put_f32, put_i8
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import (
    F32,
    F32_HALF,
    I16,
    I32,
    Codegen,
    Vec,
    add,
    at,
    llvm_type,
    load_at,
    offset_by,
    splat_value,
)
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import intrinsic

FLOAT, SHORT = F32 if FLOAT_FORM.lanes == 16 else F32_HALF, I16
FORMS: dict[Any, Form] = {FLOAT.dtype: FLOAT_FORM, SHORT.dtype: SHORT_FORM}
BLOCKS = 8 if "avx512f" in features() else 6
"""Blocks of channels that share each load of a table: what 32, or 16, registers hold of sums and
indices."""


@intrinsic
def write_tables(_: Any, kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
    """write_tables(kind, inputs, tables): the tables of a piece, of all signed sums of its inputs.

    Bit j of an index is the sign of input j.

    inputs: address of as many float32, or int8 for I16.
    """
    vec, form = kind.dtype, FORMS[kind.dtype]
    is_float = vec.element == types.float32
    stored = ir.FloatType() if is_float else ir.IntType(8)

    def signed(builder: Any, register: int, x: Any, j: int, entries: Any) -> Any:
        """Entries of a register of the table, plus input j with the signs that it has in them."""
        indices = range(register * vec.lanes, (register + 1) * vec.lanes)
        signs = ir.Constant(llvm_type(vec), [(index >> j & 1) * 2 - 1 for index in indices])
        if is_float:
            return fma_value(builder, x, signs, entries)
        return builder.add(entries, builder.mul(x, signs))

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = llvm_type(vec)
        for table in range(form.tables):
            registers = [ir.Constant(lanes, None)] * (form.table_bytes // form.register_bytes)
            for j in range(form.group):
                address = offset_by(builder, args[1], (table * form.group + j) * form.input_bytes)
                x = builder.load(at(builder, address, stored), align=1)
                x = splat_value(builder, vec, x if is_float else builder.sext(x, lanes.element))
                registers = [
                    signed(builder, register, x, j, entries)
                    for register, entries in enumerate(registers)
                ]
            for register, entries in enumerate(registers):
                offset = table * form.table_bytes + register * form.register_bytes
                pointer = at(builder, offset_by(builder, args[2], offset), lanes)
                builder.store(entries, pointer, align=form.register_bytes)
        return context.get_dummy_value()

    return types.void(kind, types.intp, types.intp), gen


@intrinsic
def add_entries(
    _: Any, sums: Any, tables: Any, indices: Any, block_bytes: Any
) -> tuple[Any, Codegen]:
    """add_entries(sums, tables, indices, block_bytes): sums[m] plus the entries that block m names.

    indices: address of block 0's lanes for these tables; block m's are m * block_bytes further.
    """
    vec, form = sums.dtype, FORMS[sums.dtype]
    index = ir.VectorType(ir.IntType(vec.element.bitwidth), vec.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        totals, lanes, address = [], [], args[2]
        shift = ir.Constant(index, [form.group] * vec.lanes)
        for m in range(sums.count):
            totals.append(builder.extract_value(args[0], m))
            lanes.append(builder.load(at(builder, address, index), align=1))
            address = builder.add(address, args[3])
        for number in range(form.tables):
            start, end = number * form.table_bytes, (number + 1) * form.table_bytes
            table = [
                load_at(builder, vec, offset_by(builder, args[1], offset))
                for offset in range(start, end, form.register_bytes)
            ]
            for m in range(sums.count):
                totals[m] = add(builder, vec, totals[m], take_value(builder, vec, table, lanes[m]))
                lanes[m] = builder.lshr(lanes[m], shift)
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, types.intp, types.intp, types.intp), gen


@intrinsic
def add_to_totals(_: Any, totals: Any, sums: Any) -> tuple[Any, Codegen]:
    """add_to_totals(totals, sums): add each vector to float32 or int32 totals, in a row."""
    vec = sums.dtype
    wide = vec if vec.element == types.float32 else Vec(types.int32, vec.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_type(wide)
        for m in range(sums.count):
            value = builder.extract_value(args[1], m)
            value = value if wide == vec else builder.sext(value, kind)
            pointer = at(builder, offset_by(builder, args[0], m * wide.lanes * 4), kind)
            before = builder.load(pointer, align=4)
            builder.store(add(builder, wide, before, value), pointer, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, sums), gen


float_gemv = gemv_kernel(
    form=FLOAT_FORM,
    prepare=table_writer(FLOAT, FLOAT_FORM, write_tables, get_f32, put_f32),
    sum_blocks=table_summer(FLOAT, FLOAT_FORM, add_entries, add_to_totals, BLOCKS),
    total_kind=F32,
    blocks_at_once=BLOCKS,
)
short_gemv = gemv_kernel(
    form=SHORT_FORM,
    prepare=table_writer(SHORT, SHORT_FORM, write_tables, get_i8, put_i8),
    sum_blocks=table_summer(SHORT, SHORT_FORM, add_entries, add_to_totals, BLOCKS),
    total_kind=I32,
    blocks_at_once=BLOCKS,
)


def f32_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights packed by FLOAT_FORM."""
    float_gemv(p, begin, end, part)


def i8_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights packed by SHORT_FORM: exact sums."""
    short_gemv(p, begin, end, part)
