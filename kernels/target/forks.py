"""Forks at any moment: a child has one thread, and whatever its parent's others held stays held.

A fork therefore waits until no other thread compiles, which takes seconds, or imports a module,
whose lock the child could never take.
"""

from __future__ import annotations

import importlib
import logging  # noqa: F401  # registers itself first, see below
import os
import threading
import time
from typing import Any

LONGEST = 60.0
"""Seconds that a fork waits for the imports of other threads."""
PAUSE = 0.001
PACKAGES = {"bwn", "numba", "llvmlite", "numpy", "msgspec", "safetensors", "PIL", "torch"}
"""Whose imports a fork waits for; an import of the user's may be a server that never ends."""

compiling = threading.RLock()
"""Held while kernels are imported and compiled, and while LLVM is asked about the CPU."""


def others_import() -> bool:
    """Whether another thread imports one of PACKAGES, and does not wait for this one to do so."""
    # Private, but the only place that says it; where a Python has none, nobody waits.
    locks: dict[str, Any] = getattr(getattr(importlib, "_bootstrap", None), "_module_locks", {})
    me = threading.get_ident()
    owners = {
        getattr(reference(), "owner", None)
        for name, reference in list(locks.items())
        if name.partition(".")[0] in PACKAGES
    } - {None}
    return bool(owners) and me not in owners


def _before() -> None:
    deadline = time.monotonic() + LONGEST
    while True:
        compiling.acquire()
        if not others_import() or time.monotonic() > deadline:
            return
        compiling.release()  # an import may need to compile
        time.sleep(PAUSE)


# Who registers last is called first: before logging, whose lock the imports waited for may need.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before,
        after_in_child=compiling.release,
        after_in_parent=compiling.release,
    )
