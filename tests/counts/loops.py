"""Inner loops of the GEMM kernels on ARM: their instructions, and cycles in LLVM's core models.

    loops.py [--mca llvm-mca-22] [--objects FOLDER] [--show KERNEL]

Compiles the kernels for both ARM targets and prints the tables of docs/arm.md. It needs neither an
ARM machine nor an emulator. The models know issue widths, ports and latencies, but no caches and
no branch prediction, so throughput is given as a range: from the simulated loop to the limit set
by the busiest port.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from assembly import Loop, Rule, functions, hot_loop, rule_of
from peers import PEERS

from bwn.kernels.aot.build import build, run, tool
from bwn.kernels.target import cpu
from bwn.kernels.target.targets import TARGETS, Target

CORES = {
    "cortex-a53": "aarch64",
    "cortex-a72": "aarch64",
    "cortex-a55": "aarch64-dotprod",
    "cortex-a76": "aarch64-dotprod",
    "neoverse-n1": "aarch64-dotprod",
}
"""LLVM's core models, and the library that each core loads."""
NO_SDOT = ("cortex-a53", "cortex-a72")
COUNTED = {"aarch64": "cortex-a53", "aarch64-dotprod": "cortex-a76"}
"""The core whose instruction counts are recorded for each target."""
RECORD = Path(__file__).resolve().parents[2] / "docs/records/instructions.json"
ITERATIONS = 100


class KernelLoop(NamedTuple):
    """The hot loop of a GEMM kernel."""

    kernel: str
    loop: Loop
    rule: Rule

    @property
    def macs(self) -> int:
        return self.loop.macs(self.rule)


def disassembly(target: Target, folder: Path) -> str:
    """The code of all kernels, compiled in a separate process as for a library."""
    path = folder / f"{target.name}.o"
    if not path.exists():
        build(target, folder, linked=False)
    return run(tool(target, "objdump"), "-d", "--no-show-raw-insn", path)


def products(text: str) -> list[KernelLoop]:
    """The hot loop of every GEMM kernel. Exits where a kernel has none."""
    kernels = []
    for symbol, lines in functions(text).items():
        name = re.fullmatch(r"bwn_\w+?_((?:f32|i8|s1|b1)_\w+_(?:planes|signs)_\w+)", symbol)
        if not name:
            continue
        rule = rule_of(name[1])
        loop = hot_loop(lines, rule)
        if loop is None:
            sys.exit(f"Error: no loop of {symbol} matches its rule in assembly.py: {rule.why}")
        kernels.append(KernelLoop(name[1], loop, rule))
    return kernels


def simulate(mca: str, core: str, body: list[str]) -> tuple[float, float]:
    """Cycles of an iteration: simulated, and as limited by the busiest port."""
    features = [] if core in NO_SDOT else ["-mattr=+dotprod"]
    command = [mca, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}", *features]
    process = subprocess.run(
        command, input="\n".join(body), text=True, capture_output=True, check=False
    )
    total = re.search(r"Total Cycles:\s+(\d+)", process.stdout)
    bound = re.search(r"Block RThroughput:\s+([\d.]+)", process.stdout)
    if process.returncode or not total or not bound:
        sys.exit(f"Error: {' '.join(command)}: exit {process.returncode}\n{process.stderr[:1000]}")
    return int(total[1]) / ITERATIONS, float(bound[1])


def bracket(mca: str, core: str, body: list[str], macs: int) -> str:
    """MACs per cycle as `low-high`, or one number if both are equal; - if the core lacks sdot."""
    if core in NO_SDOT and any("dot v" in line for line in body):
        return "-"
    both = sorted(macs / cycles for cycles in simulate(mca, core, body))
    low, high = (f"{value:.{0 if value >= 10 else 1}f}" for value in both)
    return low if low == high else f"{low}-{high}"


