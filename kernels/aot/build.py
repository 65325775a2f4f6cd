"""Build the libraries of compiled kernels: python -m bwn.kernels.aot.build FOLDER [TARGET]...

Each target is compiled in a process of its own, linked, and checked: what it needs of the system,
its pages, and the instructions that its kernels must have. This needs binutils for the target's
machine; with --objects it stops at object files, whose instructions are checked.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bwn.kernels.aot.linker import check, link
from bwn.kernels.target.loader import DIGEST, KernelsError, load_function, symbol
from bwn.kernels.target.targets import TARGETS, Target

PINNED = {"numba": "0.68.1", "llvmlite": "0.50.0"}
"""Versions that libraries are built with: `cross.py` uses numba's private parts, and another LLVM
makes other code."""


def check_compiler() -> None:
    """Raise KernelsError where numba is missing, or of another version than libraries need."""
    for package, version in PINNED.items():
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed = "not installed"
        if installed != version:
            raise KernelsError(
                f"libraries are compiled by {package} {version}, here it is {installed}: "
                f"pip install {package}=={version}"
            )


def compile_target(target: Target, folder: Path) -> None:
    """Write the object file of a target, and its assembly.

    This process cannot compile for itself afterwards.
    """
    check_compiler()
    if target.has_assembly and platform.machine() != target.machine:
        raise KernelsError(f"{target.name} can be compiled on {target.machine} only")
    from bwn.kernels.target import cpu

    cpu.OVERRIDE = target.offers
    from bwn.kernels.aot.cross import compile_object, define_string
    from bwn.kernels.registry import KERNELS
    from bwn.kernels.target.cache import compute_digest

    entries = {
        symbol(name): load_function(name)
        for name in [
            *(kernel.code for kernel in KERNELS.values()),
            "threads.run_loop.run",
            "threads.run_loop.work",
        ]
    }

    def define(module: Any) -> list[str]:
        define_string(module, DIGEST, compute_digest())
        return list(entries)

    library = compile_object(target, entries, define)
    (folder / f"{target.name}.o").write_bytes(library.emit_native_object())
    (folder / f"{target.name}.s").write_text(library.get_asm_str())


def missing_instructions(target: Target, assembly: str) -> list[str]:
    """Kernels whose code lacks an instruction that they expect there: a lost vectorization."""
    # Imported here: these ask for the CPU's features, which `compile_target` sets first.
    from bwn.kernels.gemm.specs import SPECS
    from bwn.kernels.registry import OTHERS

    bodies: dict[str, list[str]] = {}
    name = ""

    def code(symbol: str) -> str:
        """The instructions of an entry, and of all functions that it leads to: it may be too large
        to be part of the entry, and inner loops may be functions."""
        found, lines = [symbol], []
        for each in found:  # grows on the way
            for line in bodies.get(each, []):
                lines.append(line)
                call = re.match(r"(?:callq?|jmp|bl?)\t(\w+)(?:@PLT)?$", line)
                if call and call[1] not in found:
                    found.append(call[1])
        return "\n".join(lines)

    for line in assembly.splitlines():
        label = re.match(r"([\w.$]+):", line)
        if label and not label[1].startswith(".L"):
            name = label[1]
        elif line.startswith("\t"):
            bodies.setdefault(name, []).append(line.strip())
    return [
        f"{kernel.name} has no '{pattern}'"
        for kernel in (*SPECS, *OTHERS)
        if kernel.runs_on(target.offers)
        for pattern in kernel.expected_on(target)
        if not re.search(pattern, code(symbol(kernel.code)))
    ]


def build(target: Target, folder: Path, linked: bool = True) -> Path:
    """Compile in a process of its own, link, check."""
    began = time.monotonic()
    environment = os.environ | {"BWN_KERNELS": "jit"}
    command = [sys.executable, "-m", __spec__.name, "--compile", str(folder), target.name]
    result = subprocess.run(command, check=False, env=environment)
    if result.returncode:
        sys.exit(f"Error: {target.name} did not compile: exit {result.returncode}")
    output, assembly = folder / f"{target.name}.o", folder / f"{target.name}.s"
    problems = missing_instructions(target, assembly.read_text())
    assembly.unlink()
    if linked:
        objects, output = output, folder / f"{target.name}.so"
        link(target, [objects], output, ["bwn_*"])
        problems += check(target, output)
        objects.unlink()
    if problems:
        output.unlink()
        sys.exit(f"Error: {target.name}: " + "; ".join(problems))
    print(
        f"{output}: {output.stat().st_size:,} bytes, {time.monotonic() - began:.0f} s", flush=True
    )
    return output


def build_all(folder: Path, targets: Iterable[Target] = TARGETS, linked: bool = True) -> list[Path]:
    """Build the libraries of all targets, or their object files, a processor each."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda target: build(target, folder, linked), targets))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=", ".join(target.name for target in TARGETS)
    )
    parser.add_argument("--objects", action="store_true", help="object files; nothing is linked")
    parser.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    known = {target.name: target for target in TARGETS}
    unknown = [name for name in chosen.targets if name not in known]
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(known)}")
    targets = [known[name] for name in chosen.targets] or TARGETS
    try:
        if chosen.compile:
            compile_target(targets[0], chosen.folder)
        else:
            build_all(chosen.folder, targets, linked=not chosen.objects)
    except KernelsError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
