"""Products for few positions, output channels in the lanes: tables that stand in registers.

    sum[n] = sum_k s[n, k] * x[k],    s = +-1

1. The inputs of a position are gathered once. For g consecutive k, all 2**g sums +-x0 +-x1 .. fill one or two
   registers.
2. A lane is an output channel, and holds the numbers of its next table entries, g bits each: a shift brings the next.
3. So a permute, an add and a shift do g multiply-accumulates a lane. Many channels share each table.

| activations | table | lanes | g | lane of the sum | needs |
|---|---|---|---|---|---|
| float32 | 2 of 16 entries | 16 | 5 | float32 | AVX-512 |
| float32 | 1 of 8 entries | 8 | 3 | float32 | AVX2 |
| 8-bit, +-127 | 1 of 32 entries | 32 | 5 | int16, widened after 51 tables | AVX-512BW |

The words are laid out anew, once a model, by `lay_out`: the numbers of 16 (8, 32) channels side by side. A unit of
work is one output channel; parts that share a block of lanes both compute it, and each writes its own channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import (
    blank,
    finish_channels,
    finish_one,
    gemm_params,
    out_plane,
    step_at,
)
from bwn.kernels.gemm.weight_packing import FLOAT_FORM, SHORT_FORM, TOTALS_BYTES, Form
from bwn.kernels.simd.arithmetic import fma_value, to_float
from bwn.kernels.simd.scalars import gather, get_f32, get_i8, get_i32, put_f32, put_i8
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.stores import clear
from bwn.kernels.simd.vectors import (
    F32,
    F32_HALF,
    I16,
    I32,
    Codegen,
    Vec,
    add,
    at,
    get,
    llvm_type,
    load,
    load_at,
    splat_value,
    zeros,
)
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import helper, intrinsic

FLOAT, SHORT = F32 if FLOAT_FORM.lanes == 16 else F32_HALF, I16
FORMS: dict[Any, Form] = {FLOAT.dtype: FLOAT_FORM, SHORT.dtype: SHORT_FORM}
BLOCKS = 8 if "avx512f" in features() else 6
"""Blocks of channels that share each load of a table: what 32, or 16, registers hold of sums and numbers."""


@intrinsic
def build(_: Any, kind: Any, inputs: Any, tables: Any) -> tuple[Any, Codegen]:
    """build(kind, inputs, tables): write the tables of one piece; bit j of an entry's number is the sign of input j.

    inputs: address of as many float32, or int8 for I16.
    """
    vec, form = kind.dtype, FORMS[kind.dtype]
    real = vec.element == types.float32
    stored = ir.FloatType() if real else ir.IntType(8)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, i64 = llvm_type(vec), ir.IntType(64)

        def signed(number: int, x: Any, j: int, entries: Any) -> Any:
            """Entries of register `number`, plus input j with their signs of it."""
            signs = ir.Constant(
                kind, [((i + number * vec.lanes) >> j & 1) * 2 - 1 for i in range(vec.lanes)]
            )
            return (
                fma_value(builder, x, signs, entries)
                if real
                else builder.add(entries, builder.mul(x, signs))
            )

        for table in range(form.tables):
            registers = [ir.Constant(kind, None)] * (form.table_bytes // form.bytes)
            for j in range(form.group):
                offset = ir.Constant(i64, (table * form.group + j) * (4 if real else 1))
                x = builder.load(at(builder, builder.add(args[1], offset), stored), align=1)
                x = splat_value(builder, vec, x if real else builder.sext(x, kind.element))
                registers = [
                    signed(number, x, j, entries) for number, entries in enumerate(registers)
                ]
            for number, entries in enumerate(registers):
                offset = ir.Constant(i64, table * form.table_bytes + number * form.bytes)
                builder.store(
                    entries, at(builder, builder.add(args[2], offset), kind), align=form.bytes
                )
        return context.get_dummy_value()

    return types.void(kind, types.intp, types.intp), gen


@intrinsic
def pick(_: Any, sums: Any, tables: Any, numbers: Any, block_bytes: Any) -> tuple[Any, Codegen]:
    """pick(sums, tables, numbers, block_bytes): sums[m] plus the entries that block m's lanes of numbers name.

    numbers: address of the numbers of block 0 for these tables; block m's stand m * block_bytes after them.
    """
    vec, form = sums.dtype, FORMS[sums.dtype]
    whole = ir.VectorType(ir.IntType(vec.element.bitwidth), vec.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        totals, lanes, where = [], [], args[2]
        shift = ir.Constant(whole, [form.group] * vec.lanes)
        for m in range(sums.count):
            totals.append(builder.extract_value(args[0], m))
            lanes.append(builder.load(at(builder, where, whole), align=1))
            where = builder.add(where, args[3])
        for number in range(form.tables):
            starts = range(number * form.table_bytes, (number + 1) * form.table_bytes, form.bytes)
            table = [
                load_at(builder, vec, builder.add(args[1], ir.Constant(ir.IntType(64), start)))
                for start in starts
            ]
            for m in range(sums.count):
                totals[m] = add(builder, vec, totals[m], take_value(builder, vec, table, lanes[m]))
                lanes[m] = builder.lshr(lanes[m], shift)
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, types.intp, types.intp, types.intp), gen


@intrinsic
def merge(_: Any, totals: Any, sums: Any) -> tuple[Any, Codegen]:
    """merge(totals, sums): add each vector to the float32 or int32 totals that stand there one after another."""
    vec = sums.dtype
    wide = vec if vec.element == types.float32 else Vec(types.int32, vec.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_type(wide)
        for m in range(sums.count):
            value = builder.extract_value(args[1], m)
            value = value if wide == vec else builder.sext(value, kind)
            where = at(
                builder, builder.add(args[0], ir.Constant(ir.IntType(64), m * wide.lanes * 4)), kind
            )
            builder.store(add(builder, wide, builder.load(where, align=4), value), where, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, sums), gen


@helper
def pieces_of(form: Any, row_words: int) -> int:
    """Lanes of numbers that hold a row's bits."""
    return (row_words * 64 + form.group * form.tables - 1) // (form.group * form.tables)


