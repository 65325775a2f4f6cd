"""The epilogue of a tile of sums in registers: rows of channels, unrolled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.epilogue import out_plane
from bwn.kernels.simd.arithmetic import fma_value
from bwn.kernels.simd.quantizing import masked_value, quantized_value
from bwn.kernels.simd.scalars import get_f32
from bwn.kernels.simd.vectors import I32, Vec, at, load_at, offset_by, splat_at, splat_value
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@helper
def write_tile(f: Any, sums: Any, xs: Any, image: int, n: int, position: int) -> None:
    """Write outputs from sums of channels n on, each as many vectors as xs, where `is_plain` is."""
    out, mask = out_plane(f, image, n), f.mask + position * 4
    scale, bias, x_scale = f.scale + n * 4, f.bias + n * 4, get_f32(f.x_scales, image)
    index = f.out_lead + position
    if f.rounding != 0:
        out += index
        end_tile_in_bytes(sums, xs, out, f.out_plane, mask, scale, bias, x_scale, f.rounding)
    else:
        out += index * 4
        end_tile(sums, xs, out, f.out_plane * 4, mask, scale, bias, x_scale, f.bounds)


@intrinsic
def end_tile(
    sums: Any, xs: Any, out: Any, plane: Any, mask: Any, scale: Any, bias: Any, x_scale: Any,
    bounds: Any,
) -> tuple[Any, Codegen]:  # fmt: skip
    """end_tile(sums, xs, ...): scale, bound and write a tile of rows of as many vectors as xs.

    out, mask: address of the first output, and of its mask. plane: bytes from one row of outputs to
    the next. scale, bias: addresses of the first row's. x_scale: float32. bounds: address of both.
    """
    vec = sums.dtype

    def gen(builder: Any, args: Any) -> None:
        low, high = (splat_at(builder, vec, offset_by(builder, args[8], 4 * i)) for i in range(2))
        starts = [v * VECTOR_BYTES for v in range(xs.count)]
        masks = [
            load_at(builder, I32.dtype, offset_by(builder, args[4], start)) for start in starts
        ]
        for y, out, v in _scaled(builder, vec, xs.count, args):
            y = builder.select(builder.fcmp_ordered(">", low, y), low, y)
            y = builder.select(builder.fcmp_ordered("<", high, y), high, y)
            bits = builder.and_(builder.bitcast(y, masks[v].type), masks[v])
            builder.store(bits, at(builder, offset_by(builder, out, starts[v]), bits.type), align=4)

    return types.void(sums, xs, *[types.intp] * 5, types.float32, types.intp), gen


@intrinsic
def end_tile_in_bytes(
    sums: Any, xs: Any, out: Any, plane: Any, mask: Any, scale: Any, bias: Any, x_scale: Any,
    rounding: Any,
) -> tuple[Any, Codegen]:  # fmt: skip
    """end_tile_in_bytes(sums, xs, ...): the same for 8-bit outputs.

    rounding: address of their scale, its reciprocal, what that lacks, the least and the greatest
    output before rounding, and what outputs are stored less.
    """
    vec = sums.dtype

    def gen(builder: Any, args: Any) -> None:
        reciprocal, rest, low, high = (
            splat_at(builder, vec, offset_by(builder, args[8], 4 * i)) for i in range(1, 5)
        )
        middle = builder.load(at(builder, offset_by(builder, args[8], 20), ir.FloatType()), align=4)
        middle = builder.fptosi(middle, ir.IntType(32))
        less = builder.neg(builder.trunc(middle, ir.IntType(8)))
        otherwise = splat_value(builder, Vec(types.int8, vec.lanes), less)
        masks = [
            load_at(builder, I32.dtype, offset_by(builder, args[4], v * VECTOR_BYTES))
            for v in range(xs.count)
        ]
        for y, out, v in _scaled(builder, vec, xs.count, args):
            octets = quantized_value(builder, y, low, high, reciprocal, rest, middle)
            octets = masked_value(builder, octets, masks[v], otherwise)
            pointer = at(builder, offset_by(builder, out, v * vec.lanes), octets.type)
            builder.store(octets, pointer, align=1)

    return types.void(sums, xs, *[types.intp] * 5, types.float32, types.intp), gen


def _scaled(builder: Any, vec: Vec, vectors: int, args: Any) -> Iterator[tuple[Any, Any, int]]:
    """Each vector times its row's scale, plus its bias; its row's address, and its number there."""
    totals, _, out, plane, _, scale, bias, x_scale, _ = args
    factor = splat_value(builder, vec, x_scale)
    for row in range(totals.type.count // vectors):
        a = builder.fmul(splat_at(builder, vec, offset_by(builder, scale, 4 * row)), factor)
        b = splat_at(builder, vec, offset_by(builder, bias, 4 * row))
        for v in range(vectors):
            total = builder.extract_value(totals, row * vectors + v)
            yield fma_value(builder, total, a, b), out, v
        out = builder.add(out, plane)
