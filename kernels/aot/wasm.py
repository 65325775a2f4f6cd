"""Linking an object file to a WebAssembly module, with LLVM's linker."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from bwn.kernels.aot.linker import run
from bwn.kernels.target.loader import KernelsError

IMPORTS = ("cos", "exp", "pow", "sin")
"""What a module may ask of JavaScript: functions of `Math`, of the same names."""
STACK_BYTES = 1 << 18
"""It lies before all data, so a stack that grows too large is an error and overwrites nothing."""


def linker() -> str:
    """The path of the linker.

    Raises:
        KernelsError: It is not installed; the message names the package.
    """
    path = shutil.which("wasm-ld")
    if path is None:
        raise KernelsError("no wasm-ld, which links WebAssembly: apt-get install lld")
    return path


def link(code: Path, module: Path, exported: Iterable[str]) -> None:
    """Link an object file to a module.

    Args:
        code: The object file; a temporary file is written next to it.
        module: The module to write.
        exported: Names of the functions that are visible from outside.
    """
    allowed = code.with_suffix(".imports")
    allowed.write_text("\n".join(IMPORTS))
    names = [f"--export={name}" for name in (*exported, "__heap_base")]
    run(
        linker(), "--no-entry", "--strip-all", "--stack-first", "-z", f"stack-size={STACK_BYTES}",
        f"--allow-undefined-file={allowed}", *names, "-o", module, code,
    )  # fmt: skip
    allowed.unlink()
