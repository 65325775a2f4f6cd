"""The results file: JSON of one Report.

{"schema": 1, "machine": {...}, "results": [...], "left_out": [...], "startups": [...]}

machine: cpu, llvm_cpu, kernels (numba, or which library), features, cores, system, python, versions
(by package), commit (with `+` where files differ from it), date (UTC), load (1-minute average of
waiting tasks at the start), isa (`native` or `avx2`), env (the variables that affect engines). The
rest are lists of the structs below.
"""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from engines.case import Kind, installed

from bwn.tools import benchmark

ENGINES = ("openvino", "ncnn", "litert", "onnx")
ENGINE_VARIABLES = (
    "BWN_CACHE_DIR",
    "NUMBA_",
    "ONEDNN_",
    "OMP_",
    "KMP_",
    "GOMP_",
    "OPENBLAS_",
    "OV_",
)
HEAD = "rev-parse --short=12 HEAD"
CHANGED = "status --porcelain --untracked-files=no -- bwn kernels benchmarks"
"""Commands of git."""

Verdict = Literal["ok", "wrong result", "information"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One engine on one network, batch size and number of threads.

    Attributes:
        network: Name of the network.
        batch: Images of a call.
        threads: Threads of the engine.
        engine: Name of the engine.
        kind: How it reads activations.
        verdict: `wrong result` is timed but not ranked; `information` computes another function on
            purpose.
        error: Largest difference from ONNX Runtime's float32 scores, relative to the largest score.
        cosine: Cosine of its scores and those.
        same_class: Share of the 16 images with the same best class.
        median_ms: Milliseconds of a call, the median of the turns.
        min_ms: Milliseconds of the fastest call.
        calls: Number of counted calls.
        turns_ms: Median of a call in each turn. All engines of a cell have the same number of
            turns, so ratios within a round can be taken.
        others: Share of the CPUs that other processes used while the cell was timed.
    """

    network: str
    batch: int
    threads: int
    engine: str
    kind: Kind
    verdict: Verdict
    error: float
    cosine: float
    same_class: float
    median_ms: float
    min_ms: float
    calls: int
    turns_ms: list[float]
    others: float

    @property
    def images_per_s(self) -> float:
        """Throughput at the median."""
        return self.batch / self.median_ms * 1e3

    def line(self) -> str:
        """The result in one line."""
        return (
            f"{self.network:9} batch {self.batch:3} threads {self.threads}  "
            f"{self.engine:11} {self.kind:8} {self.median_ms:9.3f} ms (min {self.min_ms:.3f})  "
            f"cosine {self.cosine:.4f}  {self.verdict}"
        )


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that was not run on a network, and why."""

    network: str
    engine: str
    kind: Kind
    reason: str


class Startup(msgspec.Struct, frozen=True, kw_only=True):
    """A fresh process that loads a file and runs one image on one thread.

    Attributes:
        network: Name of the network.
        engine: Name of the engine; `bare_python` only imports numpy.
        kind: How it reads activations.
        seconds: From its start to its end, the median of `runs` after one that fills caches.
        peak_mb: The largest resident set of any run, in 1e6 bytes.
        runs: Number of runs.
    """

    network: str
    engine: str
    kind: Kind
    seconds: float
    peak_mb: float
    runs: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A results file."""

    schema: Literal[1] = 1
    machine: dict[str, Any]
    results: list[Result]
    left_out: list[LeftOut] = []
    startups: list[Startup] = []


def machine(isa: str) -> dict[str, Any]:
    """What the figures are measured on."""
    facts = benchmark.machine(0)
    del facts["threads"]
    facts["versions"] |= {name: number for name in ENGINES if (number := installed(name))}
    changed = "+" if _git(CHANGED) else ""
    return facts | {
        "commit": f"{_git(HEAD) or 'unknown'}{changed}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "load": round(os.getloadavg()[0], 2),
        "isa": isa,
        "env": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(ENGINE_VARIABLES)
        },
    }


def _git(command: str) -> str:
    words, root = ["git", *command.split()], Path(__file__).parents[2]
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def read(path: Path) -> Report:
    """A results file. Raises msgspec.ValidationError where it is not one."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def write(path: Path, report: Report) -> None:
    """Write a results file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
