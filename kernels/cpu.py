"""What this machine's CPU offers, and the tile that follows from it."""

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba


@cache
def features() -> frozenset[str]:
    """Names of the features that kernels are compiled for, as LLVM knows them, e.g. `avx2`, `neon`."""
    settings: Any = numba.config
    forced: str | None = settings.CPU_FEATURES  # of NUMBA_CPU_FEATURES: code for a CPU that is not this one
    if forced is not None:
        return frozenset(name[1:] for name in forced.split(",") if name.startswith("+"))
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@cache
def name() -> str:
    """LLVM's name of the CPU, e.g. `znver3`, `cortex-a76`."""
    return str(llvm.get_host_cpu_name())


# A 64-byte vector is one register of AVX-512 (of 32), two of AVX2 (of 16), four of NEON (of 32): as many output
# channels at a time as leave room for one loaded entry.
CHANNELS = 8 if "avx512f" in features() else 4
# A lookup's channels share no register. LLVM reorders their integer sums for NEON, which takes twice the registers:
# four channels would spill.
LOOKUP_CHANNELS = 2 if "neon" in features() else CHANNELS
