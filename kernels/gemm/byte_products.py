"""Four products of bytes added to each int32 lane, as each CPU does it best.

    total[p] += sum_j x[4 * p + j] * w[j],    j = 0 ... 3

| form | instructions for 16 bytes of x | what x is |
|---|---|---|
| `vpdpbusd` of AVX-512 VNNI and AVX-VNNI | 1 for 64 or 32 bytes | unsigned |
| `sdot` of ARM | 1 | signed |
| NEON: `smull`, `smlal`, `sadalp` | 3 | signed, the first two of all positions, then the others |
| AVX2: `vpsignb`, `vpmaddubsw`, `vpmaddwd`, `vpaddd` | 4 for 32 bytes | signed |
| shifts and products of 16 bits | 11 | signed |

None saturates: two products of numbers within +-127 fit an int16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from bwn.kernels.gemm.tiles import dots_form
from bwn.kernels.simd.vectors import (
    I8,
    at,
    call_function,
    join,
    lanes_of,
    llvm_type,
    offset_by,
    pick,
)
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.cpu import features

FORM = dots_form()
PAIRS = FORM == "smlal"
"""Whether inputs lie in pairs, those of 16 positions before the next two of these positions."""
WIDTH = 1 if "avx512vnni" in features() else 2 if "avx2" in features() else 4
"""Registers of a vector."""
I16_8, I16_16, I16_32 = (ir.VectorType(ir.IntType(16), lanes) for lanes in (8, 16, 32))
I32_4, I32_8, I32_16 = (ir.VectorType(ir.IntType(32), lanes) for lanes in (4, 8, 16))
I8_16 = ir.VectorType(ir.IntType(8), 16)

Factors = list[Any]
"""LLVM values of four weights, as `dot` takes them."""


def interleaved(builder: Any, xs: list[Any]) -> list[Any]:
    """Inputs of 4 k, 4 bytes a position, in vectors of as many bytes as those of `xs`.

    Within each 16 bytes of an input, so that no byte crosses a register's lane of 128 bits.
    """
    lanes = xs[0].type.count

    def pairs(a: Any, b: Any, width: int, start: int) -> Any:
        """Elements of `width` bytes of a and b in turn, from `start` on in each 16 bytes."""
        picks: list[int] = []
        for lane in range(start, lanes, 16):
            for first in range(lane, lane + 8, width):
                pair = range(first, first + width)
                picks += [*pair, *(lanes + i for i in pair)]
        return builder.shuffle_vector(a, b, lanes_of(picks))

    low, high = ([pairs(a, b, 1, half) for half in (0, 8)] for a, b in (xs[:2], xs[2:]))
    if PAIRS:
        return [*low, *high]
    return [pairs(low[half], high[half], 2, quarter) for half in range(2) for quarter in (0, 8)]


def four_weights(builder: Any, address: Any) -> Factors:
    """Four weights at an address."""
    if PAIRS:
        return [
            builder.bitcast(_splat(builder, I16_8, offset_by(builder, address, start)), I8_16)
            for start in (0, 2)
        ]
    return [builder.bitcast(_splat(builder, I32_16, address), llvm_type(I8.dtype))]


def four_of(builder: Any, sixteen: Any, number: int) -> Factors:
    """Four of the 16 weights in a register."""
    if PAIRS:
        pairs = builder.bitcast(sixteen, I16_8)
        lanes = (2 * number, 2 * number + 1)
        return [builder.bitcast(pick(builder, pairs, [lane] * 8), I8_16) for lane in lanes]
    every = pick(builder, builder.bitcast(sixteen, I32_4), [number] * LANES)
    return [builder.bitcast(every, llvm_type(I8.dtype))]


def dot(builder: Any, total: Any, inputs: Any, factors: Factors) -> Any:
    """LLVM value: each int32 of `total` plus four products of inputs by weights."""
    return DOTS[FORM](builder, total, inputs, factors)


def _splat(builder: Any, kind: Any, address: Any) -> Any:
    number = builder.load(at(builder, address, kind.element), align=1)
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, zero)
    return pick(builder, first, [0] * kind.count)


def _by_parts(instruction: Callable[..., Any]) -> Callable[..., Any]:
    """A `dot` that works register by register."""

    def dot(builder: Any, total: Any, inputs: Any, factors: Factors) -> Any:
        sums = [
            instruction(builder, *(_part(builder, v, i, WIDTH) for v in (total, inputs, *factors)))
            for i in range(WIDTH)
        ]
        return join(builder, sums)

    return dot


def _part(builder: Any, value: Any, index: int, parts: int) -> Any:
    """LLVM value: one of equal parts of a vector."""
    count = value.type.count // parts
    return pick(builder, value, range(index * count, (index + 1) * count))


def _vpdpbusd(builder: Any, total: Any, inputs: Any, weights: Any) -> Any:
    name = f"llvm.x86.avx512.vpdpbusd.{32 * total.type.count}"
    return call_function(builder, name, total.type, total, inputs, weights)


def sdot(builder: Any, total: Any, inputs: Any, weights: Any) -> Any:
    """Of a register; for ARM."""
    return call_function(
        builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", I32_4, total, inputs, weights
    )


def _vpmaddubsw(builder: Any, total: Any, inputs: Any, weights: Any) -> Any:
    """|w| * (x with the sign of w): the first factor is unsigned."""
    kind = weights.type
    negative = builder.icmp_signed("<", weights, ir.Constant(kind, None))
    size = builder.select(negative, builder.neg(weights), weights)
    signed = call_function(builder, "llvm.x86.avx2.psign.b", kind, inputs, weights)
    pairs = call_function(builder, "llvm.x86.avx2.pmadd.ub.sw", I16_16, size, signed)
    ones = ir.Constant(I16_16, [1] * 16)
    return builder.add(total, call_function(builder, "llvm.x86.avx2.pmadd.wd", I32_8, pairs, ones))


def _smlal(builder: Any, total: Any, inputs: Any, factors: Factors) -> Any:
    """Of 16 positions: two products in int16, those of 8 positions in a register, then all four."""

    def half(value: Any, index: int) -> Any:
        return builder.sext(_part(builder, value, index, 2), I16_8)

    registers = [_part(builder, inputs, i, 4) for i in range(4)]
    sums: list[Any] = []
    for eight in range(2):
        for index in range(2):
            first, second = (
                builder.mul(half(registers[eight + 2 * pair], index), half(factors[pair], index))
                for pair in range(2)
            )
            pairs = builder.add(first, second)
            four = call_function(builder, "llvm.aarch64.neon.saddlp.v4i32.v8i16", I32_4, pairs)
            sums.append(builder.add(_part(builder, total, len(sums), 4), four))
    return join(builder, sums)


def _portable(builder: Any, total: Any, inputs: Any, factors: Factors) -> Any:
    def split(value: Any, kind: Any) -> tuple[Any, Any]:
        """The lower and the upper half of each element, with its sign."""
        elements = builder.bitcast(value, kind)
        by = ir.Constant(kind, [kind.element.width // 2] * kind.count)
        return builder.ashr(builder.shl(elements, by), by), builder.ashr(elements, by)

    products = [
        builder.mul(x, w)
        for x, w in zip(split(inputs, I16_32), split(factors[0], I16_32), strict=True)
    ]
    low, high = split(builder.add(*products), I32_16)
    return builder.add(builder.add(total, low), high)


DOTS: dict[str, Callable[..., Any]] = {
    "vpdpbusd": _by_parts(_vpdpbusd),
    "sdot": _by_parts(sdot),
    "smlal": _smlal,
    "vpmaddubsw": _by_parts(_vpmaddubsw),
    "portable": _portable,
}
