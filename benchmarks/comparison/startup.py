"""Cold start and peak memory: a fresh process for each engine, up to the scores of one image."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from engines import bwn_engine, litert_engine, ncnn_engine
from engines.case import Case, Kind, UnsupportedError, installed

from bwn.format import write
from bwn.tools.random_networks import NETWORKS
from comparison import results

FIRST_RUN = Path(__file__).with_name("first_run.py")
RUNS = 5

File = tuple[str, Kind, list[Path]]
"""Engine, kind and the files that the engine loads."""


def measure_startups(networks: list[str], output: Path) -> None:
    """Write a Report of startups only."""
    report = results.Report(machine=results.machine("native"), results=[])
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            case = Case(network, NETWORKS[network](0), 1, 1)
            for engine, kind, files in write_files(case, Path(folder)):
                startup = start_up(network, engine, kind, files)
                print(
                    f"{network:9} {engine:11} {kind:8} {startup.seconds:6.3f} s  "
                    f"{startup.peak_mb:6.1f} MB",
                    flush=True,
                )
                report.startups.append(startup)
        results.write(output, report)


def write_files(case: Case, folder: Path) -> list[File]:
    """Write the network as each engine loads it."""
    files = onnx_files(case, folder)
    for engine, make in (("ncnn", ncnn_files), ("litert", litert_files)):
        try:
            if not installed(engine):
                raise UnsupportedError("it is not installed")
            files += make(case, folder)
        except UnsupportedError as reason:
            print(f"left out: {case.name} {engine}: {reason}")
    kinds: tuple[Kind, ...] = ("float32", "binary") if case.has_signs else ("float32", "int8")
    for kind in kinds:
        path = folder / f"{kind}.bwn"
        write(path, bwn_engine.spec(case, kind))
        files.append(("bwn", kind, [path]))
    return files


def onnx_files(case: Case, folder: Path) -> list[File]:
    """The files of the engines that load ONNX, and of Python alone."""
    paths: dict[Kind, Path] = {kind: folder / f"{kind}.onnx" for kind in ("float32", "int8")}
    paths["float32"].write_bytes(case.float_onnx)
    paths["int8"].write_bytes(case.int8_onnx)
    engines = [engine for engine in ("onnxruntime", "openvino") if installed(engine)]
    files: list[File] = [("bare_python", "float32", [])]
    return files + [(engine, kind, [path]) for engine in engines for kind, path in paths.items()]


def ncnn_files(case: Case, folder: Path) -> list[File]:
    """ncnn's files. Raises UnsupportedError where a layer has no form there."""
    kinds: tuple[Kind, ...] = ("float32",) if case.has_signs else ("float32", "int8")
    files: list[File] = []
    for kind in kinds:
        place = folder / f"ncnn-{kind}"
        place.mkdir()
        files.append(("ncnn", kind, ncnn_engine.write_files(case, kind, place)))
    return files


def litert_files(case: Case, folder: Path) -> list[File]:
    """LiteRT's files."""
    forms: dict[Kind, Callable[[Case], bytes]] = {
        "float32": litert_engine.float_file,
        "int8": litert_engine.int8_file,
    }
    files: list[File] = []
    for kind, form in forms.items():
        path = folder / f"{kind}.tflite"
        path.write_bytes(form(case))
        files.append(("litert", kind, [path]))
    return files


def start_up(network: str, engine: str, kind: Kind, files: list[Path]) -> results.Startup:
    """Time and memory of one engine; its first process fills the caches and does not count."""
    shape = NETWORKS[network](0).graph.topology.input_shape
    size = "x".join(map(str, shape))
    # -P: the folder of the script would shadow packages that engines import.
    command = [sys.executable, "-P", str(FIRST_RUN), engine, size, *map(str, files)]
    seconds: list[float] = []
    peaks: list[float] = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        peaks.append(float(process.stdout.split()[-1]) * 1024 / 1e6)
    return results.Startup(
        network=network,
        engine=engine,
        kind=kind,
        seconds=median(seconds[1:]),
        peak_mb=max(peaks[1:]),
        runs=RUNS,
    )
