"""Cold start and peak memory: a fresh process per engine, from its start to the first scores of one image."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bwn.format import write
from bwn.tools.random_networks import NETWORKS
from engines import results
from engines.case import Case, Kind, UnsuitedError, installed

FIRST_RUN = Path(__file__).with_name("first_run.py")
RUNS = 5
BARE: Kind = "float32"


def measure_startups(networks: list[str], output: Path) -> None:
    """Write a Report of startups only."""
    report = results.Report(machine=results.machine("native"), results=[])
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            case = Case(network, NETWORKS[network](0), 1, 1)
            for engine, kind, files in written(case, Path(folder)):
                found = start_up(network, engine, kind, files)
                print(
                    f"{network:9} {engine:11} {kind:8} {found.seconds:6.3f} s  {found.peak_mb:6.1f} MB",
                    flush=True,
                )
                report.startups.append(found)
        results.write(output, report)


def written(case: Case, folder: Path) -> list[tuple[str, Kind, list[Path]]]:
    """Engine, kind and the files that it loads."""
    from engines.bwn_engine import spec

    plain, int8 = folder / "float32.onnx", folder / "int8.onnx"
    plain.write_bytes(case.float_onnx)
    int8.write_bytes(case.int8_onnx)
    found: list[tuple[str, Kind, list[Path]]] = [
        ("bare_python", BARE, [plain]),
        ("onnxruntime", "float32", [plain]),
        ("onnxruntime", "int8", [int8]),
    ]
    if installed("openvino"):
        found += [("openvino", "float32", [plain]), ("openvino", "int8", [int8])]
    try:
        from engines.ncnn_engine import Writer

        text, weights = Writer(case).written()
        (folder / "net.param").write_text(text, encoding="ascii")
        (folder / "net.bin").write_bytes(weights)
        found.append(("ncnn", "float32", [folder / "net.param", folder / "net.bin"]))
    except UnsuitedError as reason:
        print(f"left out: {case.name} ncnn: {reason}")
    try:
        from engines.litert_engine import Writer as Litert
        from engines.litert_engine import int8_file

        paths = [folder / "float32.tflite", folder / "int8.tflite"]
        paths[0].write_bytes(Litert(case).written())
        paths[1].write_bytes(int8_file(case))
        found += [("litert", "float32", paths[:1]), ("litert", "int8", paths[1:])]
    except UnsuitedError as reason:
        print(f"left out: {case.name} litert: {reason}")
    kinds: tuple[Kind, ...] = ("float32", "binary") if case.signs else ("float32", "int8")
    for kind in kinds:
        path = folder / f"{kind}.bwn"
        write(path, spec(case, kind))
        found.append(("bwn", kind, [path]))
    return found


def start_up(network: str, engine: str, kind: Kind, files: list[Path]) -> results.Startup:
    """Time and memory of one engine; its first process fills the caches and does not count."""
    shape = NETWORKS[network](0).graph.topology.input_shape
    command = [sys.executable, str(FIRST_RUN), engine, "x".join(map(str, shape)), *map(str, files)]
    seconds: list[float] = []
    peaks: list[float] = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        peaks.append(float(done.stdout.split()[-1]) * 1024 / 1e6)
    return results.Startup(
        network=network,
        engine=engine,
        kind=kind,
        seconds=median(seconds[1:]),
        peak_mb=max(peaks[1:]),
        runs=RUNS,
    )
