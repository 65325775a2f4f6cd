"""Print the table of counted runs, and write their record.

    report.py FOLDER [RECORD]

FOLDER is that of count.sh. Cycles by LLVM's models are added where llvm-mca is installed.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm_peers import cycles

TITLES = {
    "mlp": "MLP",
    "vgg": "VGG",
    "vgg-sign": "VGG with signs",
    "resnet18": "ResNet-18",
    "mobilenetv2": "MobileNetV2",
}
PEERS = ("ncnn", "litert", "onnxruntime")
FLOAT, LOW = ("float32",), ("int8", "int8-signed", "binary")
MAX_FLOAT_ERROR, MIN_COSINE = 1e-4, 0.97

Runs = dict[str, dict[str, dict[str, Any]]]
"""By core, and by NETWORK.ENGINE.KIND."""


def collect(folder: Path) -> Runs:
    """All counted runs, each with its cycles. Exits where scores are wrong."""
    runs: Runs = {}
    for path in sorted(folder.glob("cortex-*/*.json")):
        core, name = path.parent.name, path.stem
        result = json.loads(path.read_text())
        if not right(name, result):
            sys.exit(f"Error: {core}, {name}: wrong scores: {result}")
        blocks = path.with_name(f"{name}.counts.blocks")
        if "cycles" not in result and shutil.which(cycles.MCA):
            result["cycles"] = cycles.modeled(blocks, core)
            path.write_text(json.dumps(result))
        runs.setdefault(core, {})[name] = result
    return runs


def right(name: str, result: dict[str, Any]) -> bool:
    """Whether the scores of a run are those of the network, as far as its arithmetic allows.

    A number next to 0 may have either sign, and everything after a sign then differs.
    """
    exact = name.endswith(("float32", "binary")) and "sign" not in name
    return result["error"] <= MAX_FLOAT_ERROR if exact else result["cosine"] >= MIN_COSINE


def cell(runs: dict[str, dict[str, Any]], network: str, engine: str, kinds: tuple[str, ...]) -> str:
    """Millions of instructions of the form of an engine that takes the fewest."""
    counts = [
        runs[name]["inference"] / 1e6
        for kind in kinds
        if (name := f"{network}.{engine}.{kind}") in runs
    ]
    return three_digits(min(counts)) if counts else ""


def three_digits(number: float) -> str:
    """12.3, 123, 1,234."""
    digits = 2 if number < 1 else 1 if number < 100 else 0
    return f"{number:,.{digits + (number < 1)}f}"


def bold_least(cells: list[str]) -> list[str]:
    """The cells, the smallest number in bold."""
    numbers = [float(text.replace(",", "")) if text else float("inf") for text in cells]
    least = numbers.index(min(numbers))
    return [f"**{text}**" if index == least else text for index, text in enumerate(cells)]


def table(runs: Runs) -> str:
    """Instructions of one inference, in Markdown."""
    lines = heading("core")
    for network, label, kinds, core in groups(runs):
        cells = [cell(runs[core], network, engine, kinds) for engine in ("bwn", *PEERS)]
        if any(cells):
            short = core.removeprefix("cortex-").upper()
            lines.append(line(TITLES[network], label, short, *bold_least(cells)))
    return "\n".join(lines)


def cycles_table(runs: Runs) -> str:
    """Millions of cycles by LLVM's models: by the busiest port, and simulated."""
    lines = heading("model")
    for network, label, kinds, core in groups(runs):
        for model in cycles.MODELS[core]:
            cells = [
                least_cycles(runs[core], network, engine, kinds, model)
                for engine in ("bwn", *PEERS)
            ]
            if any(cells):
                lines.append(line(TITLES[network], label, model, *cells))
    return "\n".join(lines)


def groups(runs: Runs) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Network, label of the activations, their kinds, and core of each row of a table."""
    for network in TITLES:
        for label, kinds in (("float32", FLOAT), ("8 bits, or signs", LOW)):
            for core in runs:
                yield network, label, kinds, core


def heading(column: str) -> list[str]:
    """The first lines of a table whose third column has this name."""
    names = ("network", "activations", column, "bwn", "ncnn", "LiteRT", "ONNX Runtime")
    return [line(*names), "|---|---|---|---:|---:|---:|---:|"]


def line(*cells: str) -> str:
    """A row in Markdown."""
    return "| " + " | ".join(cells) + " |"


def least_cycles(
    runs: dict[str, dict[str, Any]], network: str, engine: str, kinds: tuple[str, ...], model: str
) -> str:
    """`ports-simulated` of the form of an engine with the fewest simulated cycles."""
    pairs = [
        (result["cycles"][model]["simulated"], result["cycles"][model]["ports"])
        for kind in kinds
        if "cycles" in (result := runs.get(f"{network}.{engine}.{kind}", {}))
    ]
    if not pairs:
        return ""
    simulated, ports = min(pairs)
    return f"{three_digits(ports)}-{three_digits(simulated)}"


def start_table(runs: Runs) -> str:
    """Instructions from the start of Python to the first scores, and memory after them."""
    lines = [line("network", "core", "engine", "instructions", "memory"), "|---|---|---|---:|---:|"]
    for core, of_core in runs.items():
        for name, result in of_core.items():
            network, engine, kind = name.split(".")
            if network == "vgg" and kind in ("float32", "int8"):
                start, memory = result["start"] / 1e6, result["resident"] / 1e6
                title, short = f"{TITLES[network]}, {kind}", core.removeprefix("cortex-").upper()
                lines.append(line(title, short, engine, f"{start:,.0f}", f"{memory:.0f} MB"))
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    runs = collect(Path(sys.argv[1]))
    for text in (table(runs), cycles_table(runs), start_table(runs)):
        print(f"\n{text}")
    for record in sys.argv[2:]:
        Path(record).write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
