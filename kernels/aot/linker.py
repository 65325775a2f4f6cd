"""Linking object files to shared libraries with binutils, for this machine or another.

No library of the target's system is needed: empty ones take their place.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from bwn.kernels.target.loader import KernelsError
from bwn.kernels.target.targets import Target

SYSTEM = {
    "libc.so.6": {"clock_gettime", "getauxval", "sched_yield", "memcpy", "memset"},
    "libm.so.6": {"cos", "exp", "nearbyintf", "pow", "sin"},
}
"""What libraries may ask of the system: present in every glibc since 2.17."""
PAGES = {"x86_64": 0x1000, "aarch64": 0x10000}
"""Alignment of segments: pages of an aarch64 system may be 64 KB; a Raspberry Pi 5's are 16."""


def tool(target: Target, name: str) -> str:
    """The path of a program of binutils for a target's machine.

    Raises:
        KernelsError: It is not installed; the message names the package.
    """
    own = [name] if platform.machine() == target.machine else []
    for candidate in [f"{target.machine}-linux-gnu-{name}", *own]:
        path = shutil.which(candidate)
        if path:
            return path
    package = f"binutils-{target.machine.replace('_', '-')}-linux-gnu"
    raise KernelsError(f"no {name} for {target.machine}: apt-get install {package}")


def run(*command: str | Path) -> str:
    """Run a command and return what it prints; KernelsError where it fails."""
    result = subprocess.run(command, check=False, text=True, capture_output=True)
    if result.returncode:
        line = " ".join(map(str, command))
        raise KernelsError(f"{line}: exit {result.returncode}\n{result.stderr}")
    return result.stdout


def link(target: Target, objects: Sequence[Path], library: Path, exported: Iterable[str]) -> None:
    """Link object files to a shared library.

    Args:
        target: What it was compiled for.
        objects: The object files; temporary files are written in the folder of the first.
        library: The library to write.
        exported: Names that are visible from outside, or patterns such as `bwn_*`.
    """
    ld, names = tool(target, "ld"), objects[0].with_suffix(".map")
    empty, scratch = objects[0].with_suffix(".empty.o"), []
    run(tool(target, "as"), "-o", empty, "/dev/null")
    for system, defined in SYSTEM.items():
        stand_in = objects[0].with_suffix(f".{system}")
        definitions = [f"--defsym={name}=0" for name in sorted(defined)]
        run(ld, "-shared", f"-soname={system}", *definitions, "-o", stand_in, empty)
        scratch.append(stand_in)
    names.write_text(f"{{ global: {'; '.join(exported)}; local: *; }};\n")
    run(
        ld, "-shared", "--hash-style=gnu", "--build-id=none", "--as-needed", "--strip-all",
        "-z", "noexecstack", "-z", "now", "-z", "noseparate-code",
        "-z", f"max-page-size={PAGES[target.machine]}", f"-soname={library.name}",
        f"--version-script={names}", "-o", library, *objects, *scratch,
    )  # fmt: skip
    for path in (empty, names, *scratch):
        path.unlink()


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
    if not segments or any(int(align, 16) < PAGES[target.machine] for align in segments):
        problems.append(f"segments are aligned to {', '.join(segments) or 'nothing'}")
    return problems
