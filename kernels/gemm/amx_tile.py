"""Registers of `amx.py`: the tiles of AMX.

A tile is up to 16 rows of 64 bytes. One instruction adds to 16 x 16 sums of int32 the products of
16 rows of 64 weights by 64 inputs of 16 positions (Intel, Software Developer's Manual, volume 1,
chapter 18). Of the eight tiles four hold sums, two weights, two inputs.

These are lines of assembly: LLVM's intrinsics of the same names do not tell it that a tile keeps
its content, and after register allocation it may use another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from bwn.kernels.gemm.i8_tile import MIDDLE, in_order
from bwn.kernels.gemm.tiles import AMX_ROWS, AMX_STEP
from bwn.kernels.simd.vectors import F32, I32, at, llvm_type, load_at, offset_by, splat_at
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, intrinsic

llvm.initialize_native_asmparser()

PRODUCTS = "tdpbsud" if MIDDLE else "tdpbssd"
"""Signed weights, inputs as `write_quad` leaves them."""
SUMS, WEIGHTS, INPUTS = ((0, 1), (2, 3)), (4, 5), (6, 7)
"""Tiles: sums by block of channels and vector of positions, weights by block, inputs by vector."""
ROW_BYTES, ROW_COUNTS = 16, 48
"""Where a configuration has the bytes of a row of each tile, two bytes each, and the rows, one."""


def _run(builder: Any, lines: Iterable[str], *registers: Any) -> None:
    """Run lines of assembly, where $0 is the first of `registers`, int64. Nothing else uses tiles,
    so none is declared."""
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(registers))
    constraints = ",".join(["r"] * len(registers) + ["~{memory}"])
    builder.asm(kind, "\n".join(lines), constraints, registers, side_effect=True)


@intrinsic
def configure(address: Any, rows: Any) -> tuple[Any, Codegen]:
    """configure(address, rows): start to use tiles, those of weights and sums of so many rows.

    address: of 64 bytes, which are written.
    """
    content = [1, *[0] * 63]  # the first byte is the palette
    content[ROW_BYTES:ROW_COUNTS:2] = [AMX_STEP] * 8 + [0] * 8
    for tile in INPUTS:
        content[ROW_COUNTS + tile] = AMX_STEP // 4

    def gen(builder: Any, args: Any) -> None:
        value = ir.Constant(ir.VectorType(ir.IntType(8), len(content)), content)
        for tile in (*SUMS[0], *SUMS[1], *WEIGHTS):
            place = ir.Constant(ir.IntType(32), ROW_COUNTS + tile)
            value = builder.insert_element(value, builder.trunc(args[1], ir.IntType(8)), place)
        builder.store(value, at(builder, args[0], value.type), align=1)
        _run(builder, ["ldtilecfg ($0)"], args[0])

    return types.void(types.intp, types.intp), gen


@intrinsic
def release() -> tuple[Any, Codegen]:
    """release(): stop using tiles; the system need not save them any more."""

    def gen(builder: Any, args: Any) -> None:
        _run(builder, ["tilerelease"])

    return types.void(), gen


@intrinsic
def clear_sums(blocks: Any, xs: Any) -> tuple[Any, Codegen]:
    """clear_sums(blocks, xs): sums of len(blocks) blocks at len(xs) vectors of positions are 0."""

    def gen(builder: Any, args: Any) -> None:
        _run(
            builder, [f"tilezero %tmm{t}" for row in SUMS[: blocks.count] for t in row[: xs.count]]
        )

    return types.void(blocks, xs), gen


@intrinsic
def add_step(blocks: Any, xs: Any, x: Any, weights: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """add_step(blocks, xs, x, weights, row_bytes): sums plus products of AMX_STEP inputs.

    x: address of the inputs. weights: of the first row's, `row_bytes` to the next.
    """
    places = ("($2,$3)", "($4,$3)")
    lines = [f"tileloadd {VECTOR_BYTES * v}($0,$1), %tmm{INPUTS[v]}" for v in range(xs.count)]
    for block in range(blocks.count):
        lines.append(f"tileloadd {places[block]}, %tmm{WEIGHTS[block]}")
        lines += [
            f"{PRODUCTS} %tmm{INPUTS[v]}, %tmm{WEIGHTS[block]}, %tmm{SUMS[block][v]}"
            for v in range(xs.count)
        ]

    def gen(builder: Any, args: Any) -> None:
        _, _, x, weights, stride = args
        line = ir.Constant(ir.IntType(64), xs.count * VECTOR_BYTES)
        second = builder.add(weights, builder.mul(stride, ir.Constant(stride.type, AMX_ROWS)))
        _run(builder, lines, x, line, weights, stride, second)

    return types.void(blocks, xs, types.intp, types.intp, types.intp), gen


@intrinsic
def store_sums(blocks: Any, xs: Any, target: Any) -> tuple[Any, Codegen]:
    """store_sums(blocks, xs, target): write the sums, channel by channel."""
    line = xs.count * VECTOR_BYTES
    lines = [
        f"tilestored %tmm{SUMS[block][v]}, {block * AMX_ROWS * line + v * VECTOR_BYTES}($0,$1)"
        for block in range(blocks.count)
        for v in range(xs.count)
    ]

    def gen(builder: Any, args: Any) -> None:
        _run(builder, lines, args[2], ir.Constant(ir.IntType(64), line))

    return types.void(blocks, xs, types.intp), gen


@intrinsic
def stored_floats(rows: Any, xs: Any, totals: Any, starts: Any) -> tuple[Any, Codegen]:
    """stored_floats(rows, xs, totals, starts): sums of len(rows) channels by position, as float32.

    totals: address of the sums, as `store_sums` writes them. starts: of an int32 for each channel,
    which is added.
    """
    vec, count = F32.dtype, rows.count * xs.count

    def gen(builder: Any, args: Any) -> Any:
        outputs: list[Any] = []
        for row in range(rows.count):
            start = splat_at(builder, I32.dtype, offset_by(builder, args[3], 4 * row))
            vectors = [
                load_at(builder, I32.dtype, offset_by(builder, args[2], i * VECTOR_BYTES))
                for i in range(row * xs.count, (row + 1) * xs.count)
            ]
            if xs.count == 2:
                vectors = in_order(builder, *vectors)
            outputs += [
                builder.sitofp(builder.add(value, start), llvm_type(vec)) for value in vectors
            ]
        return outputs

    return types.UniTuple(vec, count)(rows, xs, types.intp, types.intp), gen
