"""Make one of the models in models/: train, pack, measure, write its record.

    python benchmarks/make_models.py mnist-mlp --data FOLDER

FOLDER holds mnist/ (IDX files) and cifar10/ (binary files). An interrupted run goes on where it was. The card,
models/README.md, is written by hand from the records.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parents[1] / "models"
RECIPES = {
    "mnist-mlp": ("mnist", "--model mlp"),
    "mnist-lenet": ("mnist", "--model lenet --epochs 20"),
    "cifar10-vgg-quarter": ("cifar10", "--model vgg --width 32 --augment flip --epochs 16"),
    "cifar10-vgg": ("cifar10", "--model vgg --augment flip --epochs 300"),
}
"""Name of each model: its data set, and the options of `bwn train`."""


def bwn(*arguments: object) -> dict[str, Any]:
    """What a command says, the last line of its JSON; its other lines go to the screen."""
    with subprocess.Popen(
        [sys.executable, "-m", "bwn.cli", *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if arguments[0] == "train":
                print(line, end="", flush=True)
    if process.returncode:
        sys.exit(process.returncode)
    return json.loads(text.splitlines()[-1] if arguments[0] == "train" else text)


def make(name: str, folder: Path, work: Path, threads: int) -> dict[str, Any]:
    """Train, pack and measure one model."""
    data, options = RECIPES[name]
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, spec = work / f"{name}.pt", MODELS / f"{name}.bwn"
    given = (
        ["--resume", checkpoint]
        if checkpoint.exists()
        else ["--data", folder / data, *options.split()]
    )
    trained = bwn("train", *given, "-o", checkpoint, "--threads", threads)
    bwn("pack", checkpoint, "-o", spec)
    content = spec.read_bytes()
    record = {
        "data": data,
        "command": f"bwn train --data {data} {options} -o {name}.pt",
        "training": {
            key: trained[key] for key in ("train_images", "parameters", "test_accuracy", "seconds")
        },
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "test": evaluated(spec, folder / data),
        "sample": {"data": "mnist-sample", **evaluated(spec, "mnist-sample")}
        if data == "mnist"
        else None,
        "latency": latency(spec),
    }
    (MODELS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def evaluated(spec: Path, data: object) -> dict[str, Any]:
    """Right answers of a packed model on a test set."""
    found = bwn("evaluate", spec, "--data", data)
    return {key: found[key] for key in ("images", "right", "error")}


def latency(spec: Path) -> dict[str, Any]:
    """One image on one thread."""
    found = bwn("bench", spec, "--threads", 1)
    (one,) = (t for t in found["results"][0]["timings"] if (t["engine"], t["batch"]) == ("bwn", 1))
    return {
        "cpu": found["machine"]["llvm_cpu"],
        "threads": 1,
        **{key: one[key] for key in ("median_ms", "min_ms")},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/models"), help="for checkpoints")
    chosen = parser.parse_args()
    found = make(chosen.name, chosen.data, chosen.work, chosen.threads)
    print(f"models/{chosen.name}.bwn: error {found['test']['error']:.2%}, {found['bytes']:,} bytes")
