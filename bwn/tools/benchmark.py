"""Speed of one network, and of other engines on the same function where they are installed.

Scores are compared before anything is timed. All engines get the same input and number of threads,
and are timed as `bwn.tools.timing` says.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import numpy as np

from bwn._types import Floats
from bwn.data.datasets import no_progress
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import costs
from bwn.kernels.target import cpu, loader
from bwn.kernels.target.limits import available_threads
from bwn.model import Model
from bwn.runtime.layer_times import LayerTime
from bwn.tools.benchmark_peers import Comparison, Peers, reads_signs
from bwn.tools.conditions import Conditions, conditions
from bwn.tools.timing import Timing, interleave

NOTABLE_FEATURES = (
    "neon", "dotprod", "sve", "avx2", "avx512f", "avx512vnni", "avxvnni", "amx-int8",
)  # fmt: skip
PACKAGES = ("bwn", "numpy", "numba", "llvmlite", "onnxruntime", "ncnn")
BWN = "bwn"
LAYER_RUNS = 30


class EngineTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one engine on one network and batch.

    Attributes:
        network: Name of the network.
        engine: `bwn`, or the name of a peer.
        batch: Images of a call.
        threads: Threads that it may use.
        median_ms: Milliseconds of a call, the median of the turns.
        min_ms: Milliseconds of the fastest call.
        turns: Number of turns.
        calls: Number of counted calls in all turns.
        images_per_s: Images a second at the median.
        speedup: Of a peer, how many times as fast bwn is, the median of the ratios within a round
            of turns; None for bwn.
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


class NetworkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one network.

    Attributes:
        network: Its name.
        comparisons: Its scores next to those of each peer.
        left_out: Why other peers were not compared with.
        binary: Whether layers read signs, for which the peers have no kernels.
        timings: Times at batch 1 and at the batch for throughput.
        conditions: The processor's clock and temperature right after.
        layers: Time and kernel of each layer at batch 1 (the fields of `LayerTime`), if asked for.
    """

    network: str
    comparisons: dict[str, Comparison]
    left_out: dict[str, str]
    binary: bool
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


def example_input(spec: ModelSpec, batch: int, seed: int = 0) -> Floats:
    """Seeded standard normal numbers: (batch, *input shape) float32."""
    shape = (batch, *spec.graph.topology.input_shape)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Benchmark:
    """One network, ready to be timed."""

    def __init__(
        self, name: str, spec: ModelSpec, threads: int, peers: tuple[str, ...] = ()
    ) -> None:
        """Prepare a network.

        Args:
            name: How results and messages name it.
            spec: The network.
            threads: Threads of every engine.
            peers: Engines that are timed too.
        """
        self.name, self.spec, self.threads = name, spec, threads
        self.model = Model(spec, threads)
        self.peers = Peers(spec, threads, peers)

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
        comparisons = self.compare(batch)
        timings: list[EngineTiming] = []
        for size in (1, batch):
            timings += self.time(size, seconds, progress)
        after = conditions()
        times = self.layers() if layers else None
        return NetworkResult(
            network=self.name,
            comparisons=comparisons,
            left_out=self.peers.left_out,
            binary=reads_signs(self.spec),
            timings=timings,
            conditions=after,
            layers=None if times is None else [layer._asdict() for layer in times],
        )

    def compare(self, batch: int) -> dict[str, Comparison]:
        """Compare the scores of a seeded batch with each peer's, as `Peers.compare` does."""
        return self.peers.compare(self.name, self.model, example_input(self.spec, batch))

    def time(
        self, batch: int, seconds: float, progress: Callable[[str], None] = no_progress
    ) -> list[EngineTiming]:
        """Time the engines on one batch size, interleaved.

        Args:
            batch: Images of a call.
            seconds: Time for each engine.
            progress: Called with a line on how far it is.
        """

        def share_done(share: float) -> None:
            progress(f"{self.name}: batch {batch}, {share:.0%}")

        x = example_input(self.spec, batch)
        calls: dict[str, Callable[[], object]] = {BWN: lambda: self.model.run(x)}
        calls |= {name: partial(run, x) for name, run in self.peers.runs.items()}
        timings = interleave(calls, seconds * len(calls), progress=share_done)
        return self.rows(batch, timings)

    def rows(self, batch: int, timings: Mapping[str, Timing]) -> list[EngineTiming]:
        """What is reported of each engine's times."""
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
                speedup=None if engine == BWN else timings[BWN].speedup(timing),
            )
            for engine, timing in timings.items()
        ]

    def layers(self, runs: int = LAYER_RUNS) -> list[LayerTime]:
        """Kernel of every layer at batch 1, and its median time over runs one after another."""
        x = example_input(self.spec, 1)
        self.model.profile(x)
        return self.model.profile(x, runs)
