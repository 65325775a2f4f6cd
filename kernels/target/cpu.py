"""The CPU that kernels are compiled for."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from bwn.kernels.target.forks import compiling
from bwn.kernels.target.loader import library
from bwn.kernels.target.targets import usable

OVERRIDE: frozenset[str] | None = None
"""Features of another CPU, set by a build before it imports a kernel."""


@cache
def features() -> frozenset[str]:
    """LLVM's names of the features that kernels are compiled for, e.g. `avx2`, `neon`."""
    if OVERRIDE is not None:
        return OVERRIDE
    bundled = library()
    if bundled is not None:
        return bundled.target.offers
    with compiling:
        import llvmlite.binding as llvm
        import numba

        settings: Any = numba.config
        if settings.CPU_FEATURES:  # another CPU's code was asked for
            return frozenset(
                part[1:] for part in settings.CPU_FEATURES.split(",") if part.startswith("+")
            )
        host = llvm.get_host_cpu_features().items()
        return usable(name for name, offered in host if offered)


@cache
def name() -> str:
    """LLVM's name of the CPU that kernels are compiled for, e.g. `znver3`, `cortex-a76`."""
    bundled = library()
    if bundled is not None:
        return bundled.target.cpu
    with compiling:
        import llvmlite.binding as llvm
        import numba

        settings: Any = numba.config
        return str(settings.CPU_NAME or llvm.get_host_cpu_name())


CPU_INFO = Path("/proc/cpuinfo")


@cache
def model() -> str:
    """The CPU's name as it calls itself; on a system that does not say, its kind."""
    for line in _info():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _info() -> list[str]:
    """The lines of CPU_INFO; none on a system that has no such file."""
    try:
        return CPU_INFO.read_text().splitlines()
    except OSError:
        return []


CPUS = Path("/sys/devices/system/cpu")
USUAL_L1 = 32 << 10
"""Bytes of the L1 data cache of most cores: taken where the system does not say."""


@cache
def l1_bytes() -> int:
    """Size of the L1 data cache, of the core that has the smallest; USUAL_L1 for another CPU."""
    sizes = []
    with suppress(OSError):
        for cpu in os.listdir(CPUS) if OVERRIDE is None else ():
            with suppress(OSError, ValueError):
                size = (CPUS / cpu / "cache/index0/size").read_text().strip()
                sizes.append(int(size.removesuffix("K")) << 10)
    return min(sizes, default=USUAL_L1)


FAMILIES = ("avx512", "zen4", "avx2", "neon")
ZEN4 = {("vendor_id", "AuthenticAMD"), ("cpu family", "25")}
"""Lines of CPU_INFO of the CPUs with AVX-512 that take 512 bits in two halves."""


def family() -> str:
    """The one of FAMILIES that the kernels' speed depends on; the nearest where none fits."""
    if "neon" in features():
        return "neon"
    if "avx512f" not in features():
        return "avx2"
    return "zen4" if OVERRIDE is None and _is_zen4() else "avx512"


@cache
def _is_zen4() -> bool:
    """Whether this machine's CPU, which has AVX-512, is AMD's first that does."""
    fields = {tuple(map(str.strip, line.split(":", 1))) for line in _info() if ":" in line}
    return fields >= ZEN4
