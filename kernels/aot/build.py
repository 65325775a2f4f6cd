"""Build the libraries of compiled kernels: python -m bwn.kernels.aot.build FOLDER [TARGET]...

Each target is compiled in a process of its own, linked, and checked: what it needs of the system,
its pages, and the instructions that its kernels must have. This needs binutils for the target's
machine; with --objects it stops at object files, whose instructions are checked.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bwn.kernels.target.loader import DIGEST, symbol
from bwn.kernels.target.targets import TARGETS, Target

PINNED = {"numba": "0.68.1", "llvmlite": "0.50.0"}
"""Versions that libraries are built with: `cross.py` uses numba's private parts, and another LLVM
makes other code."""
SYSTEM = {
    "libc.so.6": {"clock_gettime", "sched_yield", "memcpy", "memset"},
    "libm.so.6": {"fmaf", "nearbyintf", "pow"},
}
"""What libraries may ask of the system: present in every glibc since 2.17."""
PAGE = 0x10000
"""Alignment of segments: pages of an aarch64 system may be 64 KB; a Raspberry Pi 5's are 16."""


def compile_target(target: Target, folder: Path) -> None:
    """Write the object file of a target, and its assembly.

    This process cannot compile for itself afterwards.
    """
    for package, version in PINNED.items():
        installed = importlib.import_module(package).__version__
        if installed != version:
            sys.exit(f"Error: libraries are built with {package} {version}, here is {installed}")
    from bwn.kernels.target import cpu

    cpu.OVERRIDE = target.offers
    from bwn.kernels.aot.cross import compile_object
    from bwn.kernels.registry import KERNELS
    from bwn.kernels.target.cache import compute_digest

    entries = {}
    for name in [
        *(kernel.code for kernel in KERNELS.values()),
        "threads.run_loop.run",
        "threads.run_loop.work",
    ]:
        module, _, function = name.rpartition(".")
        entries[symbol(name)] = getattr(importlib.import_module(f"bwn.kernels.{module}"), function)
    library = compile_object(target, entries, (DIGEST, compute_digest()))
    (folder / f"{target.name}.o").write_bytes(library.emit_native_object())
    (folder / f"{target.name}.s").write_text(library.get_asm_str())


def tool(target: Target, name: str) -> str:
    """The path of a program of binutils for a target's machine."""
    own = [name] if platform.machine() == target.machine else []
    for candidate in [f"{target.machine}-linux-gnu-{name}", *own]:
        path = shutil.which(candidate)
        if path:
            return path
    package = f"binutils-{target.machine.replace('_', '-')}-linux-gnu"
    sys.exit(f"Error: no {name} for {target.machine}: apt-get install {package}")


def run(*command: str | Path) -> str:
    """Run a command and return what it prints; its failure ends the build."""
    result = subprocess.run(command, check=False, text=True, capture_output=True)
    if result.returncode:
        sys.exit(f"Error: {' '.join(map(str, command))}: exit {result.returncode}\n{result.stderr}")
    return result.stdout


def link(target: Target, folder: Path) -> Path:
    """Link an object file to a library.

    The system's libraries are replaced by empty ones, so none need be installed.
    """
    ld, library = tool(target, "ld"), folder / f"{target.name}.so"
    empty, scratch = folder / f"{target.name}.empty.o", []
    run(tool(target, "as"), "-o", empty, "/dev/null")
    for system, names in SYSTEM.items():
        stand_in = folder / f"{target.name}.{system}"
        definitions = [f"--defsym={name}=0" for name in sorted(names)]
        run(ld, "-shared", f"-soname={system}", *definitions, "-o", stand_in, empty)
        scratch.append(stand_in)
    exported = folder / f"{target.name}.map"
    exported.write_text("{ global: bwn_*; local: *; };\n")
    run(
        ld, "-shared", "--hash-style=gnu", "--build-id=none", "--as-needed", "--strip-all",
        "-z", "noexecstack", "-z", "now", "-z", f"max-page-size={PAGE}",
        f"--version-script={exported}", "-o", library, folder / f"{target.name}.o", *scratch,
    )  # fmt: skip
    for path in (empty, exported, *scratch):
        path.unlink()
    return library


def check(target: Target, library: Path) -> list[str]:
    """What is wrong with a library, its instructions aside."""
    symbols = run(tool(target, "nm"), "--dynamic", library)
    wanted = set(re.findall(r" [Uw] (\S+)", symbols))
    problems = [
        f"asks the system for {name}" for name in sorted(wanted - set().union(*SYSTEM.values()))
    ]
    segments = re.findall(
        r"LOAD(?:\s+0x\S+){5}\s+[RWE ]+\s(0x\S+)", run(tool(target, "readelf"), "-lW", library)
    )
    if not segments or any(int(align, 16) < PAGE for align in segments):
        problems.append(f"segments are aligned to {segments}")
    return problems


def missing_instructions(target: Target, assembly: str) -> list[str]:
    """Kernels whose code lacks an instruction that they expect there: a lost vectorization."""
    # Imported here: these ask for the CPU's features, which `compile_target` sets first.
    from bwn.kernels.gemm.specs import SPECS
    from bwn.kernels.registry import OTHERS

    bodies: dict[str, list[str]] = {}
    name = ""

    def code(symbol: str) -> str:
        """The instructions of an entry, and of the functions that it calls: it may be too large
        to be part of the entry."""
        lines = bodies.get(symbol, [])
        calls = [re.match(r"(?:callq?|jmp|bl?)\t(\w+)$", line) for line in lines]
        called = [line for call in calls if call for line in bodies.get(call[1], [])]
        return "\n".join([*lines, *called])

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
        objects, output = output, link(target, folder)
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
    if chosen.compile:
        compile_target(targets[0], chosen.folder)
    else:
        build_all(chosen.folder, targets, linked=not chosen.objects)


if __name__ == "__main__":
    main()
