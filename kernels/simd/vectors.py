"""Vector types for Numba: a fixed number of lanes that LLVM lowers to AVX2, AVX-512 or NEON registers.

A kernel names a type (F32, I16, ...) and an address (an integer), and reads like its algorithm:

    total = load(F32, x, i) + load(F32, y, i)
    store(out, i, total)

Indices count elements, not bytes. Loads and stores need no alignment and check no bounds. A whole vector is 64
bytes: 16 float32, 32 int16, 64 int8, so one register of AVX-512, two of AVX2, four of NEON.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model

from bwn.kernels.target.jit import intrinsic


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
# Narrow vectors, for rows that are short.
F32_4 = marker(types.float32, 4)
I32_4 = marker(types.int32, 4)
I8_16 = marker(types.int8, 16)
I8_4 = marker(types.int8, 4)
# One register of AVX2.
F32_HALF = marker(types.float32, 8)
I8_HALF = marker(types.int8, 32)
I64 = marker(types.int64, 8)

Codegen = Callable[[Any, Any, Any, Any], Any]


def at(builder: Any, address: Any, kind: Any) -> Any:
    """Pointer to `kind` at an integer address."""
    return builder.inttoptr(address, kind.as_pointer())


def load_at(builder: Any, vec: Vec, address: Any) -> Any:
    """Unaligned vector load at an integer address."""
    return builder.load(at(builder, address, llvm_type(vec)), align=1)


def element_address(builder: Any, element: Any, address: Any, index: Any) -> Any:
    """LLVM value of the address of element `index`."""
    size = ir.Constant(ir.IntType(64), element.bitwidth // 8)
    return builder.add(address, builder.mul(index, size))


@intrinsic
def load(_: Any, kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """load(F32, address, index): the vector that starts at element `index`."""
    vec = kind.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_at(builder, vec, element_address(builder, vec.element, args[1], args[2]))

    return vec(kind, types.intp, types.intp), gen


@intrinsic
def get(_: Any, kind: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """get(F32, address, index): element `index` alone."""
    vec = kind.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = element_address(builder, vec.element, args[1], args[2])
        return builder.load(at(builder, where, llvm_type(vec).element), align=1)

    return vec.element(kind, types.intp, types.intp), gen


@intrinsic
def store(_: Any, address: Any, index: Any, value: Any) -> tuple[Any, Codegen]:
    """store(address, index, vector): write it from element `index` on."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = element_address(builder, value.element, args[0], args[1])
        builder.store(args[2], at(builder, where, llvm_type(value)), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, value), gen


@intrinsic
def zero(_: Any, kind: Any) -> tuple[Any, Codegen]:
    """zero(F32): all lanes 0."""
    vec = kind.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(llvm_type(vec), None)

    return vec(kind), gen


@intrinsic
def splat(_: Any, kind: Any, value: Any) -> tuple[Any, Codegen]:
    """splat(F32, x): x in every lane."""
    vec = kind.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat_value(builder, vec, args[1])

    return vec(kind, vec.element), gen


@intrinsic
def like(_: Any, example: Any, value: Any) -> tuple[Any, Codegen]:
    """like(x, 3.0): the float32 3.0 where x is a number, in every lane where x is a vector of float32."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat_value(builder, example, args[1]) if isinstance(example, Vec) else args[1]

    return example(example, types.float32), gen


def splat_value(builder: Any, vec: Vec, value: Any) -> Any:
    """LLVM value with `value` in every lane."""
    kind = llvm_type(vec)
    first = builder.insert_element(
        ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vec.lanes), None)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), lanes)


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


def fma_value(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """LLVM value a * b + c, rounded once; vectors or numbers."""
    kind = a.type
    name = f"llvm.fma.v{kind.count}f32" if isinstance(kind, ir.VectorType) else "llvm.fma.f32"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, (kind, kind, kind)), name
    )
    return builder.call(function, (a, b, c))


@intrinsic
def fma(_: Any, a: Any, b: Any, c: Any) -> tuple[Any, Codegen]:
    """fma(a, b, c): a * b + c of float vectors or numbers, rounded once."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return fma_value(builder, *args)

    return a(a, b, c), gen