def calls() -> dict[str, int]:
    """MACs of the recorded calls (`count.py`), by kernel."""
    cpu.ASKED = frozenset().union(*(target.offers for target in TARGETS if target.name in COUNTED))
    from bwn.kernels.registry import GEMMS, XNOR_PLANES, XNOR_SIGNS

    deep = 1152 * 64 * 128
    macs = {spec.name: deep if spec.lanes else 1024 * 512 for spec in GEMMS}
    return macs | {XNOR_SIGNS.name: deep, XNOR_PLANES.name: deep}


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|")


def contents(target: str, kernels: list[KernelLoop], macs_of: dict[str, int]) -> None:
    """Print the instructions of the loops by class, and the loops' share of a recorded call."""
    record = json.loads(RECORD.read_text())[COUNTED[target]]["products"]
    print(f"\n{target}\n")
    row(
        "kernel",
        "MAC",
        "instructions",
        "vector",
        "load, store",
        "stack",
        "moved",
        "scalar",
        "MAC each",
        "of a call",
    )
    row(*["---"] + ["---:"] * 9)
    for kernel, loop, rule in kernels:
        kinds, macs, size = loop.classes(), loop.macs(rule), len(loop.body)
        whole = record.get(kernel)
        share = f"{size / macs * macs_of[kernel] / whole:.0%}" if whole else ""
        memory, moved = kinds["loads"] + kinds["stores"], kinds["moves"] + kinds["crossing"]
        cells = (
            kinds["vectors"],
            memory,
            kinds["stack"],
            moved,
            kinds["scalar"],
            f"{macs / size:.1f}",
            share,
        )
        row(f"`{kernel}`", macs, size, *cells)


def brackets(mca: str, kernels: dict[str, list[KernelLoop]]) -> None:
    """Print the MACs per cycle of bwn's loops and of the peers'."""
    print()
    row("loop", "MAC an instruction", *CORES)
    row(*["---"] + ["---:"] * (len(CORES) + 1))
    of_target = {target: {loop.kernel: loop for loop in loops} for target, loops in kernels.items()}
    for name in dict.fromkeys(loop.kernel for loops in kernels.values() for loop in loops):
        cells, each = [], []
        for core, target in CORES.items():
            loop = of_target[target].get(name)
            cells.append(bracket(mca, core, loop.loop.body, loop.macs) if loop else "-")
            each += [f"{loop.macs / len(loop.loop.body):.1f}"] if loop else []
        row(f"`{name}`", ", ".join(dict.fromkeys(each)), *cells)
    for name, macs, loads, body in PEERS:
        row(
            f"{name}: {loads}",
            f"{macs / len(body):.1f}",
            *(bracket(mca, core, body, macs) for core in CORES),
        )


def show(text: str, kernels: dict[str, list[KernelLoop]]) -> None:
    """Print the loops of kernels whose names contain `text`."""
    for target, loops in kernels.items():
        for name, loop, rule in loops:
            if text in name:
                counts = f"{loop.macs(rule)} MAC, {len(loop.body)} instructions"
                print(f"{target} {name} {loop.label}: {counts}")
                print("\n".join(f"    {line}" for line in loop.body))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mca", default="llvm-mca-22", help="the llvm-mca program; models differ between versions"
    )
    parser.add_argument(
        "--objects", type=Path, help="folder for TARGET.o files; existing ones are used again"
    )
    parser.add_argument(
        "--show",
        metavar="KERNEL",
        help="print the loops of kernels whose names contain this, and no tables",
    )
    chosen = parser.parse_args()
    if not chosen.show and not shutil.which(chosen.mca):
        sys.exit(
            f"Error: no {chosen.mca}: apt-get install llvm-22 (Debian 12: from bookworm-security)"
        )
    targets = {target.name: target for target in TARGETS}
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.objects or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        kernels = {name: products(disassembly(targets[name], folder)) for name in COUNTED}
    if chosen.show:
        show(chosen.show, kernels)
        return
    macs_of = calls()
    for target, loops in kernels.items():
        contents(target, loops, macs_of)
    brackets(chosen.mca, kernels)


if __name__ == "__main__":
    main()
