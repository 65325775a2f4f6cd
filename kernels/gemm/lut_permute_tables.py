"""Tables of `lut_permute.py`: all signed sums of some channels at a position, in two registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bwn.kernels.gemm.lut import load_inputs
from bwn.kernels.gemm.lut_permute_packing import TABLE_BYTES, Layout
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.scalars import get_f32, get_i16
from bwn.kernels.simd.vectors import (
    I16,
    add,
    at,
    llvm_type,
    offset_by,
    splat_value,
    store,
    sub,
)
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@intrinsic
def write_table(kind: Any, table: Any, inputs: Any) -> tuple[Any, Codegen]:
    """write_table(F32, table, inputs): all signed sums; bit j of an index is input j's sign."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> None:
        lanes = llvm_type(vec)
        values = [
            splat_value(builder, vec, builder.extract_value(args[2], j))
            for j in range(inputs.count)
        ]
        entries = ir.Constant(lanes, None)
        for bit, value in enumerate(values[:-1]):
            plus = [i >> bit & 1 for i in range(vec.lanes)]
            if vec.element == types.float32:
                signs = ir.Constant(lanes, [1.0 if sign else -1.0 for sign in plus])
                entries = (
                    fma_value(builder, value, signs, entries) if bit else builder.fmul(value, signs)
                )
            else:
                signs = ir.Constant(ir.VectorType(ir.IntType(1), vec.lanes), plus)
                more, less = builder.add(entries, value), builder.sub(entries, value)
                entries = builder.select(signs, more, less)
        lower, upper = args[1], offset_by(builder, args[1], VECTOR_BYTES)
        less, more = sub(builder, vec, entries, values[-1]), add(builder, vec, entries, values[-1])
        builder.store(less, at(builder, lower, lanes), align=VECTOR_BYTES)
        builder.store(more, at(builder, upper, lanes), align=VECTOR_BYTES)

    return types.void(kind, types.intp, inputs), gen


@helper
def rows_of_f32(x: int, plane: int, count: int, span: int, scratch: int) -> Any:
    """float32 channels are read in place: their address, and elements from one to the next."""
    return x, plane


@helper
def rows_of_i8(x: int, plane: int, count: int, span: int, scratch: int) -> Any:
    """`count` int8 channels of `span` positions as int16 rows in scratch, for loads that spread."""
    row = (span + 31) // 32 * 32
    for channel in range(count):
        for i in range(0, span, 32):
            store(scratch, channel * row + i, load_inputs(I16, x + channel * plane, i))
    return scratch, row


@helper
def five_f32(x: int, i: int, row: int, count: int) -> Any:
    """The inputs of a table of float32; 0 where there are fewer."""
    zero = np.float32(0.0)
    return (
        get_f32(x, i),
        get_f32(x, i + row) if count > 1 else zero,
        get_f32(x, i + 2 * row) if count > 2 else zero,
        get_f32(x, i + 3 * row) if count > 3 else zero,
        get_f32(x, i + 4 * row) if count > 4 else zero,
    )


@helper
def six_i16(x: int, i: int, row: int, count: int) -> Any:
    """The inputs of a table of int16; 0 where there are fewer."""
    zero = np.int16(0)
    return (
        get_i16(x, i),
        get_i16(x, i + row) if count > 1 else zero,
        get_i16(x, i + 2 * row) if count > 2 else zero,
        get_i16(x, i + 3 * row) if count > 3 else zero,
        get_i16(x, i + 4 * row) if count > 4 else zero,
        get_i16(x, i + 5 * row) if count > 5 else zero,
    )


def table_writer(kind: Any, layout: Layout, rows_of: Any, inputs_of: Any) -> Any:
    """A helper that writes the tables of a chunk of channels at neighbouring positions.

    Args:
        kind: Of the tables, F32 or I16.
        layout: Of the weights.
        rows_of: (x, plane, count, span, scratch) to the address of rows of inputs, and their
        stride.
        inputs_of: (rows, position, stride, count) to the inputs of a table.
    """
    group = layout.group

    @helper
    def write_tables(f: Any, x: int, channels: int, span: int, tables: int, scratch: int) -> int:
        """Write tables of up to `f.chunk` groups of channels, at `span` positions; how many they
        are.

        x: address of the first position in the first channel. channels: how many there are from it
        on.
        """
        stride = f.chunk * TABLE_BYTES
        count = min(f.chunk, (channels + group - 1) // group)
        left = min(count * group, channels)
        rows, row = rows_of(x, f.x_plane, left, span, scratch)
        for t in range(count):
            start, table = t * group * row, tables + t * TABLE_BYTES
            if left >= group:
                for i in range(span):
                    write_table(kind, table + i * stride, inputs_of(rows, start + i, row, group))
            else:
                for i in range(span):
                    write_table(kind, table + i * stride, inputs_of(rows, start + i, row, left))
            left -= group
        return count

    return write_tables
