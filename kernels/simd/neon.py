"""Single registers of NEON, 128 bits, and values hidden from LLVM where reordering hurts.

LLVM moves additions of integers, and the loads before them, until 32 registers no longer hold what
is pending; and it folds addresses into offsets that loads of pairs cannot have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from bwn.kernels.target.cpu import features

BITS = 128


def by_register(builder: Any, value: Any, operation: Callable[[Any], Any]) -> Any:
    """What `operation` makes of each register of a vector, one after another in a vector again."""
    element = value.type.element
    lanes = BITS // (32 if isinstance(element, ir.FloatType) else element.width)
    empty = ir.Constant(value.type, ir.Undefined)
    parts = [
        operation(builder.shuffle_vector(value, empty, lanes_of(range(start, start + lanes))))
        for start in range(0, value.type.count, lanes)
    ]
    while len(parts) > 1:
        parts = [
            builder.shuffle_vector(low, high, lanes_of(range(2 * low.type.count)))
            for low, high in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def hidden(builder: Any, value: Any) -> Any:
    """The same integer or vector, for NEON through empty assembly: nothing is moved across it."""
    if "neon" not in features():
        return value
    if isinstance(value.type, ir.IntType):
        return _through(builder, value, "r")
    return by_register(builder, value, lambda part: _through(builder, part, "w"))


def store_pair(builder: Any, low: Any, high: Any, address: Any) -> None:
    """Store two registers side by side, for NEON by `st1`, which can move the address on."""
    kind = low.type
    if "neon" in features():
        element = "f32" if isinstance(kind.element, ir.FloatType) else f"i{kind.element.width}"
        name = f"llvm.aarch64.neon.st1x2.v{kind.count}{element}.p0"
        octet = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), (kind, kind, octet)), name
        )
        builder.call(function, (low, high, builder.inttoptr(address, octet)))
        return
    both = builder.shuffle_vector(low, high, lanes_of(range(2 * kind.count)))
    builder.store(both, builder.inttoptr(address, both.type.as_pointer()), align=BITS // 8)


def add_neighbours(builder: Any, value: Any) -> Any:
    """Sums of neighbouring unsigned lanes, in lanes twice as wide."""

    def added(part: Any) -> Any:
        wide = ir.VectorType(ir.IntType(2 * part.type.element.width), part.type.count // 2)
        kinds = ".".join(f"v{kind.count}i{kind.element.width}" for kind in (wide, part.type))
        name = f"llvm.aarch64.neon.uaddlp.{kinds}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(wide, (part.type,)), name
        )
        return builder.call(function, (part,))

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


def lanes_of(numbers: Sequence[int]) -> Any:
    """The lanes that a shuffle takes, as LLVM's constant."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))
