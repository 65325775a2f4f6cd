"""Single registers of NEON, 128 bits, and values hidden from LLVM where reordering hurts.

LLVM moves additions of integers, and the loads before them, until 32 registers no longer hold what
is pending; and it folds addresses into offsets that loads of pairs cannot have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from bwn.kernels.simd.vectors import at, call_function, join, pick
from bwn.kernels.target.cpu import features

BITS = 128


def by_register(builder: Any, value: Any, operation: Callable[[Any], Any]) -> Any:
    """What `operation` makes of each register of a vector, one after another in a vector again."""
    element = value.type.element
    lanes = BITS // (32 if isinstance(element, ir.FloatType) else element.width)
    starts = range(0, value.type.count, lanes)
    registers = [pick(builder, value, range(start, start + lanes)) for start in starts]
    return join(builder, [operation(register) for register in registers])


def hidden(builder: Any, value: Any) -> Any:
    """The same integer or vector, for NEON through empty assembly: nothing is moved across it."""
    if "neon" not in features():
        return value
    if isinstance(value.type, ir.IntType):
        return opaque(builder, value)
    return by_register(builder, value, lambda part: _through(builder, part, "w"))


def opaque(builder: Any, number: Any) -> Any:
    """The same integer, of which LLVM does not know how it was made, on every machine."""
    return _through(builder, number, "r")


def store_pair(builder: Any, low: Any, high: Any, address: Any) -> None:
    """Store two registers side by side, for NEON by `st1`, which can move the address on."""
    kind = low.type
    if "neon" in features():
        element = "f32" if isinstance(kind.element, ir.FloatType) else f"i{kind.element.width}"
        name = f"llvm.aarch64.neon.st1x2.v{kind.count}{element}.p0"
        place = at(builder, address, ir.IntType(8))
        call_function(builder, name, ir.VoidType(), low, high, place)
        return
    both = join(builder, [low, high])
    builder.store(both, at(builder, address, both.type), align=BITS // 8)


def add_neighbours(builder: Any, value: Any) -> Any:
    """Sums of neighbouring unsigned lanes, in lanes twice as wide."""

    def added(part: Any) -> Any:
        wide = ir.VectorType(ir.IntType(2 * part.type.element.width), part.type.count // 2)
        kinds = ".".join(f"v{kind.count}i{kind.element.width}" for kind in (wide, part.type))
        return call_function(builder, f"llvm.aarch64.neon.uaddlp.{kinds}", wide, part)

    if "neon" in features():
        return by_register(builder, value, added)
    width = value.type.element.width
    wide = ir.VectorType(ir.IntType(2 * width), value.type.count // 2)
    pairs = builder.bitcast(value, wide)
    low, by = (ir.Constant(wide, [number] * wide.count) for number in (2**width - 1, width))
    return builder.add(builder.and_(pairs, low), builder.lshr(pairs, by))


def _through(builder: Any, value: Any, register: str) -> Any:
    kind = ir.FunctionType(value.type, [value.type])
    return builder.call(ir.InlineAsm(kind, "", f"={register},0"), [value])
