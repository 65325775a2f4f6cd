"""Vectors and the packed words of `bits.py`: lanes that take the sign of a bit, bits counted."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.simd.vectors import Vec, call_function, pick
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic


def _lanes_of_bits(builder: Any, bits: Any, vec: Vec) -> Any:
    """LLVM value: for each lane of `vec` an i1, bit i of the word for lane i."""
    count, width = vec.lanes, vec.element.bitwidth
    if not features() & {"neon", "simd128"}:
        word = builder.trunc(bits, ir.IntType(count)) if count < 64 else bits
        return builder.bitcast(word, ir.VectorType(ir.IntType(1), count))
    # For NEON and WebAssembly LLVM takes a word of i1 apart bit by bit. So each lane gets the piece
    # of the word, as wide as an element, that its bit lies in, and tests the bit: on NEON a quarter
    # of the instructions.
    pieces = ir.VectorType(ir.IntType(width), 64 // width)
    lanes = ir.VectorType(ir.IntType(width), count)
    tests = ir.Constant(lanes, [1 << i % width for i in range(count)])
    spread = pick(builder, builder.bitcast(bits, pieces), [i // width for i in range(count)])
    return builder.icmp_unsigned("!=", builder.and_(spread, tests), ir.Constant(lanes, None))


def popcount_lanes(builder: Any, value: Any) -> Any:
    """LLVM value: how many bits of each integer lane are 1."""
    kind = value.type
    name = f"llvm.ctpop.v{kind.count}i{kind.element.width}"
    return call_function(builder, name, kind, value)


@intrinsic
def signed(value: Any, bits: Any) -> tuple[Any, Codegen]:
    """signed(v, bits): lane i of v where bit i of `bits` is 1, else its negative."""

    def gen(builder: Any, args: Any) -> Any:
        negative = (
            builder.fneg(args[0])
            if isinstance(value.element, types.Float)
            else builder.neg(args[0])
        )
        return builder.select(_lanes_of_bits(builder, args[1], value), args[0], negative)

    return value(value, types.uint64), gen