@intrinsic
def minimum(_: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
    """minimum(a, b): b where b < a, else a (a NaN in `a` stays); float vectors or numbers."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[1], args[0]), args[1], args[0])

    return a(a, b), gen


@intrinsic
def maximum(_: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
    """maximum(a, b): b where b > a, else a (a NaN in `a` stays); float vectors or numbers."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[1], args[0]), args[1], args[0])

    return a(a, b), gen


@intrinsic
def keep(_: Any, value: Any, mask: Any) -> tuple[Any, Codegen]:
    """keep(value, mask): the float lanes where the int32 mask is -1, exact zero where it is 0."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], args[1].type)
        return builder.bitcast(builder.and_(bits, args[1]), args[0].type)

    return value(value, mask), gen


def _call_unary(builder: Any, name: str, value: Any) -> Any:
    kind = value.type
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, (kind,)), f"llvm.{name}.{lanes}f32"
    )
    return builder.call(function, (value,))


@intrinsic
def magnitude(_: Any, value: Any) -> tuple[Any, Codegen]:
    """magnitude(v): |v| of each float lane."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call_unary(builder, "fabs", args[0])

    return value(value), gen


@intrinsic
def nearest(_: Any, value: Any) -> tuple[Any, Codegen]:
    """nearest(v): each float lane, or a number, rounded to a whole number, halves to even."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call_unary(builder, "nearbyint", args[0])

    return value(value), gen


@intrinsic
def to_int(_: Any, value: Any) -> tuple[Any, Codegen]:
    """to_int(v): float lanes, or a number, as int32, toward zero; a NaN becomes 0."""
    vec = Vec(types.int32, value.lanes) if isinstance(value, Vec) else types.int32

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        known = builder.fcmp_ordered("==", args[0], args[0])
        # A NaN is poison to fptosi: replace it before, not after.
        safe = builder.select(known, args[0], ir.Constant(args[0].type, None))
        return builder.fptosi(safe, llvm_type(vec) if isinstance(vec, Vec) else ir.IntType(32))

    return vec(value), gen


@intrinsic
def to_float(_: Any, value: Any) -> tuple[Any, Codegen]:
    """to_float(v): int32 lanes as float32; float32 as they are."""
    vec = Vec(types.float32, value.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if value == vec else builder.sitofp(args[0], llvm_type(vec))

    return vec(value), gen


@intrinsic
def sign_of(_: Any, value: Any) -> tuple[Any, Codegen]:
    """sign_of(v): int32 lanes, +1 where v >= 0, else -1 (a NaN is -1)."""
    vec = Vec(types.int32, value.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_type(vec)
        positive = builder.fcmp_ordered(">=", args[0], ir.Constant(args[0].type, None))
        plus, minus = ir.Constant(kind, [1] * vec.lanes), ir.Constant(kind, [-1] * vec.lanes)
        return builder.select(positive, plus, minus)

    return vec(value), gen


@intrinsic
def store_bytes(_: Any, address: Any, index: Any, value: Any, mask: Any) -> tuple[Any, Codegen]:
    """store_bytes(address, index, v, mask): int32 lanes as int8 from element `index` on, 0 where the mask is 0."""
    small = ir.VectorType(ir.IntType(8), value.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        octets = builder.trunc(builder.and_(args[2], args[3]), small)
        builder.store(octets, at(builder, builder.add(args[0], args[1]), small), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, value, mask), gen


@intrinsic
def load_bytes(_: Any, address: Any, index: Any) -> tuple[Any, Codegen]:
    """load_bytes(address, index): 16 int8 from element `index` on, as float32 lanes."""
    vec = F32.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        octets = load_at(builder, Vec(types.int8, vec.lanes), builder.add(args[0], args[1]))
        return builder.sitofp(octets, llvm_type(vec))

    return vec(types.intp, types.intp), gen


@intrinsic
def widen(_: Any, value: Any) -> tuple[Any, Codegen]:
    """widen(v): the same lanes as integers of twice the width."""
    wide = Vec({types.int8: types.int16, types.int16: types.int32}[value.element], value.lanes)

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.sext(args[0], llvm_type(wide))

    return wide(value), gen


@intrinsic
def greatest(_: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
    """greatest(a, b): the larger, or a NaN where either is one; vectors or numbers, floats or integers."""
    element = a.element if isinstance(a, Vec) else a

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not isinstance(element, types.Float):
            return builder.select(builder.icmp_signed(">", args[1], args[0]), args[1], args[0])
        kind, lanes = args[0].type, f"v{a.lanes}" if isinstance(a, Vec) else ""
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, (kind, kind)), f"llvm.maximum.{lanes}f32"
        )
        return builder.call(function, args, fastmath=("nsz",))  # which zero is greater is left open

    return a(a, a), gen


@intrinsic
def share(_: Any, value: Any, count: Any) -> tuple[Any, Codegen]:
    """share(v, n): v / n, a float vector or number by a number."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        by = splat_value(builder, value, args[1]) if isinstance(value, Vec) else args[1]
        return builder.fdiv(args[0], by)

    return value(value, types.float32), gen
