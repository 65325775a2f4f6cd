"""The training loop: Adam on a module, reproducible from its seed, and resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bwn.datasets import Dataset
from bwn.errors import BwnError, CheckpointError
from bwn.graph import Preprocess
from bwn.train.inputs import accuracy, as_input, augmented, measure, split
from bwn.train.layers import binary_layers
from bwn.train.optimizer import Adam
from bwn.train.penalties import mean_distance
from bwn.train.settings import Settings

REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Progress:
    """Where a run stands. Reported about twice a second, and at the end of each epoch (`epoch_done`).

    loss, accuracy: mean over the epoch's training images so far, penalty left out. validation: accuracy on the
    held-out images with the deployed weights; None before the epoch's end or without such images.
    distance: mean of |1 - |w|| over the binary layers' real weights, None without such layers.
    seconds: of this session. left: estimate of the seconds to the end.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    epoch_done: bool
    loss: float
    accuracy: float
    validation: float | None
    distance: float | None
    learning_rate: float
    strength: float
    seconds: float
    left: float


class Trainer:
    """One training run of a module on a data set.

    Steps depend on nothing but the settings, the data and the state, so a run that is interrupted and resumed from
    `state()` ends with the same bits (on one machine, with one number of threads).
    """

    def __init__(self, module: nn.Module, data: Dataset, preprocess: Preprocess, settings: Settings) -> None:
        self.module, self.preprocess, self.settings = module, preprocess, settings
        self.step = 0
        self.running = (0.0, 0)
        self.train_data, self.held_out = split(data, settings.validation, settings.seed)
        self._images, self._labels = torch.from_numpy(self.train_data.images), torch.from_numpy(self.train_data.labels)
        self.batch = min(settings.batch_size, len(self._images))
        self.steps_per_epoch = len(self._images) // self.batch  # the shuffle's few last images wait for the next epoch
        self.steps = self.steps_per_epoch * settings.epochs
        self.optimizer = Adam(module, settings)
        self._binary = list(binary_layers(module).values())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._generator = torch.get_rng_state()

    def run(self, report: Callable[[Progress], None] | None = None, stop: Callable[[], bool] | None = None) -> bool:
        """Train to the end, or until `stop()` holds between two steps. Returns whether the end was reached."""
        began, first, told = time.monotonic(), self.step, 0.0
        self.module.train()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._generator)
            order = self._order()
            while self.step < self.steps and not (stop is not None and stop()):
                if self.step % self.steps_per_epoch == 0:
                    self.running = (0.0, 0)
                    order = self._order()
                position = self.step % self.steps_per_epoch * self.batch
                self._train_on(order[position : position + self.batch])
                self.step += 1
                done = self.step % self.steps_per_epoch == 0
                now = time.monotonic()
                if done or now - told > REPORT_SECONDS:
                    told = now
                    self._generator = torch.get_rng_state()
                    self._report(done, now - began, first, report)
            self._generator = torch.get_rng_state()
        self.module.eval()
        return self.step >= self.steps

    def _order(self) -> Tensor:
        """The epoch's shuffle, a function of the seed and the epoch alone."""
        epoch = self.step // self.steps_per_epoch
        seed = int(np.random.SeedSequence((self.settings.seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
        return torch.randperm(len(self._images), generator=torch.Generator().manual_seed(seed))

    def _train_on(self, index: Tensor) -> None:
        images, labels = augmented(self._images[index], self.settings.augment), self._labels[index]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            scores = self.module(as_input(images, self.preprocess))
        loss = LOSSES[self.settings.loss](scores.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        self.optimizer.step(self.step + 1, self.step / self.steps)
        right = int((scores.argmax(1) == labels).sum())
        self.running = (self.running[0] + float(loss.detach()), self.running[1] + right)

    def _report(self, done: bool, seconds: float, first: int, report: Callable[[Progress], None] | None) -> None:
        batches = (self.step - 1) % self.steps_per_epoch + 1
        validation = None
        if done and len(self.held_out.images):
            validation = accuracy(self.module, self.held_out, self.preprocess)
        part = self.step / self.steps
        progress = Progress(
            epoch=(self.step - 1) // self.steps_per_epoch + 1,
            epochs=self.settings.epochs,
            step=self.step,
            steps=self.steps,
            epoch_done=done,
            loss=self.running[0] / batches,
            accuracy=self.running[1] / (batches * self.batch),
            validation=validation,
            distance=mean_distance(layer.weight for layer in self._binary) if self._binary else None,
            learning_rate=self.settings.learning_rate_at(part),
            strength=self.settings.strength_at(part),
            seconds=seconds,
            left=seconds / (self.step - first) * (self.steps - self.step),
        )
        if not np.isfinite(progress.loss):
            raise BwnError(f"the loss is no longer finite in epoch {progress.epoch}; try a lower learning rate")
        if report is not None:
            report(progress)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on besides module, data and settings: tensors and plain values."""
        return {
            "step": self.step,
            "running": list(self.running),
            "generator": self._generator,
            "moments": [list(pair) for pair in zip(self.optimizer.first, self.optimizer.second, strict=True)],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`. Raises CheckpointError where it does not fit."""
        try:
            step, (loss, right) = int(state["step"]), state["running"]
            if not 0 <= step <= self.steps:
                raise ValueError(f"step {step} of {self.steps}")
            self.optimizer.load(state["moments"])
            torch.Generator().set_state(state["generator"])
            self.running = float(loss), int(right)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint's training state does not fit its network: {error}") from error
        self.step, self._generator = step, state["generator"]


def fit(
    module: nn.Module,
    data: Dataset,
    settings: Settings | None = None,
    *,
    report: Callable[[Progress], None] | None = None,
) -> Preprocess:
    """Train any module of one's own on a data set, to the end.

    module: (N, C, H, W) float32 to scores (N, classes). report: called about twice a second.
    Returns the preparation of images that was used; give it to `export_onnx`.
    """
    preprocess = measure(data)
    Trainer(module, data, preprocess, settings or Settings()).run(report)
    return preprocess


def squared_hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over images and classes of max(0, 1 - t y)^2, t = +1 for the image's class and -1 for the others."""
    targets = torch.full_like(scores, -1.0).scatter_(1, labels.unsqueeze(1), 1.0)
    return F.relu(1 - targets * scores).square().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hinge": squared_hinge, "cross-entropy": F.cross_entropy}
