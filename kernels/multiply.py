"""Products of float32 weights and planes of activations: layers that are not binary.

    sum[n, p] = sum_k w[n, k] * x[offset[k] + p]

Positions stand in the lanes; a tile of output channels stays in registers for all of k.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from bwn.kernels.compiler import helper
from bwn.kernels.cpu import CHANNELS
from bwn.kernels.finish import LANES, PRODUCT_COUNT, clear_margins, finish, steps_at
from bwn.kernels.lookup import no_sums
from bwn.kernels.memory import fields, get_i64
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
def tile(sums, x, offsets, depth, row, row_bytes, totals):
    """Totals of as many rows as there are sums, over one block of positions."""
    for k in range(depth):
        sums = multiply(sums, load(F32, x, get_i64(offsets, k)), row + k * 4, row_bytes)
    put_all(totals, sums)


def f32_f32_f32_planes_multiply(p, begin, end, part):
    """float32 activations and weights. A unit is one block of 16 positions of one group of one image."""
    (
        x, x_image, x_group, weights, row_words, depth, offsets, images, groups, outputs, positions,
        out, out_image, out_plane, out_lead, mask, scale, bias, bounds, steps, steps_per_lane, scratch, scratch_part,
    ) = fields(p, PRODUCT_COUNT)  # fmt: skip
    totals = scratch + part * scratch_part
    blocks = (positions + LANES - 1) // LANES
    for unit in range(begin, end):
        block, group, image = unit % blocks, unit // blocks % groups, unit // (blocks * groups)
        first = block * LANES
        at_x = x + (image * x_image + group * x_group + first) * 4
        rows = weights + group * outputs * row_words * 4
        n = 0
        while n + CHANNELS <= outputs:
            row = rows + n * row_words * 4
            tile(no_sums(F32, CHANNELS), at_x, offsets, depth, row, row_words * 4, totals + n * VECTOR_BYTES)
            n += CHANNELS
        while n < outputs:
            row = rows + n * row_words * 4
            tile(no_sums(F32, 1), at_x, offsets, depth, row, row_words * 4, totals + n * VECTOR_BYTES)
            n += 1
        step = steps_at(steps, image, first, steps_per_lane)
        for n in range(outputs):
            channel = group * outputs + n
            plane = out + (image * out_image + channel * out_plane) * 4
            here = plane + (out_lead + first) * 4
            finish(load(F32, totals, n * LANES), here, mask + first * 4, scale, bias, bounds, channel, step)
            clear_margins(plane, out_plane, out_lead, positions, block == 0, block == blocks - 1)
