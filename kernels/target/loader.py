"""Compiled kernels: from the library that is bundled with bwn, else compiled by numba when needed.

An *entry* has one signature, `entry(p, begin, end, part)`: the address of its parameter block, the
range of work to do, and which of the concurrent parts this is (each has its own scratch). It is
named `folder.module.function`.

Wheels bundle a library for each target of their machine; the best that this machine can run is
used, and neither numba nor llvmlite is imported. Elsewhere numba compiles the same sources for this
very CPU. The environment variable BWN_KERNELS overrides this: `jit`, or a target's name.
BWN_LIBRARIES names another folder of libraries.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

from bwn.kernels.target.cache import sources_digest
from bwn.kernels.target.forks import compiling
from bwn.kernels.target.targets import TARGETS, Target, runnable
from bwn.kernels.target.trust import distrust

# Absolute: the system searches for a name without a folder, and a process may change its own.
FOLDER = Path(os.environ.get("BWN_LIBRARIES") or Path(__file__).parents[1] / "libraries").absolute()
PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)
DIGEST = "bwn_sources"
"""Symbol of the digest of the sources that a library was built from."""


class KernelsError(Exception):
    """No compiled kernels are available on this machine."""


class Entry(Protocol):
    """A compiled entry. Python calls it, holding no GIL; compiled code calls its address.

    Attributes:
        address: Of a C function of four int64.
        loaded: Whether it came from a library or the cache, not compiled now.
    """

    address: int
    loaded: bool

    def __call__(self, p: int, begin: int, end: int, part: int) -> None:
        """Do units begin..end-1 as `part`."""


class LibraryEntry:
    """An entry of a library."""

    loaded = True

    def __init__(self, function: ctypes._NamedFuncPointer) -> None:
        self.address = int(ctypes.cast(function, ctypes.c_void_p).value or 0)
        self._call = PROTOTYPE(self.address)

    def __call__(self, p: int, begin: int, end: int, part: int) -> None:
        """Do units begin..end-1 as `part`."""
        self._call(p, begin, end, part)


class Library:
    """A target's compiled kernels; KernelsError where the file was built from other sources."""

    def __init__(self, target: Target) -> None:
        self.target, self.path = target, FOLDER / f"{target.name}.so"
        if not self.path.exists():
            raise KernelsError(
                f"no library {target.name} is bundled with bwn: {self.path} is missing"
            )
        if why := _distrusted(self.path):
            # The reason may start with the path already.
            path = "it" if str(self.path) in why else self.path
            raise KernelsError(f"{why}; {path} is not loaded")
        try:
            self._library = ctypes.CDLL(str(self.path))
            built_from = ctypes.c_char.in_dll(self._library, DIGEST)
        except (OSError, ValueError) as error:
            # The loader's message starts with the path already.
            raise KernelsError(
                str(error) if str(self.path) in str(error) else f"{self.path}: {error}"
            ) from error
        digest = ctypes.string_at(ctypes.addressof(built_from)).decode()
        if digest != sources_digest():
            raise KernelsError(
                f"{self.path} was built from other sources ({digest}) than those installed"
                f" ({sources_digest()}): build or install bwn again"
            )

    def entry(self, name: str) -> LibraryEntry:
        """The entry `module.function`."""
        return LibraryEntry(getattr(self._library, symbol(name)))


def _distrusted(path: Path) -> str:
    """Why a library must not be loaded; empty where it may."""
    package = Path(__file__).parents[1]
    if path.parent != package / "libraries":
        return distrust(path)
    # Whoever may write to the package needs no library: a library is trusted as its sources are.
    if not hasattr(os, "getuid"):
        return ""
    owners = {os.getuid(), 0, os.stat(package).st_uid}
    for place in (path.parent, path):
        for entry in (os.lstat(place), os.stat(place)):
            if entry.st_uid not in owners:
                return f"{place} belongs to another user"
        if os.stat(place).st_mode & ~os.stat(package).st_mode & stat.S_IWOTH:
            return f"{place} can be written by other users"
    return ""


def symbol(name: str) -> str:
    """The name of an entry in a library."""
    return "bwn_" + name.replace(".", "_")


def shipped() -> list[str]:
    """Targets whose library is bundled, for this machine or another."""
    return [target.name for target in TARGETS if (FOLDER / f"{target.name}.so").exists()]


def can_compile() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@cache
def library() -> Library | None:
    """The library in use; None where numba compiles.

    Raises:
        KernelsError: Neither is possible, or BWN_KERNELS asks for what this machine cannot run.
    """
    wanted = os.environ.get("BWN_KERNELS", "")
    if compiling_is_asked():
        _need_numba("BWN_KERNELS or NUMBA_CPU_* asks to compile the kernels here")
        return None
    fit = runnable()
    if wanted:
        for target in fit:
            if target.name == wanted:
                return Library(target)
        known = ", ".join(["jit", *(target.name for target in fit)])
        raise KernelsError(f"BWN_KERNELS is '{wanted}'; this machine can run: {known}")
    for target in fit:
        if (FOLDER / f"{target.name}.so").exists():
            try:
                return Library(target)
            except KernelsError as error:
                if not can_compile():
                    raise
                # In a checkout, a library older than its sources; else a broken installation.
                logging.getLogger(__name__).warning("%s; numba compiles the kernels instead", error)
                return None
    _need_numba("no compiled kernels for this machine are bundled with bwn")
    return None


def _need_numba(why: str) -> None:
    if not can_compile():
        raise KernelsError(f"{why}, and numba is not installed: pip install numba")


def origin() -> str:
    """Where the kernels in use come from: `library aarch64-dotprod`, `numba`."""
    bundled = library()
    return "numba" if bundled is None else f"library {bundled.target.name}"


def compiling_is_asked() -> bool:
    """Whether the environment asks numba to compile, for this CPU or for another."""
    names = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    return os.environ.get("BWN_KERNELS") == "jit" or any(os.environ.get(name) for name in names)


@cache
def entry(name: str) -> Entry:
    """The entry `folder.module.function`, compiled where no library is in use."""
    bundled = library()
    if bundled is not None:
        return bundled.entry(name)
    with compiling:
        from bwn.kernels.target.jit import compile_entry

        return compile_entry(load_function(name))


def load_function(name: str) -> Callable[[int, int, int, int], None]:
    """The Python function of the entry `folder.module.function`, which needs numba."""
    module, _, function = name.rpartition(".")
    source: Callable[[int, int, int, int], None] = getattr(
        importlib.import_module(f"bwn.kernels.{module}"), function
    )
    return source
