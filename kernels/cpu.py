"""What this machine's CPU offers, and the tile that follows from it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba


@cache
def features() -> frozenset[str]:
    """Names of the features that kernels are compiled for, as LLVM knows them, e.g. `avx2`, `neon`."""
    settings: Any = numba.config
    if settings.CPU_FEATURES:  # another CPU's code was asked for
        return frozenset(part[1:] for part in settings.CPU_FEATURES.split(",") if part.startswith("+"))
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@cache
def name() -> str:
    """LLVM's name of the CPU that kernels are compiled for, e.g. `znver3`, `cortex-a76`."""
    settings: Any = numba.config
    return str(settings.CPU_NAME or llvm.get_host_cpu_name())


@cache
def model() -> str:
    """The CPU's name as it calls itself; on a system that does not say, what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def family() -> str:
    """The instructions that the kernels' speed depends on: `avx512`, `avx2` or `neon`; the nearest where none fits."""
    if "neon" in features():
        return "neon"
    return "avx512" if "avx512f" in features() else "avx2"


# A 64-byte vector is one register of AVX-512 (of 32), two of AVX2 (of 16), four of NEON (of 32): as many output
# channels at a time as leave room for one loaded entry.
CHANNELS = 8 if "avx512f" in features() else 4
# A lookup's channels share no register. LLVM reorders their integer sums for NEON, which takes twice the registers:
# four channels would spill.
LOOKUP_CHANNELS = 2 if "neon" in features() else CHANNELS