def tables_by(build: Any, get: Any, put: Any, x_bytes: int) -> Any:
    """The `ready` of a product by tables: gathers the inputs of a position behind the place of the tables, makes those.

    build(kind, inputs, tables): of one piece. get, put: an input, of x_bytes.
    """

    @helper
    def ready(kind: Any, form: Any, f: Any, x: int, scratch: int) -> None:
        pieces, inputs = pieces_of(form, f.row_words), form.group * form.tables
        room = scratch + pieces * form.tables * form.table_bytes
        gather(get, put, x, f.offsets, f.depth, pieces * inputs, room)
        for piece in range(pieces):
            build(
                kind,
                room + piece * inputs * x_bytes,
                scratch + piece * form.tables * form.table_bytes,
            )

    return ready


def totals_by(pick: Any, merge: Any, blocks: int, registers: int = 1) -> Any:
    """The `add_up` of a product by tables: totals of `blocks` blocks of channels, or of one.

    pick(sums, tables, numbers, block_bytes): sums plus the entries of one piece. merge(totals, sums): adds to totals
    that stand one after another. registers: sums of a block.
    """
    most = blocks * registers

    @helper
    def sum_tables(
        none: Any, form: Any, tables: int, numbers: int, pieces: int, totals: int
    ) -> None:
        for start in range(0, pieces, form.safe):
            sums = none
            for piece in range(start, min(start + form.safe, pieces)):
                table = tables + piece * form.tables * form.table_bytes
                sums = pick(sums, table, numbers + piece * form.bytes, pieces * form.bytes)
            merge(totals, sums)

    @helper
    def add_up(
        kind: Any, form: Any, many: bool, f: Any, block: int, scratch: int, totals: int
    ) -> None:
        pieces = pieces_of(form, f.row_words)
        numbers = f.words + block * pieces * form.bytes
        clear(totals, blocks * form.lanes)
        if many:
            sum_tables(zeros(kind, most), form, scratch, numbers, pieces, totals)
        else:
            sum_tables(zeros(kind, registers), form, scratch, numbers, pieces, totals)

    return add_up


@helper
def put_channels(
    f: Any, stored: Any, totals: int, image: int, first: int, last: int, position: int, step: Any
) -> None:
    """Write the outputs first..last-1 of a position. totals: address of the first one's, of kind `stored`."""
    if last - first < LANES:
        for n in range(first, last):
            total = np.float32(get(stored, totals, n - first)) + get_f32(f.correction, n)
            finish_one(f, total, image, n, position, step)
    else:
        for start in range(first, last, LANES):
            n = min(
                start, last - LANES
            )  # the last ones overlap those before, and come out the same
            sums = to_float(load(stored, totals, n - first)) + load(F32, f.correction, n)
            finish_channels(f, sums, image, n, position, step)


@helper
def product(
    ready: Any,
    add_up: Any,
    stored: Any,
    kind: Any,
    form: Any,
    many: int,
    x_bytes: int,
    p: int,
    begin: int,
    end: int,
    part: int,
) -> None:
    """Output channels begin..end-1, over all images and positions, `many` blocks of channels at a time or one.

    ready(kind, form, f, x, scratch): prepares the inputs of a position. add_up(kind, form, all, f, block, scratch,
    totals): sums blocks of channels. stored: what totals are, F32 or I32.
    """
    f = gemm_params(p)
    totals = f.scratch + part * f.scratch_part
    scratch = totals + TOTALS_BYTES
    for image in range(f.images):
        for group in range(begin // f.outputs, (end + f.outputs - 1) // f.outputs):
            first, last = max(begin, group * f.outputs), min(end, (group + 1) * f.outputs)
            stop = (last + form.lanes - 1) // form.lanes
            at_once = many if stop - first // form.lanes >= many else 1
            for position in range(f.positions):
                there = get_i32(f.mask, position) != 0
                if there:
                    x = f.x + (image * f.x_image + group * f.x_group + position) * x_bytes
                    ready(kind, form, f, x, scratch)
                step = step_at(f, image, position)
                for block in range(first // form.lanes, stop, at_once):
                    here = min(
                        block, stop - at_once
                    )  # the last ones overlap those before, and come out the same
                    start, until = (
                        max(first, here * form.lanes),
                        min(last, (here + at_once) * form.lanes),
                    )
                    if there:
                        add_up(kind, form, at_once > 1, f, here, scratch, totals)
                    if position == 0:
                        blank(f, out_plane(f, image, start), 0, (until - start) * f.out_plane)
                    if there:
                        sums = totals + (start - here * form.lanes) * 4
                        put_channels(f, stored, sums, image, start, until, position, step)


FLOAT_TABLES, SHORT_TABLES = (
    tables_by(build, get_f32, put_f32, 4),
    tables_by(build, get_i8, put_i8, 1),
)
TOTALS = totals_by(pick, merge, BLOCKS)


def f32_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations, one-bit weights laid out by `float_lay`."""
    product(FLOAT_TABLES, TOTALS, F32, FLOAT, FLOAT_FORM, BLOCKS, 4, p, begin, end, part)


def i8_b1_f32_planes_inlane(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-127, one-bit weights laid out by `short_lay`: exact sums."""
    product(SHORT_TABLES, TOTALS, I32, SHORT, SHORT_FORM, BLOCKS, 1, p, begin, end, part)
