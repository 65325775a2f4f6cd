"""Measuring speed: one network, beside ONNX Runtime on the same function where that is installed.

Rules: outputs are compared before anything is timed; both sides get the same threads and the same input; they are
warmed up, then take turns, so that a machine that slows down slows both; the median and the minimum are told.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from statistics import median
from typing import Any

import msgspec
import numpy as np

from bwn._types import Floats
from bwn.errors import BwnError
from bwn.ir.model_spec import ModelSpec
from bwn.ir.tolerance import chain_tolerance
from bwn.kernels.target import cpu, loader
from bwn.model import LayerTime, Model, available_threads
from bwn.tools.verify_scores import sign_ties

WARM_UP_SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 0.2, 5, 2000
NOTABLE = ("neon", "dotprod", "sve", "avx2", "avx512f", "avx512vnni")
OURS, THEIRS = "bwn", "onnxruntime"


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one engine on one network and batch.

    median_ms, min_ms: of one run of the batch. speedup: how many times as long ONNX Runtime took, the median over the
    rounds of the ratio within a round; None for itself, or where it was not measured.
    """

    network: str
    engine: str
    batch: int
    threads: int
    median_ms: float
    min_ms: float
    rounds: int
    images_per_s: float
    speedup: float | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How far the scores are from ONNX Runtime's, before timing.

    error: largest difference, relative to the largest score. tolerance: what is allowed, or None for 8-bit activations,
    whose scores differ by their rounding. sign_ties: examples left out of error, since a number within tolerance of 0
    fell on the other side of a Sign. same_class: share of examples with the same best class.
    """

    error: float
    sign_ties: int
    tolerance: float | None
    same_class: float


def machine(threads: int) -> dict[str, Any]:
    """What the figures were taken on: CPU, system, versions, threads."""
    names = ("bwn", "numpy", "numba", "llvmlite", "onnxruntime")
    return {
        "cpu": cpu.model(),
        "llvm_cpu": cpu.name(),
        "kernels": loader.origin(),
        "features": [name for name in NOTABLE if name in cpu.features()],
        "cores": available_threads(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: found for name in names if (found := _version(name)) is not None},
        "threads": threads,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def onnxruntime_installed() -> bool:
    """Whether the comparison can be made; imports nothing."""
    return find_spec("onnxruntime") is not None and find_spec("onnx") is not None


def example_input(spec: ModelSpec, batch: int, seed: int = 0) -> Floats:
    """Seeded standard normal numbers: (batch, *input shape) float32."""
    shape = (batch, *spec.graph.topology.input_shape)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def take_turns(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Seconds of each call, in rounds of one call each, until every call has had `seconds` or enough rounds."""
    for call in calls.values():
        start = time.perf_counter()
        call()
        while time.perf_counter() - start < WARM_UP_SECONDS:
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    begun = time.perf_counter()
    for done in range(MOST_ROUNDS):
        if done >= LEAST_ROUNDS and time.perf_counter() - begun > seconds * len(calls):
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return times


class Bench:
    """One network, ready to be timed. compare: also in ONNX Runtime."""

    def __init__(self, name: str, spec: ModelSpec, threads: int, *, compare: bool) -> None:
        self.name, self.spec, self.threads = name, spec, threads
        self.model = Model(spec, threads)
        self.session: Any = None
        if compare:
            from bwn.onnx.exporter import to_onnx_bytes
            from bwn.onnx.session import Session

            self.session = Session(to_onnx_bytes(spec), threads)

    def compare(self, batch: int) -> Comparison | None:
        """Compare the scores of a seeded batch. Raises BwnError where they differ by more than rounding."""
        if self.session is None:
            return None
        x = example_input(self.spec, batch)
        ours, theirs = (
            scores.reshape(batch, -1) for scores in (self.model.run(x), self.session.run(x))
        )
        largest = max(np.abs(theirs).max(), np.finfo(np.float32).tiny)
        errors = np.abs(ours - theirs).max(axis=1) / largest  # (batch,)
        allowed = None
        tied = np.zeros(batch, bool)
        if not self.spec.graph.is_quantized:
            allowed = chain_tolerance(self.spec.graph, self.spec.graph.shapes)
            apart = ~(errors <= allowed)
            if apart.any():
                tied[apart] = sign_ties(self.model, self.session, x[apart])
            if (apart & ~tied).any():
                raise BwnError(
                    f"{self.name}: scores differ from ONNX Runtime's by {errors[~tied].max():.2g} of the largest, "
                    f"allowed is {allowed:.2g}; a wrong result is not timed"
                )
        return Comparison(
            error=float(errors[~tied].max(initial=0)),
            tolerance=allowed,
            sign_ties=int(tied.sum()),
            same_class=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        )

    def time(self, batch: int, seconds: float) -> list[Timing]:
        """Time each engine on one batch size."""
        x = example_input(self.spec, batch)
        calls: dict[str, Callable[[], object]] = {OURS: lambda: self.model.run(x)}
        if self.session is not None:
            calls[THEIRS] = lambda: self.session.run(x)
        times = take_turns(calls, seconds)
        return [self._timing(engine, batch, times) for engine in times]

    def _timing(self, engine: str, batch: int, times: dict[str, list[float]]) -> Timing:
        found, theirs = times[engine], times.get(THEIRS)
        middle = median(found)
        ratios = (
            None
            if theirs is None or engine == THEIRS
            else [b / a for a, b in zip(found, theirs, strict=True)]
        )
        return Timing(
            network=self.name,
            engine=engine,
            batch=batch,
            threads=self.threads,
            median_ms=middle * 1e3,
            min_ms=min(found) * 1e3,
            rounds=len(found),
            images_per_s=batch / middle,
            speedup=None if ratios is None else median(ratios),
        )

    def layers(self, batch: int, repeats: int = 30) -> list[LayerTime]:
        """Kernel and median time of every layer."""
        x = example_input(self.spec, batch)
        self.model.profile(x)
        return self.model.profile(x, repeats)
