"""Whether a processor has what a library was compiled for, asked when a C program calls `init`.

Without this, a program on an older processor would end by an illegal instruction.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

from bwn.kernels.target.targets import (
    ARCH_PRCTL,
    HWCAP,
    HWCAP_BITS,
    REQUEST_PERMISSION,
    TILE_DATA,
)

BIT, INT, WORD = ir.IntType(1), ir.IntType(32), ir.IntType(64)


class Place(NamedTuple):
    """Where cpuid has a feature.

    Attributes:
        leaf: What it is asked for.
        subleaf: Likewise.
        register: 0 to 3: eax, ebx, ecx, edx.
        bit: In that register.
    """

    leaf: int
    subleaf: int
    register: int
    bit: int


# Intel's manual, volume 2, CPUID; AMD's, volume 3, appendix E.
PLACES = {
    "fma": Place(1, 0, 2, 12),
    "movbe": Place(1, 0, 2, 22),
    "popcnt": Place(1, 0, 2, 23),
    "osxsave": Place(1, 0, 2, 27),
    "f16c": Place(1, 0, 2, 29),
    "bmi1": Place(7, 0, 1, 3),
    "avx2": Place(7, 0, 1, 5),
    "bmi2": Place(7, 0, 1, 8),
    "avx512f": Place(7, 0, 1, 16),
    "avx512dq": Place(7, 0, 1, 17),
    "avx512cd": Place(7, 0, 1, 28),
    "avx512bw": Place(7, 0, 1, 30),
    "avx512vl": Place(7, 0, 1, 31),
    "avx512_vnni": Place(7, 0, 2, 11),
    "avx512_bitalg": Place(7, 0, 2, 12),
    "avx512_vpopcntdq": Place(7, 0, 2, 14),
    "amx_tile": Place(7, 0, 3, 24),
    "amx_int8": Place(7, 0, 3, 25),
    "avx_vnni": Place(7, 1, 0, 4),
    "abm": Place(0x80000001, 0, 2, 5),
}
"""By Linux's names, which targets have."""
YMM, ZMM, TILES = 0x06, 0xE6, 0x600E6
"""Registers that the system must save, as bits of XCR0: of AVX; of AVX-512 too; of AMX too."""


def lacks(builder: ir.IRBuilder, machine: str, needs: Iterable[str]) -> Any:
    """Whether the processor lacks one of the features; None where that cannot or need not be asked.

    Args:
        builder: Adds the instructions.
        machine: As `platform.machine` names it.
        needs: By Linux's names.
    """
    names = set(needs) - {"asimd"}  # all 64-bit ARM has it
    if not names:
        return None
    if machine == "aarch64":
        return _lacks_of_arm(builder, names)
    if platform.machine() != machine:
        return None  # LLVM's wheel has the assembler of its own machine alone
    llvm.initialize_native_asmparser()
    return _lacks_of_x86(builder, names)


def _missing(builder: ir.IRBuilder, word: Any, mask: int) -> Any:
    """Whether a word lacks some bits of a mask."""
    bits = ir.Constant(word.type, mask)
    return builder.icmp_unsigned("!=", builder.and_(word, bits), bits)


def _lacks_of_arm(builder: ir.IRBuilder, names: set[str]) -> Any:
    kind = ir.FunctionType(WORD, [WORD])
    getauxval = ir.Function(builder.module, kind, "getauxval")
    word = builder.call(getauxval, [ir.Constant(WORD, HWCAP)])
    return _missing(builder, word, sum(1 << HWCAP_BITS[name] for name in names))


def _asm(builder: ir.IRBuilder, code: str, returns: Any, constraints: str, *values: int) -> Any:
    arguments = [ir.Constant(INT, value) for value in values]
    kind = ir.FunctionType(returns, [INT] * len(values))
    return builder.call(ir.InlineAsm(kind, code, constraints, side_effect=True), arguments)


def _cpuid(builder: ir.IRBuilder, leaf: int, subleaf: int) -> list[Any]:
    """The four registers."""
    four = ir.LiteralStructType([INT] * 4)
    constraints = "={ax},={bx},={cx},={dx},{ax},{cx}"
    result = _asm(builder, "cpuid", four, constraints, leaf, subleaf)
    return [builder.extract_value(result, register) for register in range(4)]


def _lacks_of_x86(builder: ir.IRBuilder, names: set[str]) -> Any:
    answer = builder.alloca(BIT)
    builder.store(ir.Constant(BIT, 1), answer)
    masks: dict[tuple[int, int], list[int]] = {}
    for name in {*names, "osxsave"}:
        leaf, subleaf, register, bit = PLACES[name]
        masks.setdefault((leaf, subleaf), [0] * 4)[register] |= 1 << bit
    # A processor answers a leaf that it does not know with another one.
    most = _cpuid(builder, 0, 0)[0]
    wrong = builder.icmp_unsigned("<", most, ir.Constant(INT, 7))
    for (leaf, subleaf), wanted in masks.items():
        for register, mask in zip(_cpuid(builder, leaf, subleaf), wanted, strict=True):
            if mask:
                wrong = builder.or_(wrong, _missing(builder, register, mask))
    tiles = "amx_tile" in names
    saved = TILES if tiles else ZMM if any(name.startswith("avx512") for name in names) else YMM
    with builder.if_then(builder.not_(wrong)):  # then there is this instruction
        pair = ir.LiteralStructType([INT] * 2)
        low = builder.extract_value(_asm(builder, "xgetbv", pair, "={ax},={dx},{cx}", 0), 0)
        builder.store(_missing(builder, low, saved), answer)
    if tiles:
        builder.store(builder.or_(builder.load(answer), refused_tiles(builder)), answer)
    return builder.load(answer)


def refused_tiles(builder: ir.IRBuilder) -> Any:
    """Ask Linux for AMX's tiles, as `targets.permitted` does: whether it does not grant them."""
    constraints = "={ax},{ax},{di},{si},~{rcx},~{r11},~{memory}"
    numbers = [ir.Constant(WORD, n) for n in (ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)]
    kind = ir.FunctionType(WORD, [WORD] * 3)
    code = builder.call(ir.InlineAsm(kind, "syscall", constraints, side_effect=True), numbers)
    return builder.icmp_signed("!=", code, ir.Constant(WORD, 0))
