"""Images a second of `bwn infer` and of examples/dask/ and examples/ray/ with 1 and 2 workers.

python benchmarks/batch_jobs.py MODEL [--images 8000] [--rounds 3] [--json]

The images are those of the MNIST sample, written as PNG files. The programs run in turns; of each,
the start is what passes until the first rows are there, and the speed is that of the rest. Ray's
workers have the priority of the others here; by default they give way to everything else (nice 15).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from PIL import Image

from bwn.data.datasets import load_dataset

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PART = 500


def write_images(folder: Path, count: int) -> None:
    digits = [x for split in ("train", "test") for x in load_dataset("mnist-sample", split).images]
    for number, pixels in enumerate(islice(cycle(digits), count)):
        Image.fromarray(pixels).save(folder / f"{number:06}.png")


def infer(model: str, images: Path, _: Path) -> list[tuple[float, int]]:
    """When rows were there, and how many."""
    words = [sys.executable, "-m", "bwn.cli", "infer", model, images, "--json", "--threads", "1"]
    done: list[tuple[float, int]] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        done.extend((time.time(), 1) for _ in process.stdout)
    assert process.returncode == 0
    return done


def job(engine: str, workers: int, model: str, images: Path, rows: Path) -> list[tuple[float, int]]:
    script = EXAMPLES / engine / "classify_folder.py"
    words = [sys.executable, script, model, images, rows, "--workers", workers, "--part", PART]
    subprocess.run(
        list(map(str, words)),
        check=True,
        capture_output=True,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"},
    )
    parts = [(part.stat().st_mtime, PART) for part in rows.glob("*.jsonl")]
    return sorted(parts)


PROGRAMS = {
    "bwn infer": infer,
    **{
        f"{engine}, {workers}": lambda *rest, e=engine, w=workers: job(e, w, *rest)
        for engine in ("dask", "ray")
        for workers in (1, 2)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.images -= options.images % PART
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as work:
        images = Path(work, "images")
        images.mkdir()
        write_images(images, options.images)
        for number in range(options.rounds):
            for name, program in PROGRAMS.items():
                start = time.time()
                done = program(options.model, images, Path(work, f"rows-{name}-{number}"))
                total, first = time.time() - start, done[0][0]
                speed = sum(count for _, count in done[1:]) / (done[-1][0] - first)
                found[name].append((total, first - start, speed))
                print(name, found[name][-1], file=sys.stderr)
    if options.json:
        print(json.dumps(found))
        return
    print("| program, workers | total s, median (min) | start s | images/s, median (max) |")
    print("|---|---|---|---|")
    for name, rounds in found.items():
        totals, starts, speeds = zip(*rounds, strict=True)
        print(
            f"| {name} | {median(totals):.1f} ({min(totals):.1f}) | {median(starts):.1f} "
            f"| {median(speeds):,.0f} ({max(speeds):,.0f}) |"
        )


if __name__ == "__main__":
    main()
