"""Vector types for Numba: a fixed number of lanes that LLVM lowers to AVX2, AVX-512 or NEON
registers.

A kernel names a type (F32, I16, ...) and an address (an integer), and reads like its algorithm:

    total = load(F32, x, i) + load(F32, y, i)
    store(out, i, total)

Indices count elements, not bytes. Loads and stores need no alignment and check no bounds. A whole
vector is 64 bytes: 16 float32, 32 int16, 64 int8, so one register of AVX-512, two of AVX2, four of
NEON.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model

from bwn.kernels.target.jit import Codegen, intrinsic


class Vec(types.Type):
    """Numba type of a vector of `lanes` elements."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vec({element},{lanes})")


_ELEMENTS = {
    types.float32: ir.FloatType(),
    types.int64: ir.IntType(64),
    types.int32: ir.IntType(32),
    types.int16: ir.IntType(16),
    types.int8: ir.IntType(8),
}


def llvm_type(vec: Vec) -> ir.VectorType:
    """The LLVM type of a vector."""
    return ir.VectorType(_ELEMENTS[vec.element], vec.lanes)


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vec: Vec) -> None:
        super().__init__(manager, vec, llvm_type(vec))


def marker(element: Any, lanes: int) -> Any:
    """What kernels name a vector type by: a global of this kind is a constant to Numba."""
    return types.NumberClass(Vec(element, lanes))


F32 = marker(types.float32, 16)
I32 = marker(types.int32, 16)
I16 = marker(types.int16, 32)
I8 = marker(types.int8, 64)
I32_64 = marker(types.int32, 64)
"""What goes with as many int8."""
# Narrow vectors, for rows that are short.
F32_4 = marker(types.float32, 4)
I32_4 = marker(types.int32, 4)
I8_16 = marker(types.int8, 16)
I8_4 = marker(types.int8, 4)
# One register of NEON.
I16_8 = marker(types.int16, 8)
I16_16 = marker(types.int16, 16)
# One register of AVX2.
F32_HALF = marker(types.float32, 8)
I32_HALF = marker(types.int32, 8)
I8_HALF = marker(types.int8, 32)
I64 = marker(types.int64, 8)


def at(builder: Any, address: Any, kind: Any) -> Any:
    """Pointer to `kind` at an integer address."""
    return builder.inttoptr(address, kind.as_pointer())


def offset_by(builder: Any, address: Any, count: int) -> Any:
    """LLVM value of the address `count` bytes further."""
    return builder.add(address, ir.Constant(ir.IntType(64), count))


def call_function(
    builder: Any, name: str, returns: Any, *operands: Any, fastmath: tuple[str, ...] = ()
) -> Any:
    """LLVM value that a function returns, an intrinsic of LLVM or a function of the system."""
    kind = ir.FunctionType(returns, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, operands, fastmath=fastmath)


def lanes_of(numbers: Sequence[int]) -> Any:
    """The lanes that a shuffle takes, as LLVM's constant."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))


def pick(builder: Any, value: Any, lanes: Sequence[int]) -> Any:
    """LLVM value of these lanes of a vector."""
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), lanes_of(lanes))


def join(builder: Any, parts: Sequence[Any]) -> Any:
    """LLVM value of vectors of one type in a row; their number is a power of two."""
    while len(parts) > 1:
        order = lanes_of(range(2 * parts[0].type.count))
        parts = [
            builder.shuffle_vector(low, high, order)
            for low, high in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def load_at(builder: Any, vec: Vec, address: Any) -> Any:
    """Unaligned vector load at an integer address."""
    return builder.load(at(builder, address, llvm_type(vec)), align=1)


def splat_at(builder: Any, vec: Vec, address: Any) -> Any:
    """LLVM value of the 4-byte element at an address, in every lane."""
    return splat_value(
        builder, vec, builder.load(at(builder, address, llvm_type(vec).element), align=4)
    )


def element_address(builder: Any, element: Any, address: Any, index: Any) -> Any:
    """LLVM value of the address of element `index`."""
    size = ir.Constant(ir.IntType(64), element.bitwidth // 8)
    return builder.add(address, builder.mul(index, size))


@intrinsic
def load(kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """load(F32, address, index): the vector that starts at element `index`."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        return load_at(builder, vec, element_address(builder, vec.element, args[1], args[2]))

    return vec(kind, types.intp, types.intp), gen


