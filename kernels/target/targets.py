"""The processors that kernels are compiled for ahead of time, and which of them this machine can
run.

A target names what the code may use in LLVM's words, and what a machine must have in the system's.
Nothing here needs a compiler.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Target(NamedTuple):
    """One compiled library.

    Attributes:
        name: Of its file.
        machine: As `platform.machine` names it.
        cpu: LLVM's name, for the compiler.
        features: LLVM's names of features to add and to leave out, for the compiler.
        offers: The features that kernels choose by.
        needs: What the machine must have, by the names of `machine_features`.
    """

    name: str
    machine: str
    cpu: str
    features: str
    offers: frozenset[str]
    needs: frozenset[str]

    @property
    def triple(self) -> str:
        """LLVM's name of the machine."""
        system = "unknown" if self.machine == "wasm32" else "linux-gnu"
        return f"{self.machine}-unknown-{system}"

    @property
    def has_assembly(self) -> bool:
        """Whether kernels have lines of assembly: LLVM's wheel reads those of its own machine."""
        return "amx-int8" in self.offers


_AVX2 = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "popcnt", "abm"})
_AVX512 = _AVX2 | {
    "avx512f",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512vl",
    "avx512_vpopcntdq",
    "avx512_bitalg",
    "avx512_vnni",
}

_AVX512_FEATURES = "+avx512vpopcntdq,+avx512bitalg,+avx512vnni"
_AVX512_OFFERS = frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512vpopcntdq", "avx512vnni"})

TARGETS = (
    Target(
        "x86-64-amx", "x86_64", "x86-64-v4", f"{_AVX512_FEATURES},+amx-tile,+amx-int8",
        _AVX512_OFFERS | {"amx-tile", "amx-int8"}, _AVX512 | {"amx_tile", "amx_int8"},
    ),
    Target(
        "x86-64-avx512", "x86_64", "x86-64-v4", _AVX512_FEATURES, _AVX512_OFFERS, _AVX512,
    ),
    Target(
        "x86-64-avxvnni", "x86_64", "x86-64-v3", "+avxvnni",
        frozenset({"avx2", "fma", "avxvnni"}), _AVX2 | {"avx_vnni"},
    ),
    Target("x86-64-avx2", "x86_64", "x86-64-v3", "", frozenset({"avx2", "fma"}), _AVX2),
    Target("x86-64", "x86_64", "x86-64", "", frozenset(), frozenset()),
    # No crypto: the cores of the Raspberry Pi 3 and 4 have none, though LLVM's have. Neoverse N1 is
    # the server core next to the Cortex-A76, for which LLVM has the model of an older one.
    Target(
        "aarch64-dotprod", "aarch64", "neoverse-n1", "-aes,-sha2,-rcpc,-ssbs,-fullfp16,-spe",
        frozenset({"neon", "dotprod"}),
        frozenset({"asimd", "crc32", "atomics", "asimdrdm", "asimddp"}),
    ),
    Target(
        "aarch64", "aarch64", "cortex-a53", "-aes,-sha2,-crc", frozenset({"neon"}),
        frozenset({"asimd"}),
    ),
)  # fmt: skip
"""Those that are built; of one machine the fastest first."""
# Browsers have all of these since 2023 (Chrome 91, Firefox 89, Safari 16.4).
WASM = Target(
    "wasm32", "wasm32", "generic", "+simd128,+bulk-memory,+nontrapping-fptoint,+sign-ext",
    frozenset({"simd128"}), frozenset(),
)  # fmt: skip
"""For `bwn compile` alone: no process of Python loads it."""

HWCAP = 16
"""getauxval's number of the word of features; its bits for aarch64 are Linux's, asm/hwcap.h."""
HWCAP_BITS = {"asimd": 1, "crc32": 7, "atomics": 8, "asimdrdm": 12, "asimddp": 20}


# Linux saves the 8 KiB of AMX's registers only for processes that have asked (Documentation/arch/
# x86/xstate.rst). Threads and forks of a process may use what it may.
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18
"""By which a process asks: number of the system call on x86-64, and its arguments."""


@cache
def permitted() -> bool:
    """Ask for the tiles: whether the system grants them. For x86-64 Linux."""
    numbers = (ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)
    return bool(ctypes.CDLL(None).syscall(*map(ctypes.c_long, numbers)) == 0)


def usable(features: Iterable[str]) -> frozenset[str]:
    """The features, by LLVM's or by Linux's names, without those of AMX where it is not granted."""
    names = frozenset(features)
    tiles = {name for name in names if name.startswith("amx")}
    return names - tiles if tiles and not permitted() else names


@cache
def machine_features() -> frozenset[str]:
    """Linux's names of what this machine's CPU and system offer; none on other systems.

    Where the CPU has AMX, the system is asked to let this process use it.
    """
    if not sys.platform.startswith("linux"):
        return frozenset()
    if platform.machine() == "aarch64":
        # The kernel's word, not /proc/cpuinfo: an emulator shows the host's there.
        getauxval = ctypes.CDLL(None).getauxval
        getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
        word = getauxval(HWCAP)
        return frozenset(name for name, bit in HWCAP_BITS.items() if word >> bit & 1)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    # Processors of one machine may differ.
    flags = [set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")]
    return usable(frozenset.intersection(*map(frozenset, flags))) if flags else frozenset()


def runnable() -> list[Target]:
    """The targets that this machine can run, the fastest first."""
    # A 32-bit Python under a 64-bit kernel has that kernel's machine.
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return []
    offered = machine_features()
    return [
        target
        for target in TARGETS
        if target.machine == platform.machine() and target.needs <= offered
    ]
