"""Speed of one network, and of ONNX Runtime on the same function where that is installed.

Scores are compared before anything is timed. Both engines get the same input and number of threads,
and are timed as `bwn.tools.timing` says.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np

from bwn._types import Floats
from bwn.errors import BwnError
from bwn.ir.model_spec import ModelSpec
from bwn.ir.tolerance import chain_tolerance
from bwn.kernels import costs
from bwn.kernels.target import cpu, loader
from bwn.kernels.target.limits import available_threads
from bwn.model import Model
from bwn.predict import class_scores
from bwn.runtime.layer_times import LayerTime
from bwn.tools.conditions import Conditions, conditions
from bwn.tools.timing import Timing, interleave
from bwn.tools.verify_scores import sign_ties

NOTABLE_FEATURES = ("neon", "dotprod", "sve", "avx2", "avx512f", "avx512vnni", "avxvnni")
PACKAGES = ("bwn", "numpy", "numba", "llvmlite", "onnxruntime")
BWN, ONNXRUNTIME = "bwn", "onnxruntime"
LAYER_RUNS = 30


class EngineTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one engine on one network and batch.

    Attributes:
        network: Name of the network.
        engine: `bwn` or `onnxruntime`.
        batch: Images of a call.
        threads: Threads that it may use.
        median_ms: Milliseconds of a call, the median of the turns.
        min_ms: Milliseconds of the fastest call.
        turns: Number of turns.
        calls: Number of counted calls in all turns.
        images_per_s: Images a second at the median.
        speedup: How many times as fast as ONNX Runtime, the median of the ratios within a round of
            turns; None for itself, or where it was not timed.
    """

    network: str
    engine: str
    batch: int
    threads: int
    median_ms: float
    min_ms: float
    turns: int
    calls: int
    images_per_s: float
    speedup: float | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How far the scores of a batch are from ONNX Runtime's.

    Attributes:
        error: Largest difference, relative to the largest score.
        sign_ties: Images left out of `error`, where a number within tolerance of 0 has the other
            sign.
        tolerance: Largest `error` allowed; None with 8-bit activations, whose scores differ by
            their rounding.
        same_class: Share of the images with the same best class.
        binary: Whether layers read signs, for which ONNX Runtime has no kernels.
    """

    error: float
    sign_ties: int
    tolerance: float | None
    same_class: float
    binary: bool = False


class NetworkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one network.

    Attributes:
        network: Its name.
        comparison: Its scores next to ONNX Runtime's; None without ONNX Runtime.
        timings: Times at batch 1 and at the batch for throughput.
        conditions: The processor's clock and temperature right after.
        layers: Time and kernel of each layer at batch 1 (the fields of `LayerTime`), if asked for.
    """

    network: str
    comparison: Comparison | None
    timings: list[EngineTiming]
    conditions: Conditions
    layers: list[dict[str, Any]] | None


def machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on: CPU, system, versions, threads."""
    return {
        "cpu": cpu.model(),
        "llvm_cpu": cpu.name(),
        "kernels": loader.origin(),
        "features": [name for name in NOTABLE_FEATURES if name in cpu.features()],
        "cores": available_threads(),
        "tuned": costs.table().origin == "measured",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: number for name in PACKAGES if (number := _version(name)) is not None},
        "threads": threads,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _report_share(progress: Callable[[str], None], label: str, share: float) -> None:
    progress(f"{label}, {share:.0%}")


def onnxruntime_installed() -> bool:
    """Whether ONNX Runtime can be compared with; imports nothing."""
    return find_spec("onnxruntime") is not None and find_spec("onnx") is not None


def example_input(spec: ModelSpec, batch: int, seed: int = 0) -> Floats:
    """Seeded standard normal numbers: (batch, *input shape) float32."""
    shape = (batch, *spec.graph.topology.input_shape)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Benchmark:
    """One network, ready to be timed."""

    def __init__(self, name: str, spec: ModelSpec, threads: int, *, compare: bool) -> None:
        """Prepare a network.

        Args:
            name: How results and messages name it.
            spec: The network.
            threads: Threads of both engines.
            compare: Whether ONNX Runtime is timed too.
        """
        self.name, self.spec, self.threads = name, spec, threads
        self.model = Model(spec, threads)
        self.session: Any = None
        if compare:
            from bwn.onnx.exporter import to_onnx_bytes
            from bwn.onnx.session import Session

            self.session = Session(to_onnx_bytes(spec), threads)

    def run(
        self, batch: int, seconds: float, *, layers: bool, progress: Callable[[str], None]
    ) -> NetworkResult:
        """Compare scores, then time.

        Args:
            batch: Images of a call for throughput; latency is that of one image.
            seconds: Time for each engine and batch size.
            layers: Whether to time the layers too.
            progress: Called with a line on what is being done.
        """
        comparison = self.compare(batch)
        timings: list[EngineTiming] = []
        for size in (1, batch):
            label = f"{self.name}: batch {size}"
            timings += self.time(size, seconds, partial(_report_share, progress, label))
        after = conditions()
        times = self.layers(1) if layers else None
        return NetworkResult(
            network=self.name,
            comparison=comparison,
            timings=timings,
            conditions=after,
            layers=None if times is None else [layer._asdict() for layer in times],
        )

    def compare(self, batch: int) -> Comparison | None:
        """Compare the scores of a seeded batch; None without ONNX Runtime.

        Raises:
            BwnError: They differ by more than rounding explains.
        """
        if self.session is None:
            return None
        x = example_input(self.spec, batch)
        ours, theirs = (
            scores.reshape(batch, -1) for scores in (self.model.run(x), self.session.run(x))
        )
        largest = max(np.abs(theirs).max(), np.finfo(np.float32).tiny)
        errors = np.abs(ours - theirs).max(axis=1) / largest  # (batch,)
        tolerance, tied = None, np.zeros(batch, bool)
        if not self.spec.graph.is_quantized:
            tolerance = chain_tolerance(self.spec.graph, self.spec.graph.shapes)
            apart = ~(errors <= tolerance)
            if apart.any():
                tied[apart] = sign_ties(self.model, self.session, x[apart])
            if (apart & ~tied).any():
                raise BwnError(
                    f"{self.name}: scores differ from ONNX Runtime's by {errors[~tied].max():.2g} "
                    f"of the largest score, tolerance {tolerance:.2g}; wrong results are not timed"
                )
        return Comparison(
            error=float(errors[~tied].max(initial=0)),
            tolerance=tolerance,
            sign_ties=int(tied.sum()),
            same_class=float(
                (class_scores(ours).argmax(1) == class_scores(theirs).argmax(1)).mean()
            ),
            binary=any(
                getattr(node, "activations", None) == "binary"
                for node in self.spec.graph.topology.nodes
            ),
        )

    def time(
        self, batch: int, seconds: float, progress: Callable[[float], None] | None = None
    ) -> list[EngineTiming]:
        """Time the engines on one batch size, interleaved.

        Args:
            batch: Images of a call.
            seconds: Time for each engine.
            progress: Called with the share that is done, 0 to 1.
        """
        x = example_input(self.spec, batch)
        calls: dict[str, Callable[[], object]] = {BWN: lambda: self.model.run(x)}
        if self.session is not None:
            calls[ONNXRUNTIME] = lambda: self.session.run(x)
        timings = interleave(calls, seconds * len(calls), progress=progress)
        return self.rows(batch, timings)

    def rows(self, batch: int, timings: Mapping[str, Timing]) -> list[EngineTiming]:
        """What is reported of each engine's times."""
        peer = timings.get(ONNXRUNTIME)
        return [
            EngineTiming(
                network=self.name,
                engine=engine,
                batch=batch,
                threads=self.threads,
                median_ms=timing.median * 1e3,
                min_ms=timing.minimum * 1e3,
                turns=len(timing.turns),
                calls=timing.calls,
                images_per_s=batch / timing.median,
                speedup=None if peer is None or peer is timing else timing.speedup(peer),
            )
            for engine, timing in timings.items()
        ]

    def layers(self, batch: int, runs: int = LAYER_RUNS) -> list[LayerTime]:
        """Kernel of every layer, and its median time over runs of bwn one after another."""
        x = example_input(self.spec, batch)
        self.model.profile(x)
        return self.model.profile(x, runs)
