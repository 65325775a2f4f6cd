"""Single registers of NEON, 128 bits, and values hidden from LLVM where reordering hurts.

LLVM moves additions of integers, and the loads before them, until 32 registers no longer hold what
is pending; and it folds addresses into offsets that loads of pairs cannot have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir

from bwn.kernels.simd.vectors import (
    Vec,
    at,
    call_function,
    join,
    llvm_type,
    offset_by,
    pick,
)
from bwn.kernels.target.cpu import features

BITS = 128
MOST = 4
"""Registers that one instruction loads or stores."""


def registers_of(builder: Any, value: Any) -> list[Any]:
    """A vector as registers, one after another."""
    element = value.type.element
    lanes = BITS // (32 if isinstance(element, ir.FloatType) else element.width)
    starts = range(0, value.type.count, lanes)
    return [pick(builder, value, range(start, start + lanes)) for start in starts]


def by_register(builder: Any, value: Any, operation: Callable[[Any], Any]) -> Any:
    """What `operation` makes of each register of a vector, one after another in a vector again."""
    return join(builder, [operation(register) for register in registers_of(builder, value)])


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


def after(
    builder: Any, number: Any, values: list[Any], registers: Iterable[int] = ()
) -> tuple[Any, list[Any]]:
    """The same integer and vectors, of which LLVM knows none before the others; for NEON.

    registers: the number of the register of each vector; by default any will do.
    """
    operands = [number, *values]
    kinds = [operand.type for operand in operands]
    kind = ir.FunctionType(ir.LiteralStructType(kinds), kinds)
    outputs = ["=r", *([f"={{v{number}}}" for number in registers] or ["=w"] * len(values))]
    constraints = ",".join([*outputs, *map(str, range(len(operands)))])
    result = builder.call(ir.InlineAsm(kind, "", constraints), operands)
    same = [builder.extract_value(result, i) for i in range(len(operands))]
    return same[0], same[1:]


def store_pair(builder: Any, low: Any, high: Any, address: Any) -> None:
    """Store two registers side by side, for NEON by `st1`, which can move the address on."""
    if "neon" in features():
        store_run(builder, [low, high], address)
        return
    both = join(builder, [low, high])
    builder.store(both, at(builder, address, both.type), align=BITS // 8)


def load_some(
    builder: Any, vec: Vec, address: Any, count: int, step: Any = None
) -> tuple[list[Any], Any]:
    """Up to MOST registers in a row and the next address, by one instruction of NEON.

    step: bytes to the next address, unknown to LLVM; None: it is that after the registers.
    """
    kind = llvm_type(vec)
    if count == 1:
        values = [builder.load(at(builder, address, kind), align=BITS // 8)]
    else:
        name = f"llvm.aarch64.neon.ld1x{count}.{_suffix(kind)}.p0"
        kinds = ir.LiteralStructType([kind] * count)
        loaded = call_function(builder, name, kinds, at(builder, address, ir.IntType(8)))
        values = [builder.extract_value(loaded, i) for i in range(count)]
    if step is None:
        step = ir.Constant(ir.IntType(64), count * BITS // 8)
    return values, hidden(builder, builder.add(address, step))


def load_run(builder: Any, vec: Vec, address: Any, count: int) -> list[Any]:
    """Registers in a row; for NEON."""
    values: list[Any] = []
    while len(values) < count:
        some, address = load_some(builder, vec, address, min(MOST, count - len(values)))
        values += some
    return values


def store_run(builder: Any, values: list[Any], address: Any) -> None:
    """Store registers in a row; for NEON."""
    while values:
        some, values = values[:MOST], values[MOST:]
        name = f"llvm.aarch64.neon.st1x{len(some)}.{_suffix(some[0].type)}.p0"
        if len(some) == 1:
            builder.store(some[0], at(builder, address, some[0].type), align=BITS // 8)
        else:
            call_function(builder, name, ir.VoidType(), *some, at(builder, address, ir.IntType(8)))
        address = hidden(builder, offset_by(builder, address, len(some) * BITS // 8))


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


def _suffix(kind: Any) -> str:
    """How LLVM's intrinsics name a type of vectors."""
    element = "f32" if isinstance(kind.element, ir.FloatType) else f"i{kind.element.width}"
    return f"v{kind.count}{element}"


def _through(builder: Any, value: Any, register: str) -> Any:
    kind = ir.FunctionType(value.type, [value.type])
    return builder.call(ir.InlineAsm(kind, "", f"={register},0"), [value])
