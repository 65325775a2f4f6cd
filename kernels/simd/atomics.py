"""Atomics: int64 words that threads of compiled code read and change at once, and how to wait for
one.

All operations are sequentially consistent: what a thread wrote before it changes a word is seen by
whoever reads that change.
"""

from __future__ import annotations

import time
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from bwn.kernels.simd.vectors import at, call_function
from bwn.kernels.target.jit import Codegen, intrinsic

I64 = ir.IntType(64)
ORDER = "seq_cst"
HINT_YIELD = ir.IntType(32)(1)


def _word(builder: Any, address: Any) -> Any:
    return at(builder, address, I64)


@intrinsic
def read(address: Any) -> tuple[Any, Codegen]:
    """read(address): the word."""

    def gen(builder: Any, args: Any) -> Any:
        return builder.load_atomic(_word(builder, args[0]), ORDER, 8)

    return types.int64(types.intp), gen


@intrinsic
def write(address: Any, value: Any) -> tuple[Any, Codegen]:
    """write(address, value): set the word."""

    def gen(builder: Any, args: Any) -> None:
        builder.store_atomic(args[1], _word(builder, args[0]), ORDER, 8)

    return types.void(types.intp, types.int64), gen


@intrinsic
def add(address: Any, value: Any) -> tuple[Any, Codegen]:
    """add(address, value): add to the word; what it was before."""

    def gen(builder: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, args[0]), args[1], ORDER)

    return types.int64(types.intp, types.int64), gen


@intrinsic
def replace(address: Any, old: Any, new: Any) -> tuple[Any, Codegen]:
    """replace(address, old, new): set the word to `new` if it is `old`; whether it was."""

    def gen(builder: Any, args: Any) -> Any:
        both = builder.cmpxchg(_word(builder, args[0]), args[1], args[2], ORDER, ORDER)
        return builder.extract_value(both, 1)

    return types.boolean(types.intp, types.int64, types.int64), gen


@intrinsic
def cpu_relax() -> tuple[Any, Codegen]:
    """cpu_relax(): tell the CPU that this thread waits in a loop, so that its sibling runs on."""

    def gen(builder: Any, args: Any) -> None:
        machine = builder.module.triple.partition("-")[0]
        if machine in ("x86_64", "i686"):
            call_function(builder, "llvm.x86.sse2.pause", ir.VoidType())
        elif machine in ("aarch64", "arm64"):
            call_function(builder, "llvm.aarch64.hint", ir.VoidType(), HINT_YIELD)

    return types.void(), gen


@intrinsic
def yield_core() -> tuple[Any, Codegen]:
    """yield_core(): let another thread have this core, if one waits for it (POSIX sched_yield)."""

    def gen(builder: Any, args: Any) -> None:
        call_function(builder, "sched_yield", ir.IntType(32))

    return types.void(), gen


@intrinsic
def now() -> tuple[Any, Codegen]:
    """now(): nanoseconds of a clock that only goes forward (POSIX clock_gettime)."""

    def gen(builder: Any, args: Any) -> Any:
        clock, pair = ir.IntType(32), ir.ArrayType(I64, 2)
        spec = cgutils.alloca_once(builder, pair)
        call_function(builder, "clock_gettime", clock, clock(time.CLOCK_MONOTONIC), spec)
        seconds, rest = (builder.extract_value(builder.load(spec), i) for i in (0, 1))
        return builder.add(builder.mul(seconds, I64(1_000_000_000)), rest)

    return types.int64(), gen


@intrinsic
def call(address: Any, fields: Any, begin: Any, end: Any, part: Any) -> tuple[Any, Codegen]:
    """call(address, fields, begin, end, part): the compiled entry at an address."""

    def gen(builder: Any, args: Any) -> None:
        entry = ir.FunctionType(ir.VoidType(), [I64] * 4)
        builder.call(at(builder, args[0], entry), args[1:])

    return types.void(*[types.intp] * 5), gen
