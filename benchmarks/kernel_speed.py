"""Every GEMM kernel on the shapes of a network, on one thread, interleaved with numpy's sgemm.

python benchmarks/kernel_speed.py [SHAPES ...] [--seconds 0.3] [--kernel NAME] [--json]

SHAPES are names of files in benchmarks/shapes/. Results are compared with the reference before they
are timed. GMAC/s are medians, ratios to sgemm medians of those within a round of turns
(bwn.tools.timing). Activations and weights stay in the caches between calls.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy starts its own threads

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bwn.kernels.gemm.gemm_spec import GemmSpec
from bwn.kernels.registry import GEMMS
from bwn.tools.benchmark import machine
from bwn.tools.gemm_trial import GemmTrial
from bwn.tools.timing import interleave

FOLDER = Path(__file__).parent / "shapes"
Shape = tuple[int, int, int]
"""K, N and P."""


def read_shapes(name: str) -> list[Shape]:
    """(K, N, P) of every line of a shapes file."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [tuple(map(int, line.split())) for line in lines if line and not line.startswith("#")]


def sgemm(shape: Shape) -> Callable[[], object]:
    """numpy's float32 product of the same shape."""
    depth, outputs, positions = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((outputs, depth), np.float32)
    b = rng.standard_normal((depth, positions), np.float32)
    out = np.empty((outputs, positions), np.float32)
    return lambda: np.matmul(a, b, out=out)


def measure(spec: GemmSpec, shape: Shape, seconds: float) -> dict[str, Any]:
    """Check and time one kernel on one shape."""
    depth, outputs, positions = shape
    trial = GemmTrial(spec, *shape)
    trial.check()
    times = interleave({"kernel": trial, "sgemm": sgemm(shape)}, 2 * seconds)
    return {
        "kernel": spec.name,
        "K": depth,
        "N": outputs,
        "P": positions,
        "gmacs": depth * outputs * positions / times["kernel"].median / 1e9,
        "sgemm": times["kernel"].speedup(times["sgemm"]),
    }


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "shapes", nargs="*", default=["vgg"], help="files of benchmarks/shapes  [default: vgg]"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="for each kernel and shape  [default: 0.3]"
    )
    parser.add_argument("--kernel", default="", help="only kernels with this in their name")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = []
    for shape in (shape for name in options.shapes for shape in read_shapes(name)):
        for spec in GEMMS:
            if shape[0] > spec.max_depth or options.kernel not in spec.name:
                continue
            result = measure(spec, shape, options.seconds)
            results.append(result)
            if not options.json:
                size = f"K={shape[0]} N={shape[1]} P={shape[2]}"
                figures = f"{result['gmacs']:7.1f} GMAC/s  {result['sgemm']:5.2f} x sgemm"
                print(f"{spec.name:30} {size:24} {figures}", flush=True)
    if options.json:
        print(json.dumps({"machine": machine(1), "results": results}, indent=2))


if __name__ == "__main__":
    main()
