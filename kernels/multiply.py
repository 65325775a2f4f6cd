"""Products of float32 weights and planes of activations: layers that are not binary.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p]

Positions stand in the lanes; a tile of output channels stays in registers for all of k.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.compiler import helper, intrinsic
from bwn.kernels.cpu import CHANNELS
from bwn.kernels.finish import LANES, clear_margins, finish, product_fields, steps_at
from bwn.kernels.lookup import no_sums
from bwn.kernels.memory import get_i64
from bwn.kernels.vectors import F32, VECTOR_BYTES, Codegen, at, fma_value, llvm_type, load, splat_value


def scratch_bytes(outputs: int, depth: int) -> int:
    """Scratch that one part needs: one vector of totals a row."""
    return outputs * VECTOR_BYTES


@intrinsic
def multiply(_: Any, sums: Any, x: Any, weights: Any, row_bytes: Any) -> tuple[Any, Codegen]:
    """multiply(sums, x, weights, row_bytes): sums[m] + x * weight of row m, for as many rows as there are sums."""
    vec = sums.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where, totals = args[2], []
        for m in range(sums.count):
            weight = splat_value(builder, vec, builder.load(at(builder, where, ir.FloatType()), align=4))
            totals.append(fma_value(builder, vec, args[1], weight, builder.extract_value(args[0], m)))
            where = builder.add(where, args[3])
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, x, types.intp, types.intp), gen


@intrinsic
def put_all(_: Any, address: Any, sums: Any) -> tuple[Any, Codegen]:
    """put_all(address, sums): write the vectors one after another."""
    vec = sums.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for m in range(sums.count):
            where = builder.add(args[0], ir.Constant(ir.IntType(64), m * VECTOR_BYTES))
            builder.store(builder.extract_value(args[1], m), at(builder, where, llvm_type(vec)), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, sums), gen


@helper
def tile(sums: Any, x: int, offsets: int, depth: int, rows: int, row_bytes: int, totals: int) -> None:
    """Totals of as many rows as there are sums, over one block of positions."""
    for k in range(depth):
        sums = multiply(sums, load(F32, x, get_i64(offsets, k)), rows + k * 4, row_bytes)
    put_all(totals, sums)


def f32_f32_f32_planes_multiply(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations and weights. A unit is one block of 16 positions of one group of one image."""
    f = product_fields(p)
    totals, row_bytes = f.scratch + part * f.scratch_part, f.row_words * 4
    blocks = (f.positions + LANES - 1) // LANES
    for unit in range(begin, end):
        block, group, image = unit % blocks, unit // blocks % f.groups, unit // (blocks * f.groups)
        first, channel = block * LANES, group * f.outputs
        x = f.x + (image * f.x_image + group * f.x_group + first) * 4
        n, rows = 0, f.words + channel * row_bytes
        while n + CHANNELS <= f.outputs:
            none = no_sums(F32, CHANNELS)
            tile(none, x, f.offsets, f.depth, rows + n * row_bytes, row_bytes, totals + n * VECTOR_BYTES)
            n += CHANNELS
        while n < f.outputs:
            tile(no_sums(F32, 1), x, f.offsets, f.depth, rows + n * row_bytes, row_bytes, totals + n * VECTOR_BYTES)
            n += 1
        for n in range(f.outputs):
            plane = f.out + (image * f.out_image + (channel + n) * f.out_plane) * 4
            finish(f, load(F32, totals, n * LANES), plane, first, channel + n, steps_at(f, image, first))
            clear_margins(f, plane, block == 0, block == blocks - 1)
