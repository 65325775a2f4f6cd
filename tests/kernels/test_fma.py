"""a * b + c by arithmetic in double, for machines without an instruction: the bits of fmaf."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from bwn.kernels.simd import arithmetic
from bwn.kernels.target.targets import WASM

F32 = ir.FloatType()


@pytest.fixture(scope="module")
def fused() -> Any:
    """C's fmaf."""
    if not sys.platform.startswith("linux"):
        pytest.skip("fmaf is looked up in Linux's libm")
    fmaf = ctypes.CDLL("libm.so.6").fmaf
    fmaf.argtypes, fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    return np.vectorize(fmaf, otypes=[np.float32])


def compile_for(kind: Any) -> tuple[Any, Any]:
    """A function of four addresses, and what keeps it alive."""
    module = ir.Module()
    pointer = kind.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer] * 4), "apply")
    builder = ir.IRBuilder(function.append_basic_block())
    *places, out = function.args
    result = arithmetic.fma_value(builder, *(builder.load(place, align=4) for place in places))
    builder.store(result, out, align=4)
    builder.ret_void()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    parsed = llvm.parse_assembly(str(module))
    engine = llvm.create_mcjit_compiler(
        parsed, llvm.Target.from_default_triple().create_target_machine()
    )
    engine.finalize_object()
    address = engine.get_function_address("apply")
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(address), engine


def hard_cases(count: int) -> np.ndarray:
    """(3, count): any bits; sums so near the middle of two floats that a double is in the middle."""
    random = np.random.default_rng(1)
    any_bits = random.integers(0, 2**32, (3, count), np.uint32).view(np.float32)
    little = random.integers(1, 300, count) * 2.0**-23 * random.choice([-1, 1], count)
    a, b = 1 + little, (1 - little) * random.choice([-1, 1], count)  # a b = +-(1 - little^2)
    c = random.integers(1, 2**12, count) * random.choice([-1, 1], count)
    normal = [a * 2.0**-24, b, 1 + c * 2.0**-23]
    denormal = [a * 2.0**-75, b * 2.0**-75, c * 2.0**-149]
    return np.concatenate([any_bits, np.float32(normal), np.float32(denormal)], axis=1)


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_bits_are_those_of_fmaf(lanes: int, fused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "features", WASM.offers.copy)
    apply, _engine = compile_for(F32 if lanes == 1 else ir.VectorType(F32, lanes))
    a, b, c = hard_cases(4096)
    actual = np.empty_like(a)
    for start in range(0, a.size, lanes):
        apply(*(array[start:].ctypes.data for array in (a, b, c, actual)))
    with np.errstate(all="ignore"):
        expected = fused(a, b, c)
        twice = (a * b + c).astype(np.float32)
        once = (a.astype(float) * b + c).astype(np.float32)
    np.testing.assert_array_equal(actual, expected)
    assert (np.signbit(actual) == np.signbit(expected))[~np.isnan(expected)].all()
    for simpler in (twice, once):  # the cases are hard ones
        assert (simpler != expected)[~np.isnan(expected)].any()
