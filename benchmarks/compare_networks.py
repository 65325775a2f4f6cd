"""Whole networks in bwn, ONNX Runtime, OpenVINO, ncnn and LiteRT; writes a results file.

python benchmarks/compare_networks.py [NETWORKS ...] [-o bench.json] [--batch 1 16] [--threads 1 2]
                                      [--isa native|avx2] [--seconds 10] [--startup]

NETWORKS are built-in ones (bwn.tools.random_networks), by default all. Every engine computes the
same function on the same input, with the same batch and threads, on the same CPUs. Scores are
compared before anything is timed; engines are interleaved (bwn.tools.timing). comparison/results.py
describes the file.

--isa avx2: bwn compiles for a CPU with AVX2 only, and OpenVINO is restricted to AVX2. ONNX Runtime,
ncnn and LiteRT cannot be restricted.
--startup: only time and memory of a fresh process from its start to its first scores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NETWORKS = ("mlp", "vgg", "vgg-sign", "resnet18", "mobilenetv2")
AVX2 = {
    "NUMBA_CPU_NAME": "znver3",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+sse4.2,+f16c,+lzcnt",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def one_cpu_per_core() -> list[int]:
    """CPUs of this process, one of each core first, then their siblings."""
    cores: set[str] = set()
    first: list[int] = []
    siblings: list[int] = []
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            core = Path(TOPOLOGY.format(cpu)).read_text()
        except OSError:
            core = str(cpu)
        (siblings if core in cores else first).append(cpu)
        cores.add(core)
    return first + siblings


def run_cells(network: str, threads: int, options: argparse.Namespace) -> None:
    """Measure a network at every batch size, on as many CPUs as threads, in this process."""
    os.sched_setaffinity(0, one_cpu_per_core()[:threads])  # before any engine counts the CPUs
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    from comparison import measure, results
    from engines.case import Case

    from bwn.cli.output import show_progress
    from bwn.tools.random_networks import NETWORKS as BUILT_IN

    report = results.Report(machine={}, results=[])  # the process that starts this one fills it in
    for batch in options.batch:
        label = f"{network}: batch {batch}, threads {threads}"
        show_progress(f"{label}: preparing")
        cells, left_out = measure.measure(
            Case(network, BUILT_IN[network](0), batch, threads),
            options.seconds,
            lambda share, label=label: show_progress(f"{label}: {share:.0%}"),
        )
        show_progress("")
        report.results.extend(cells)
        report.left_out.extend(item for item in left_out if item not in report.left_out)
    results.write(options.output, report)


def start_cells(network: str, threads: int, options: argparse.Namespace, path: Path) -> None:
    """Measure a network in a process of its own, into a results file."""
    command = [sys.executable, __file__, network, "--cells", "-o", str(path)]
    command += ["--threads", str(threads), "--batch", *map(str, options.batch)]
    command += ["--isa", options.isa, "--seconds", str(options.seconds)]
    subprocess.run(command, check=True)


def measure_networks(options: argparse.Namespace) -> None:
    """Measure every network with every number of threads, each in a process of its own."""
    from comparison import results

    merged = results.Report(machine=results.machine(options.isa), results=[])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.json"
        for network in options.networks:
            for threads in options.threads:
                start_cells(network, threads, options, path)
                report = results.read(path)
                for result in report.results:
                    print(result.line(), flush=True)
                merged.results.extend(report.results)
                new = (item for item in report.left_out if item not in merged.left_out)
                merged.left_out.extend(new)
                results.write(options.output, merged)
    for item in merged.left_out:
        print(f"left out: {item.network} {item.engine} {item.kind}: {item.reason}")


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; default all"
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
    return options


def main() -> None:
    """Measure and write the results file."""
    options = parse()
    if options.isa == "avx2":
        # Before anything reads them; the processes of the cells inherit them.
        os.environ.update(AVX2)
    if options.cells:
        run_cells(options.networks[0], options.threads[0], options)
    elif options.startup:
        from comparison.startup import measure_startups

        measure_startups(options.networks, options.output)
    else:
        measure_networks(options)


if __name__ == "__main__":
    main()
