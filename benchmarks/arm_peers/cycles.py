"""Cycles of a counted run by LLVM's models: of every hot block, times how often it ran.

A model knows issue, ports and latencies, no cache and no branch predictor, and takes each block for
a loop of its own: compare within one model only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

MODELS = {
    "cortex-a53": {"cortex-a53": ()},
    "cortex-a72": {"cortex-a72": ()},
    "cortex-a76": {"cortex-a76": (), "neoverse-n1": ("-dispatch=4",)},
}
"""LLVM's models of a core, with options. Its A76 is that of the A57; Neoverse N1 is the A76's
sibling, but LLVM holds it to three operations a cycle, so it is given four."""
COVERED, MOST_BLOCKS, ITERATIONS = 0.97, 600, 100
MCA, DISASSEMBLER = "llvm-mca-22", "llvm-mc-22"

Block = tuple[str, int]
"""Instructions of a block, eight hexadecimal digits each, and how often it ran."""


def modeled(blocks: Path, core: str) -> dict[str, dict[str, float]]:
    """Millions of cycles by each model of a core: simulated, and as the busiest port allows."""
    hot, share = hottest(blocks)
    bodies = [disassemble(words) for words, _ in hot]
    result = {}
    for model, options in MODELS[core].items():
        simulated = ports = 0.0
        for (_, runs), summary in zip(hot, summaries(model, options, bodies), strict=True):
            simulated += runs * summary["TotalCycles"] / ITERATIONS
            ports += runs * summary["BlockRThroughput"]
        result[model] = {
            "simulated": round(simulated / share / 1e6, 3),
            "ports": round(ports / share / 1e6, 3),
        }
    return result


def hottest(path: Path) -> tuple[list[Block], float]:
    """The blocks with the most instructions executed, and the share of all that they make up."""
    runs: Counter[tuple[str, str]] = Counter()
    for line in path.read_text().splitlines():
        address, times, words = line.split()
        runs[address, words] += int(times)
    weights = {key: times * len(key[1]) for key, times in runs.items()}
    total, covered, hot = sum(weights.values()), 0, []
    for key in sorted(weights, key=lambda key: -weights[key])[:MOST_BLOCKS]:
        if covered >= COVERED * total:
            break
        covered += weights[key]
        hot.append((key[1], runs[key]))
    return hot, covered / total


def disassemble(words: str) -> list[str]:
    """The instructions of a block as text."""
    numbers = (int(words[start : start + 8], 16) for start in range(0, len(words), 8))
    content = " ".join(f"0x{byte:02x}" for n in numbers for byte in n.to_bytes(4, "little"))
    text = run(DISASSEMBLER, "--disassemble", "-triple=aarch64", "-mattr=+all", source=content)
    lines = (line.partition("//")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(".")]


def summaries(
    model: str, options: tuple[str, ...], bodies: list[list[str]]
) -> list[dict[str, float]]:
    """What the model says of each block."""
    regions = (
        f"// LLVM-MCA-BEGIN {number}\n" + "\n".join(body) + "\n// LLVM-MCA-END\n"
        for number, body in enumerate(bodies)
    )
    text = run(
        MCA, "-mtriple=aarch64", f"-mcpu={model}", "-mattr=+all", f"-iterations={ITERATIONS}",
        "-json", "-skip-unsupported-instructions=any", *options, source="".join(regions),
    )  # fmt: skip
    found = {region["Name"]: region["SummaryView"] for region in json.loads(text)["CodeRegions"]}
    return [found[str(number)] for number in range(len(bodies))]


def run(*command: str, source: str) -> str:
    """Run a program of LLVM's and return what it prints."""
    result = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
    if result.returncode:
        sys.exit(f"Error: {' '.join(command)}: exit {result.returncode}\n{result.stderr[:1000]}")
    return result.stdout
