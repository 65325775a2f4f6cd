"""Time of every layer of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bwn._types import Floats
from bwn.plan.explain import layer_plans
from bwn.runtime.executor import Runner


class LayerTime(NamedTuple):
    """Time of one layer in one run of a batch.

    Attributes:
        name: Name of the layer.
        kernel: Names of its kernels.
        why: Why the planner chose them.
        seconds: Median time.
        macs: Multiply-accumulates.
        microseconds: Predicted time on one thread, or None.
    """

    name: str
    kernel: str
    why: str
    seconds: float
    macs: int
    microseconds: float | None

    def plus(self, other: LayerTime) -> LayerTime:
        """The same layer with the time of another part of the batch added."""
        both = (
            None if self.microseconds is None else self.microseconds + (other.microseconds or 0.0)
        )
        return self._replace(
            seconds=self.seconds + other.seconds, macs=self.macs + other.macs, microseconds=both
        )


def layer_times(runner: Runner, batch: Floats, repeats: int) -> list[LayerTime]:
    """Time of each layer of a plan, the median over `repeats` runs of a batch that it is for."""
    times = np.median([runner.times(batch) for _ in range(repeats)], axis=0)
    plan, nodes, shapes = runner.plan, runner.plan.graph.nodes, runner.plan.graph.shapes
    macs = [
        node.macs([shapes[name] for name in node.inputs], shapes[node.output]) * len(batch)
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


def total(parts: Iterable[list[LayerTime]]) -> list[LayerTime]:
    """The layers of a batch, given those of its parts."""
    layers: dict[str, LayerTime] = {}
    for part in parts:
        for layer in part:
            layers[layer.name] = layers[layer.name].plus(layer) if layer.name in layers else layer
    return list(layers.values())
