"""Every product of the registry on the shapes of a network: GMAC/s on one thread, beside numpy's sgemm in turns.

python benchmarks/kernel_speed.py [SHAPES ...] [--seconds 0.3] [--kernel NAME] [--json]

SHAPES are names of files in benchmarks/shapes/. Results are compared with numpy's before they are timed. Planes stay in
the caches between runs, weights too: the warm figure.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy starts its own threads

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from bwn.kernels.registry import GEMMS, LutPermuteGemm
from bwn.tools.benchmark import machine, take_turns
from bwn.tools.tune import Trial

FOLDER = Path(__file__).parent / "shapes"
Shape = tuple[int, int, int]


def read_shapes(name: str) -> list[Shape]:
    """(K, N, P) of every line of a shapes file."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [tuple(map(int, line.split())) for line in lines if line and not line.startswith("#")]


def sgemm(depth: int, outputs: int, positions: int) -> Callable[[], object]:
    """numpy's float32 product of the same shape."""
    rng = np.random.default_rng(0)
    a, b = (
        rng.standard_normal((outputs, depth), np.float32),
        rng.standard_normal((depth, positions), np.float32),
    )
    out = np.empty((outputs, positions), np.float32)
    return lambda: np.matmul(a, b, out=out)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "shapes", nargs="*", default=["vgg"], help="files of benchmarks/shapes  [default: vgg]"
    )
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure")
    parser.add_argument("--kernel", help="only kernels with this in their name")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for name in options.shapes:
        for depth, outputs, positions in read_shapes(name):
            for row in GEMMS:
                if depth > row.max_depth or (options.kernel and options.kernel not in row.name):
                    continue
                window = (
                    isinstance(row, LutPermuteGemm) and depth % 9 == 0
                )  # these share work between taps
                call = Trial(row, depth, outputs, positions, 9 if window else 1)
                call.check()
                times = take_turns(
                    {"ours": call, "sgemm": sgemm(depth, outputs, positions)}, options.seconds
                )
                ratio = median(b / a for a, b in zip(times["ours"], times["sgemm"], strict=True))
                rate = depth * outputs * positions / median(times["ours"]) / 1e9
                found = {
                    "kernel": row.name,
                    "K": depth,
                    "N": outputs,
                    "P": positions,
                    "gmacs": rate,
                    "sgemm": ratio,
                }
                results.append(found)
                if not options.json:
                    shape = f"K={depth} N={outputs} P={positions}"
                    print(
                        f"{row.name:30} {shape:24} {rate:7.1f} GMAC/s  {ratio:5.2f} x sgemm",
                        flush=True,
                    )
    if options.json:
        print(json.dumps({"machine": machine(1), "results": results}, indent=2))


if __name__ == "__main__":
    main()
