"""What bwn runs on here, and what would make it faster."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from bwn.kernels import costs
from bwn.kernels.target import loader, targets
from bwn.model import available_threads
from bwn.tools.benchmark import machine

GOVERNORS = Path("/sys/devices/system/cpu")
SLOW_GOVERNORS = {"powersave", "ondemand", "conservative"}


def facts() -> dict[str, Any]:
    """The machine, the kernels, and advice: `advice` is a list of lines, empty where nothing is known to be faster."""
    found = loader.library()
    return {
        **machine(available_threads()),
        "machine": platform.machine(),
        "memory_bytes": memory(),
        "page_bytes": os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None,
        "library": None if found is None else str(found.path),
        "runnable": [target.name for target in targets.runnable()],
        "shipped": loader.shipped(),
        "numba": loader.can_compile(),
        "costs": costs.table().line,
        "governors": governors(),
        "advice": advice(),
    }


def advice() -> list[str]:
    """What would be faster, a line each."""
    lines = []
    found, there = (
        loader.library(),
        [target for target in targets.runnable() if target.name in loader.shipped()],
    )
    if found is not None and there and there[0] is not found.target:
        lines.append(f"BWN_KERNELS chooses {found.target.name}; {there[0].name} is faster here")
    elif found is None and there and loader.compiling_is_asked():
        lines.append(
            f"numba compiles the kernels, as asked; library {there[0].name} would start faster"
        )
    elif found is None and there:
        lines.append(
            f"numba compiles the kernels, as the library cannot be used: {unusable(there[0])}"
        )
    elif found is None:
        wheel = (
            "; a wheel that brings them for this machine would not" if targets.runnable() else ""
        )
        lines.append(
            f"numba compiles the kernels: the first run waits for it, each start takes twice as long{wheel}"
        )
    if costs.table().origin != "measured":
        lines.append("kernels are chosen by default costs: bwn tune measures this machine's")
    slow = sorted(set(governors()) & SLOW_GOVERNORS)
    if slow:
        lines.append(
            f"the CPU's clock follows governor {', '.join(slow)}; performance holds it high"
        )
    return lines


def unusable(target: targets.Target) -> str:
    """Why the library of a target is not loaded."""
    try:
        return f"{loader.Library(target).path} loads now"
    except loader.KernelsError as error:
        return str(error)


def governors() -> list[str]:
    """What governs the clock of each CPU, where Linux tells."""
    found = []
    for file in sorted(GOVERNORS.glob("cpu[0-9]*/cpufreq/scaling_governor")):
        with suppress(OSError):  # of a CPU that is off
            found.append(file.read_text().strip())
    return found


def memory() -> int | None:
    """Bytes of memory, where the system tells."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
