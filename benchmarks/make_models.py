"""Make one of the models in models/: train, pack, measure, write its record.

    python benchmarks/make_models.py mnist-mlp --data FOLDER

FOLDER holds mnist/ (IDX files) and cifar10/ (binary files). An interrupted run is resumed. The
model card, models/README.md, is written by hand from the records.
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
    "cifar10-convnet": ("cifar10", "--model convnet --epochs 64 --cutout 8 --validation 0"),
    "cifar10-convnet-sign": (
        "cifar10",
        "--model convnet --activations sign --epochs 56 --validation 0",
    ),
    "cifar10-vgg": ("cifar10", "--model vgg --augment flip --epochs 300"),
}
"""Name of each model: its data set, and the options of `bwn train`."""


def bwn(*arguments: object) -> dict[str, Any]:
    """The JSON that a command prints; of training, the last line, and the others are shown."""
    with subprocess.Popen(
        [sys.executable, "-m", "bwn.cli", *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if arguments[0] == "train":
                print(line, end="", flush=True)
    if process.returncode:
        sys.exit(process.returncode)
    return json.loads(lines[-1] if arguments[0] == "train" else "".join(lines))


def make(name: str, folder: Path, work: Path, threads: int) -> dict[str, Any]:
    """Train, pack and measure one model."""
    data, options = RECIPES[name]
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, model = work / f"{name}.pt", MODELS / f"{name}.bwn"
    run = ["--data", folder / data, *options.split()]
    if checkpoint.exists():
        run = ["--resume", checkpoint]
    trained = bwn("train", *run, "-o", checkpoint, "--threads", threads)
    bwn("pack", checkpoint, "-o", model)
    content = model.read_bytes()
    sample = (
        {"data": "mnist-sample", **evaluate(model, "mnist-sample")} if data == "mnist" else None
    )
    record = {
        "data": data,
        "command": f"bwn train --data {data} {options} -o {name}.pt",
        "training": {
            key: trained[key] for key in ("train_images", "parameters", "test_accuracy", "seconds")
        },
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "test": evaluate(model, folder / data),
        "sample": sample,
        "latency": latency(model),
    }
    (MODELS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def evaluate(model: Path, data: object) -> dict[str, Any]:
    """Accuracy of a packed model on a test set."""
    result = bwn("evaluate", model, "--data", data)
    return {key: result[key] for key in ("images", "right", "error")}


def latency(model: Path) -> dict[str, Any]:
    """Of one image on one thread."""
    report = bwn("bench", model, "--threads", 1)
    timings = {(t["engine"], t["batch"]): t for t in report["results"][0]["timings"]}
    times = {key: timings["bwn", 1][key] for key in ("median_ms", "min_ms")}
    return {"cpu": report["machine"]["llvm_cpu"], "threads": 1, **times}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/models"), help="for checkpoints")
    args = parser.parse_args()
    record = make(args.name, args.data, args.work, args.threads)
    print(f"models/{args.name}.bwn: error {record['test']['error']:.2%}, {record['bytes']:,} bytes")
