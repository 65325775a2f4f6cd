"""Arithmetic on vectors beyond the operators: fused, bounding, rounding, converting, widening."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.simd.vectors import Vec, call_function, llvm_type, pick, splat_value
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic


def call_named(builder: Any, name: str, *args: Any, fastmath: tuple[str, ...] = ()) -> Any:
    """LLVM value of the intrinsic `llvm.name`, of float32 vectors or numbers of one type."""
    kind = args[0].type
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    return call_function(builder, f"llvm.{name}.{lanes}f32", kind, *args, fastmath=fastmath)


def fma_value(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """LLVM value a * b + c, rounded once; vectors or numbers."""
    if _lacks_fma():
        return _fma_by_parts(builder, a, b, c)
    return call_named(builder, "fma", a, b, c)


def add_product_value(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """The same for the terms of a sum; on WebAssembly rounded twice, which is much faster."""
    if "simd128" in features():
        return builder.fadd(builder.fmul(a, b), c)
    return fma_value(builder, a, b, c)


def _lacks_fma() -> bool:
    """Whether code is for WebAssembly or x86-64 without AVX2: LLVM calls fmaf for each lane."""
    return features().isdisjoint(("fma", "neon"))


LANES = 4
"""Floats of a vector of WebAssembly and of SSE."""


def _fma_by_parts(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """fma_value where no instruction does it."""
    kind = a.type
    if not isinstance(kind, ir.VectorType):
        return _fma_in_double(builder, a, b, c)
    part, index = ir.VectorType(kind.element, LANES), ir.IntType(32)
    function = builder.module.globals.get("fma_of_part") or _define_fma(builder.module, part)
    result = ir.Constant(kind, ir.Undefined)
    for first in range(0, kind.count, LANES):
        parts = [pick(builder, value, range(first, first + LANES)) for value in (a, b, c)]
        each = builder.call(function, parts)
        for lane in range(LANES):
            number = builder.extract_element(each, index(lane))
            result = builder.insert_element(result, number, index(first + lane))
    return result


def _define_fma(module: Any, kind: Any) -> Any:
    """A function, as inlining it everywhere would double the code."""
    function = ir.Function(module, ir.FunctionType(kind, [kind] * 3), "fma_of_part")
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(_fma_in_double(builder, *function.args))
    return function


def _fma_in_double(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """By arithmetic in double.

    The product is exact, and the sum is rounded to odd (Boldo and Melquiond 2008, "Emulation of a
    FMA and correctly rounded sums"), so rounding it to single is the only rounding.
    """
    kind, double, word = a.type, ir.DoubleType(), ir.IntType(64)
    if isinstance(kind, ir.VectorType):
        double, word = ir.VectorType(double, kind.count), ir.VectorType(word, kind.count)

    def every(number: int) -> Any:
        return ir.Constant(word, [number] * kind.count if word != ir.IntType(64) else number)

    a, b, c = (builder.fpext(value, double) for value in (a, b, c))
    product = builder.fmul(a, b)
    total = builder.fadd(product, c)
    part = builder.fsub(total, product)
    lost = builder.fadd(
        builder.fsub(product, builder.fsub(total, part)), builder.fsub(c, part)
    )  # Knuth's TwoSum
    bits = builder.bitcast(total, word)
    signs = builder.xor(bits, builder.bitcast(lost, word))
    step = builder.or_(builder.ashr(signs, every(63)), every(1))  # away from zero or towards it
    even = builder.sub(builder.and_(bits, every(1)), every(1))
    inexact = builder.fcmp_ordered("!=", lost, ir.Constant(double, None))
    step = builder.and_(builder.and_(step, even), builder.sext(inexact, word))
    return builder.fptrunc(builder.bitcast(builder.add(bits, step), double), kind)


@intrinsic
def fma(a: Any, b: Any, c: Any) -> tuple[Any, Codegen]:
    """fma(a, b, c): a * b + c of float vectors or numbers, rounded once."""

    def gen(builder: Any, args: Any) -> Any:
        return fma_value(builder, *args)

    return a(a, b, c), gen


@intrinsic
def add_product(a: Any, b: Any, c: Any) -> tuple[Any, Codegen]:
    """add_product(a, b, c): the same for the terms of a sum; on WebAssembly rounded twice."""

    def gen(builder: Any, args: Any) -> Any:
        return add_product_value(builder, *args)

    return a(a, b, c), gen


def _closer(order: str) -> Any:
    @intrinsic
    def closer(a: Any, b: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(order, args[1], args[0]), args[1], args[0])

        return a(a, b), gen

    return closer


minimum, maximum = _closer("<"), _closer(">")
"""minimum(a, b): b where b < a, else a (a NaN in `a` stays); float vectors or numbers."""


@intrinsic
def keep(value: Any, mask: Any) -> tuple[Any, Codegen]:
    """keep(value, mask): the float lanes where the int32 mask is -1, exact zero where it is 0."""

    def gen(builder: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], args[1].type)
        return builder.bitcast(builder.and_(bits, args[1]), args[0].type)

    return value(value, mask), gen


def _unary(name: str) -> Any:
    @intrinsic
    def unary(value: Any) -> tuple[Any, Codegen]:
        def gen(builder: Any, args: Any) -> Any:
            return call_named(builder, name, *args)

        return value(value), gen

    return unary


magnitude = _unary("fabs")
"""magnitude(v): |v| of each float lane."""
nearest = _unary("nearbyint")
"""nearest(v): each float lane, or a number, rounded to a whole number, halves to even."""
square_root = _unary("sqrt")
"""square_root(v): of each float lane, correctly rounded; a NaN below 0."""


def to_int_value(builder: Any, value: Any) -> Any:
    """LLVM value of float lanes, or of a number, as int32, toward zero; a NaN becomes 0."""
    kind, integer = value.type, ir.IntType(32)
    known = builder.fcmp_ordered("==", value, value)
    # A NaN is poison to fptosi: replace it before, not after.
    safe = builder.select(known, value, ir.Constant(kind, None))
    vector = isinstance(kind, ir.VectorType)
    return builder.fptosi(safe, ir.VectorType(integer, kind.count) if vector else integer)


@intrinsic
def to_int(value: Any) -> tuple[Any, Codegen]:
    """to_int(v): see `to_int_value`."""
    vec = Vec(types.int32, value.lanes) if isinstance(value, Vec) else types.int32

    def gen(builder: Any, args: Any) -> Any:
        return to_int_value(builder, *args)

    return vec(value), gen


@intrinsic
def to_float(value: Any) -> tuple[Any, Codegen]:
    """to_float(v): int32 lanes as float32; float32 as they are."""
    vec = Vec(types.float32, value.lanes)

    def gen(builder: Any, args: Any) -> Any:
        return args[0] if value == vec else builder.sitofp(args[0], llvm_type(vec))

    return vec(value), gen


@intrinsic
def sign_of(value: Any) -> tuple[Any, Codegen]:
    """sign_of(v): int32 lanes, +1 where v >= 0, else -1 (a NaN is -1)."""
    vec = Vec(types.int32, value.lanes)

    def gen(builder: Any, args: Any) -> Any:
        kind = llvm_type(vec)
        positive = builder.fcmp_ordered(">=", args[0], ir.Constant(args[0].type, None))
        plus, minus = ir.Constant(kind, [1] * vec.lanes), ir.Constant(kind, [-1] * vec.lanes)
        return builder.select(positive, plus, minus)

    return vec(value), gen


@intrinsic
def widen(value: Any) -> tuple[Any, Codegen]:
    """widen(v): the same lanes as integers of twice the width."""
    wide = Vec({types.int8: types.int16, types.int16: types.int32}[value.element], value.lanes)

    def gen(builder: Any, args: Any) -> Any:
        return builder.sext(args[0], llvm_type(wide))

    return wide(value), gen


@intrinsic
def greatest(a: Any, b: Any) -> tuple[Any, Codegen]:
    """greatest(a, b): the larger, or a NaN where either is one; vectors or numbers, of any kind."""
    element = a.element if isinstance(a, Vec) else a

    def gen(builder: Any, args: Any) -> Any:
        if not isinstance(element, types.Float):
            return builder.select(builder.icmp_signed(">", args[1], args[0]), args[1], args[0])
        # Which zero is greater is left open.
        return call_named(builder, "maximum", *args, fastmath=("nsz",))

    return a(a, a), gen


@intrinsic
def share(value: Any, count: Any) -> tuple[Any, Codegen]:
    """share(v, n): v / n, a float vector or number by a number."""

    def gen(builder: Any, args: Any) -> Any:
        by = splat_value(builder, value, args[1]) if isinstance(value, Vec) else args[1]
        return builder.fdiv(args[0], by)

    return value(value, types.float32), gen


@intrinsic
def where_negative(value: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
    """where_negative(v, a, b): the float lanes of a where v < 0, else of b."""

    def gen(builder: Any, args: Any) -> Any:
        negative = builder.fcmp_ordered("<", args[0], ir.Constant(args[0].type, None))
        return builder.select(negative, args[1], args[2])

    return a(value, a, a), gen


@intrinsic
def blend(a: Any, b: Any, count: Any) -> tuple[Any, Codegen]:
    """blend(a, b, n): the first n lanes of a, the rest of b."""
    lanes = ir.VectorType(ir.IntType(64), a.lanes)

    def gen(builder: Any, args: Any) -> Any:
        order = ir.Constant(lanes, list(range(a.lanes)))
        limit = splat_value(builder, Vec(types.int64, a.lanes), args[2])
        first = builder.icmp_signed("<", order, limit)
        return builder.select(first, args[0], args[1])

    return a(a, a, types.intp), gen
