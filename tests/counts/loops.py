"""Inner loops of the GEMM kernels on ARM: what they are made of, and their cycles by LLVM's models.

    loops.py [--mca llvm-mca-22] [--objects FOLDER] [--show KERNEL]

Compiles the kernels for both ARM targets and prints docs/arm.md's tables. No ARM machine is needed,
and no emulator. A model knows issue, ports and latencies, no cache, no branch predictor: its cycles
are a bracket. The lower end is the loop simulated, the upper one what the busiest port allows.
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

from assembly import Loop, Rule, functions, hot_loop, reachable, rule_of
from peers import PEERS

from bwn.kernels.aot.build import build
from bwn.kernels.aot.linker import run, tool
from bwn.kernels.target import cpu
from bwn.kernels.target.targets import TARGETS, Target

CORES = {
    "cortex-a53": "aarch64",
    "cortex-a72": "aarch64",
    "cortex-a55": "aarch64-dotprod",
    "cortex-a76": "aarch64-dotprod",
    "neoverse-n1": "aarch64-dotprod",
}
"""LLVM's models, and the library that such a core loads."""
NO_SDOT = ("cortex-a53", "cortex-a72")
COUNTED = {"aarch64": "cortex-a53", "aarch64-dotprod": "cortex-a76"}
"""The core whose executed instructions are on record for a target."""
RECORD = Path(__file__).resolve().parents[2] / "docs/records/instructions.json"
ITERATIONS = 100
TYPE = "(?:f32|i8|s1|b1)"


class KernelLoop(NamedTuple):
    """The hot loop of a kernel."""

    kernel: str
    loop: Loop
    rule: Rule

    @property
    def macs(self) -> int:
        return self.loop.macs(self.rule)


def disassembly(target: Target, folder: Path) -> str:
    """The code of all kernels, compiled in a process of its own as for a library."""
    path = folder / f"{target.name}.o"
    if not path.exists():
        build(target, folder, linked=False)
    return run(tool(target, "objdump"), "-d", "--no-show-raw-insn", path)


def products(text: str) -> list[KernelLoop]:
    """The hot loop of every kernel that multiplies. Exits where one has none."""
    loops = []
    bodies = functions(text)
    for symbol in bodies:
        name = re.fullmatch(rf"bwn_\w+?_({TYPE}(?:_{TYPE}){{2}}_(?:planes|signs)_\w+)", symbol)
        if not name:
            continue
        rule = rule_of(name[1])
        # A kernel's loops may be in functions that it calls.
        loop = hot_loop([bodies[each] for each in reachable(text, symbol) if each in bodies], rule)
        if loop is None:
            sys.exit(f"Error: no loop of {symbol} does what RULES in assembly.py says: {rule.why}")
        loops.append(KernelLoop(name[1], loop, rule))
    return loops


def simulate(mca: str, core: str, body: list[str]) -> tuple[float, float]:
    """Cycles of an iteration: simulated, and as the busiest port allows."""
    features = [] if core in NO_SDOT else ["-mattr=+dotprod"]
    command = [mca, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}", *features]
    result = subprocess.run(
        command, input="\n".join(body), text=True, capture_output=True, check=False
    )
    total = re.search(r"Total Cycles:\s+(\d+)", result.stdout)
    bound = re.search(r"Block RThroughput:\s+([\d.]+)", result.stdout)
    if result.returncode or not total or not bound:
        sys.exit(f"Error: {' '.join(command)}: exit {result.returncode}\n{result.stderr[:1000]}")
    return int(total[1]) / ITERATIONS, float(bound[1])


def bracket(mca: str, core: str, body: list[str], macs: int) -> str:
    """Multiply-accumulates a cycle: `low-high`, one number if they agree, - if it cannot run."""
    if core in NO_SDOT and any("dot v" in line for line in body):
        return "-"
    both = sorted(macs / cycles for cycles in simulate(mca, core, body))
    low, high = (f"{value:.{0 if value >= 10 else 1}f}" for value in both)
    return low if low == high else f"{low}-{high}"


def calls() -> dict[str, int]:
    """Multiply-accumulates of the calls whose instructions `count.py` records, by kernel."""
    cpu.OVERRIDE = frozenset().union(
        *(target.offers for target in TARGETS if target.name in COUNTED)
    )
    from bwn.kernels.registry import GEMMS, XNOR_PLANES, XNOR_SIGNS

    deep = 1152 * 64 * 128
    products = {spec.name: deep if spec.lanes else 1024 * 512 for spec in GEMMS}
    return products | {XNOR_SIGNS.name: deep, XNOR_PLANES.name: deep}


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|")


def contents(target: str, loops: list[KernelLoop], size_of: dict[str, int]) -> None:
    """Print what the loops are made of, and which part of a recorded call they make up."""
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
    for kernel, loop, rule in loops:
        kinds, macs, size = loop.classes(), loop.macs(rule), len(loop.body)
        whole = record.get(kernel)
        share = f"{size / macs * size_of[kernel] / whole:.0%}" if whole else ""
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


def brackets(mca: str, loops: dict[str, list[KernelLoop]]) -> None:
    """Print multiply-accumulates a cycle of our loops and of the peers'."""
    print()
    row("loop", "MAC an instruction", *CORES)
    row(*["---"] + ["---:"] * (len(CORES) + 1))
    by_name = {target: {each.kernel: each for each in of} for target, of in loops.items()}
    for kernel in dict.fromkeys(each.kernel for of in loops.values() for each in of):
        cells, rates = [], []
        for core, target in CORES.items():
            ours = by_name[target].get(kernel)
            cells.append(bracket(mca, core, ours.loop.body, ours.macs) if ours else "-")
            rates += [f"{ours.macs / len(ours.loop.body):.1f}"] if ours else []
        row(f"`{kernel}`", ", ".join(dict.fromkeys(rates)), *cells)
    for name, macs, loads, body in PEERS:
        row(
            f"{name}: {loads}",
            f"{macs / len(body):.1f}",
            *(bracket(mca, core, body, macs) for core in CORES),
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mca", default="llvm-mca-22", help="the program; another version has other models"
    )
    parser.add_argument(
        "--objects", type=Path, help="a folder to keep TARGET.o in; existing ones are used"
    )
    parser.add_argument(
        "--show",
        metavar="KERNEL",
        help="print the loops of kernels whose names hold this, no tables",
    )
    chosen = parser.parse_args()
    if not chosen.show and not shutil.which(chosen.mca):
        sys.exit(
            f"Error: no {chosen.mca}: apt-get install llvm-22 (Debian 12: from bookworm-security)"
        )
    size_of = calls()  # before a build imports the kernels of this CPU
    targets = {target.name: target for target in TARGETS}
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.objects or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        loops = {name: products(disassembly(targets[name], folder)) for name in COUNTED}
    for target, of_target in loops.items():
        if not chosen.show:
            contents(target, of_target, size_of)
        for kernel, loop, rule in of_target:
            if chosen.show and chosen.show in kernel:
                size = f"{loop.macs(rule)} MAC, {len(loop.body)} instructions"
                print(f"{target} {kernel} {loop.label}: {size}")
                print("\n".join(f"    {line}" for line in loop.body))
    if not chosen.show:
        brackets(chosen.mca, loops)


if __name__ == "__main__":
    main()
