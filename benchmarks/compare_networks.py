"""Whole networks, bwn beside ONNX Runtime, OpenVINO, ncnn, LiteRT; results as JSON (schema in beside/record.py).

python benchmarks/compare_networks.py [NETWORKS ...] [-o bench.json] [--batch 1 16] [--threads 1 2] [--isa native|avx2]
                              [--seconds 12] [--startup]

NETWORKS are built-in ones (bwn.tools.random_networks), by default all. Every engine computes the same function on the same input,
with the same batch and threads, on the same CPUs. Scores are compared before anything is timed; engines take turns.

--isa avx2: bwn compiles for a CPU with AVX2 only, OpenVINO is told the same. ONNX Runtime, ncnn and LiteRT cannot be
told: they still use what the CPU has, which the header says.
--startup: only time and memory of a fresh process from its start to its first scores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

NETWORKS = ("mlp", "vgg", "vgg-sign", "resnet18")
AVX2 = {
    "NUMBA_CPU_NAME": "znver3",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+sse4.2,+f16c,+lzcnt",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def one_cpu_per_core() -> list[int]:
    """CPUs of this process, one of each core first, then their siblings."""
    seen: set[str] = set()
    first: list[int] = []
    rest: list[int] = []
    for number in sorted(os.sched_getaffinity(0)):
        try:
            core = Path(
                f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
            ).read_text()
        except OSError:
            core = str(number)
        (rest if core in seen else first).append(number)
        seen.add(core)
    return first + rest


def run_cells(network: str, threads: int, options: argparse.Namespace) -> None:
    """In a process of its own: both batches of a network, on as many CPUs as threads, written to options.output."""
    os.sched_setaffinity(0, one_cpu_per_core()[:threads])  # before any engine counts the CPUs
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    from engines import measure, results
    from engines.case import Case

    from bwn.tools.random_networks import NETWORKS as BUILT_IN

    report = results.Report(machine={}, results=[])  # the process that collects the cells knows it
    for batch in options.batch:
        cells, left_out = measure.measure(
            Case(network, BUILT_IN[network](0), batch, threads), options.seconds
        )
        report.results.extend(cells)
        report.left_out.extend(one for one in left_out if one not in report.left_out)
    results.write(options.output, report)


def start_cells(network: str, threads: int, options: argparse.Namespace, path: Path) -> None:
    """Start that process and wait."""
    command = [
        sys.executable,
        __file__,
        network,
        "--cells",
        "--threads",
        str(threads),
        "-o",
        str(path),
    ]
    command += [
        "--isa",
        options.isa,
        "--seconds",
        str(options.seconds),
        "--batch",
        *map(str, options.batch),
    ]
    subprocess.run(command, check=True)


def measure(options: argparse.Namespace) -> None:
    """Every network and number of threads, each in a process of its own."""
    from engines import results

    merged = results.Report(machine=results.machine(options.isa), results=[])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.json"
        for network in options.networks:
            for threads in options.threads:
                start_cells(network, threads, options, path)
                found = results.read(path)
                for one in found.results:
                    print(one.line(), flush=True)
                merged.results.extend(found.results)
                merged.left_out.extend(one for one in found.left_out if one not in merged.left_out)
                results.write(options.output, merged)
    for one in merged.left_out:
        print(f"left out: {one.network} {one.engine} {one.kind}: {one.reason}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; by default all"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isa", choices=("native", "avx2"), default="native")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="for each cell, all engines together"
    )
    parser.add_argument("--startup", action="store_true")
    parser.add_argument("--cells", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.networks = options.networks or list(NETWORKS)
    if unknown := set(options.networks) - set(NETWORKS):
        parser.error(f"unknown network: {', '.join(sorted(unknown))}")
    if options.isa == "avx2":
        os.environ.update(
            AVX2
        )  # before anything reads them; the processes of the cells inherit them
    if options.cells:
        run_cells(options.networks[0], options.threads[0], options)
    elif options.startup:
        from engines.startup import measure_startups

        measure_startups(options.networks, options.output)
    else:
        measure(options)


if __name__ == "__main__":
    main()
