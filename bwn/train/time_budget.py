"""How many epochs fit into a time: the first steps are measured, then thrown away."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from torch import nn

from bwn.data.datasets import Dataset
from bwn.ir.model_spec import Preprocess
from bwn.train import distributed
from bwn.train.preprocessing import accuracy
from bwn.train.settings import Settings
from bwn.train.trainer import Trainer

MEASURE_SECONDS = 30.0
MEASURE_SHARE = 20
"""Steps are measured for a MEASURE_SHARE-th of the time, but at most MEASURE_SECONDS."""
WARM_UP = 3
"""First steps that are not counted: torch prepares itself in them."""
FEWEST = 5
"""Steps that are counted at least."""
USED = 0.95
"""Share of the time that epochs are planned for; the rest is for saving and the test images."""
VALIDATED = 1000
"""Held-out images that are measured."""
MOST_EPOCHS = 1_000_000


class Plan(NamedTuple):
    """The epochs that fit into a time.

    Attributes:
        epochs: How many, at least 1.
        epoch_seconds: What one takes, about.
    """

    epochs: int
    epoch_seconds: float


def plan_epochs(
    seconds: float, module: nn.Module, data: Dataset, preprocess: Preprocess, settings: Settings
) -> Plan:
    """Train the first steps, measure them, and say how many epochs fit into what is left.

    A run of that many epochs is like any other: it depends on the clock no further.

    Args:
        seconds: The time, this measurement included.
        module: A network with fresh weights, which it loses.
        data: The training images.
        preprocess: How they are prepared.
        settings: How it will be trained, but for the epochs.
    """
    start, stamps = time.monotonic(), list[float]()
    settings = msgspec.structs.replace(settings, epochs=MOST_EPOCHS, patience=None)
    trainer = Trainer(module, data, preprocess, settings)
    limit = min(MEASURE_SECONDS, seconds / MEASURE_SHARE)

    def enough() -> bool:
        stamps.append(time.monotonic())
        return len(stamps) > WARM_UP + FEWEST and stamps[-1] - start > limit

    trainer.run(stop=enough)
    epoch_seconds = _epoch_seconds(trainer, np.diff(stamps))
    left = USED * seconds - (time.monotonic() - start)
    fitting = distributed.from_rank_0(lambda: max(1, min(left // epoch_seconds, MOST_EPOCHS)))
    return Plan(int(fitting), epoch_seconds)


def _epoch_seconds(trainer: Trainer, durations: npt.NDArray[np.floating]) -> float:
    """What an epoch takes: its steps, and the held-out images at its end."""
    number = np.arange(1, len(durations) + 1)
    counted = number > WARM_UP
    inside = counted & (number % trainer.steps_per_epoch > 0)
    if not inside.any():  # one step is an epoch, measured with its end
        return float(durations[counted].mean())
    held_out = trainer.held_out
    some = Dataset(held_out.images[:VALIDATED], held_out.labels[:VALIDATED], held_out.classes)
    start = time.monotonic()
    if len(some.labels):
        accuracy(trainer.module, some, trainer.preprocess)
    validation = (time.monotonic() - start) * len(held_out.labels) / max(len(some.labels), 1)
    return float(durations[inside].mean()) * trainer.steps_per_epoch + validation