@intrinsic
def get(kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """get(F32, address, index): element `index` alone."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        where = element_address(builder, vec.element, args[1], args[2])
        return builder.load(at(builder, where, llvm_type(vec).element), align=1)

    return vec.element(kind, types.intp, types.intp), gen


@intrinsic
def store(address: Any, index: Any, value: Any) -> tuple[Any, Codegen]:
    """store(address, index, vector): write it from element `index` on."""

    def gen(builder: Any, args: Any) -> None:
        where = element_address(builder, value.element, args[0], args[1])
        builder.store(args[2], at(builder, where, llvm_type(value)), align=1)

    return types.void(types.intp, types.intp, value), gen


@intrinsic
def zero(kind: Any) -> tuple[Any, Codegen]:
    """zero(F32): all lanes 0."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        return ir.Constant(llvm_type(vec), None)

    return vec(kind), gen


@intrinsic
def zeros(kind: Any, count: Any) -> tuple[Any, Codegen] | None:
    """zeros(F32, 4): a tuple of 4 zero vectors."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def gen(builder: Any, args: Any) -> Any:
        return [ir.Constant(llvm_type(kind.dtype), None)] * count.literal_value

    return types.UniTuple(kind.dtype, count.literal_value)(kind, count), gen


@intrinsic
def splat(kind: Any, value: Any) -> tuple[Any, Codegen]:
    """splat(F32, x): x in every lane."""
    vec = kind.dtype

    def gen(builder: Any, args: Any) -> Any:
        return splat_value(builder, vec, args[1])

    return vec(kind, vec.element), gen


@intrinsic
def like(example: Any, value: Any) -> tuple[Any, Codegen]:
    """like(x, 3.0): 3.0 as float32, in every lane where x is a vector of float32."""

    def gen(builder: Any, args: Any) -> Any:
        return splat_value(builder, example, args[1]) if isinstance(example, Vec) else args[1]

    return example(example, types.float32), gen


def splat_value(builder: Any, vec: Vec, value: Any) -> Any:
    """LLVM value with `value` in every lane."""
    empty = ir.Constant(llvm_type(vec), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    return pick(builder, first, [0] * vec.lanes)


def add(builder: Any, vec: Vec, a: Any, b: Any) -> Any:
    """LLVM value a + b."""
    return builder.fadd(a, b) if isinstance(vec.element, types.Float) else builder.add(a, b)


def sub(builder: Any, vec: Vec, a: Any, b: Any) -> Any:
    """LLVM value a - b."""
    return builder.fsub(a, b) if isinstance(vec.element, types.Float) else builder.sub(a, b)


def _mul(builder: Any, vec: Vec, a: Any, b: Any) -> Any:
    return builder.fmul(a, b) if isinstance(vec.element, types.Float) else builder.mul(a, b)


def _operator(function: Callable[..., Any], build: Callable[..., Any]) -> None:
    @infer_global(function)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vec) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, Vec, Vec)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return build(builder, sig.return_type, *args)


_operator(operator.add, add)
_operator(operator.iadd, add)
_operator(operator.sub, sub)
_operator(operator.mul, _mul)
_operator(operator.truediv, lambda builder, vec, a, b: builder.fdiv(a, b))


@infer_global(operator.neg)
class _Negation(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], *args) if isinstance(args[0], Vec) else None


@lower_builtin(operator.neg, Vec)
def _negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return (
        builder.fneg(args[0])
        if isinstance(sig.return_type.element, types.Float)
        else builder.neg(args[0])
    )


@intrinsic
def store_bytes(address: Any, index: Any, value: Any, mask: Any) -> tuple[Any, Codegen]:
    """store_bytes(address, index, v, mask): int32 lanes as int8 from `index` on, 0 off the mask."""
    small = ir.VectorType(ir.IntType(8), value.lanes)

    def gen(builder: Any, args: Any) -> None:
        octets = builder.trunc(builder.and_(args[2], args[3]), small)
        builder.store(octets, at(builder, builder.add(args[0], args[1]), small), align=1)

    return types.void(types.intp, types.intp, value, mask), gen


@intrinsic
def load_bytes(address: Any, index: Any) -> tuple[Any, Codegen]:
    """load_bytes(address, index): 16 int8 from element `index` on, as float32 lanes."""
    vec = F32.dtype

    def gen(builder: Any, args: Any) -> Any:
        octets = load_at(builder, Vec(types.int8, vec.lanes), builder.add(args[0], args[1]))
        return builder.sitofp(octets, llvm_type(vec))

    return vec(types.intp, types.intp), gen
