"""A loaded model: `run` on arrays, `predict` on images, `trace` and `profile` for those who look inside."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.errors import BwnError
from bwn.format import read
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Shape
from bwn.plan.explain import layer_plans
from bwn.plan.planner import make_plan
from bwn.predict import ImageLike, Prediction, predict
from bwn.runtime.executor import Runner

Floats = npt.NDArray[np.float32]

KEPT_PLANS = 4
"""Plans a model keeps, one a batch size; the least recently used goes first."""


class LayerTime(NamedTuple):
    """Time of one layer.

    name, kernel, why, microseconds: as `bwn.plan.explain.LayerPlan` tells them. seconds: of one run of the batch.
    macs: multiply-accumulates of the batch.
    """

    name: str
    kernel: str
    why: str
    seconds: float
    macs: int
    microseconds: float | None

    def plus(self, other: LayerTime) -> LayerTime:
        """The same layer's next pass added."""
        both = (
            None if self.microseconds is None else self.microseconds + (other.microseconds or 0.0)
        )
        return self._replace(
            seconds=self.seconds + other.seconds, macs=self.macs + other.macs, microseconds=both
        )


def available_threads() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Model:
    """A packed network ready to run. Safe to use from several threads; runs of one model do not overlap."""

    def __init__(self, spec: ModelSpec, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise BwnError(f"threads is {threads}, expected 1 or more")
        self.spec = spec
        self.threads = threads or available_threads()
        self._runners: OrderedDict[int, Runner] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def input_shape(self) -> Shape:
        """Shape of one example, (C, H, W) or (K,)."""
        return self.spec.graph.topology.input_shape

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, or None where the file has none."""
        return self.spec.classes

    def run(self, x: npt.ArrayLike) -> Floats:
        """Scores: the function of the exported ONNX graph, with no preprocessing and no softmax that the graph lacks.

        x: (N, *input_shape) float32. Returns (N, classes) float32. Raises BwnError where the shape does not fit.
        """
        batch = self._checked(x)
        with self._lock:
            parts = self._passes(batch)
            if len(parts) == 1:
                return self._runner(len(batch)).run(batch)
            return np.concatenate([self._runner(len(part)).run(part) for part in parts])

    def predict(self, images: Iterable[ImageLike]) -> list[Prediction]:
        """Class and probability of each image, prepared as the file says.

        images: PIL images, uint8 arrays or paths.
        """
        return predict(self, images)

    def trace(self, x: npt.ArrayLike) -> dict[str, Floats]:
        """Every activation tensor of a run, by name, batch axis first. x: (N, *input_shape) float32."""
        batch = self._checked(x)
        plan = make_plan(self.spec.graph, len(batch), self.threads, keep_all=True)
        Runner(plan).run(batch)
        return {name: plan.tensor(name) for name in plan.tensors}

    def profile(self, x: npt.ArrayLike, repeats: int = 1) -> list[LayerTime]:
        """Kernel and median time of every layer over `repeats` runs. x: (N, *input_shape) float32."""
        batch = self._checked(x)
        layers: dict[str, LayerTime] = {}
        with self._lock:
            for part in self._passes(batch):
                for layer in self._profile_pass(part, repeats):
                    layers[layer.name] = (
                        layers[layer.name].plus(layer) if layer.name in layers else layer
                    )
        return list(layers.values())

    def _profile_pass(self, batch: Floats, repeats: int) -> list[LayerTime]:
        runner = self._runner(len(batch))
        times = np.median([runner.times(batch) for _ in range(repeats)], axis=0)
        plan, nodes, shapes = runner.plan, runner.plan.graph.nodes, runner.plan.graph.shapes
        macs = [
            node.macs([shapes[n] for n in node.inputs], shapes[node.output]) * len(batch)
            for node in nodes
        ]
        return [
            LayerTime(
                name=row.name,
                kernel=" ".join(row.kernels),
                why=row.why,
                seconds=float(times[row.steps].sum()),
                macs=macs[row.node] if 0 <= row.node < len(nodes) else 0,
                microseconds=row.microseconds,
            )
            for row in layer_plans(plan)
        ]

    def _passes(self, batch: Floats) -> list[Floats]:
        """The batch in passes that stay in the caches."""
        size = self._runner(len(batch)).plan.batch
        return [batch[start : start + size] for start in range(0, len(batch), size)]

    def _checked(self, x: npt.ArrayLike) -> Floats:
        batch = np.ascontiguousarray(x, np.float32)
        if batch.shape[1:] != self.input_shape or len(batch) == 0:
            expected = ", ".join(map(str, self.input_shape))
            raise BwnError(
                f"input has shape {batch.shape}, expected (N, {expected}) with N of 1 or more"
            )
        return batch

    def _runner(self, batch: int) -> Runner:
        """The runner of one pass of a batch."""
        size = self._sizes.get(batch, 0)
        if size not in self._runners:
            plan = make_plan(self.spec.graph, batch, self.threads, passes=True)
            size = self._sizes[batch] = plan.batch
            if size not in self._runners:
                self._runners[size] = Runner(plan)
        self._runners.move_to_end(size)
        if len(self._runners) > KEPT_PLANS:
            self._runners.popitem(last=False)
        return self._runners[size]


def load(path: str | Path, threads: int | None = None) -> Model:
    """Read and check a .bwn file.

    threads: how many to use, default all that the process may. Raises FormatError where the file is not legal.
    """
    return Model(read(path), threads)
