"""What bwn runs on here, and how to speed it up."""

from __future__ import annotations

import os
import platform
from typing import Any

from bwn.kernels import costs
from bwn.kernels.target import loader, targets
from bwn.kernels.target.limits import available_threads
from bwn.tools.benchmark import machine
from bwn.tools.conditions import governors

SLOW_GOVERNORS = {"powersave", "ondemand", "conservative"}


def facts() -> dict[str, Any]:
    """Describe the machine and the kernels; `advice` lists what would be faster, a line each."""
    library = loader.library()
    return {
        **machine(available_threads()),
        "machine": platform.machine(),
        "memory_bytes": memory(),
        "page_bytes": os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None,
        "library": None if library is None else str(library.path),
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
    library = loader.library()
    usable = [target for target in targets.runnable() if target.name in loader.shipped()]
    if library is not None and usable and usable[0] is not library.target:
        lines.append(f"BWN_KERNELS sets {library.target.name}; {usable[0].name} is faster here")
    elif library is None and usable and loader.compiling_is_asked():
        lines.append(
            "numba compiles the kernels, as the environment asks; "
            f"library {usable[0].name} would start faster"
        )
    elif library is None and usable:
        lines.append(
            f"numba compiles the kernels, as the library cannot be used: {unusable(usable[0])}"
        )
    elif library is None:
        wheel = "; a wheel with compiled kernels needs neither" if targets.runnable() else ""
        lines.append(
            "numba compiles the kernels on the first run and is loaded at every start, which "
            f"takes time{wheel}"
        )
    if costs.table().origin != "measured":
        lines.append("run bwn tune to choose kernels by their speed on this machine")
    slow = sorted(set(governors()) & SLOW_GOVERNORS)
    if slow:
        lines.append(
            f"the CPU's governor is {', '.join(slow)}: set it to performance for a steady clock"
        )
    return lines


def unusable(target: targets.Target) -> str:
    """Why the library of a target is not loaded."""
    try:
        return f"{loader.Library(target).path} loads now"
    except loader.KernelsError as error:
        return str(error)


def memory() -> int | None:
    """Bytes of memory, where the system says."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
