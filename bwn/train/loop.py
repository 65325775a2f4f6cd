"""The training loop: Adam on a module, reproducible from its seed, and resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bwn.datasets import Dataset
from bwn.errors import BwnError, CheckpointError, DivergedError
from bwn.graph import Preprocess
from bwn.train.inputs import accuracy, as_input, augmented, measure, split
from bwn.train.layers import binary_layers
from bwn.train.losses import LOSSES, image_weights
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
    best: the epoch of the best validation so far (of equal ones the last), None before there is one.
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
    best: int | None = None


class Trainer:
    """One training run of a module on a data set.

    Steps depend on nothing but the settings, the data and the state, so a run that is interrupted and resumed from
    `state()` ends with the same bits (on one machine, with one number of threads).
    """

    def __init__(self, module: nn.Module, data: Dataset, preprocess: Preprocess, settings: Settings) -> None:
        self.module, self.preprocess, self.settings = module, preprocess, settings
        self.step = 0
        self.running = (0.0, 0)
        self.best: tuple[float, int] | None = None  # validation accuracy and epoch
        self.waited = 0  # epochs since validation last rose
        self.train_data, self.held_out = split(data, settings.validation, settings.seed)
        if settings.patience is not None and not len(self.held_out.images):
            raise BwnError("patience counts epochs without a better accuracy on held-out images, and there are none")
        self._images, self._labels = torch.from_numpy(self.train_data.images), torch.from_numpy(self.train_data.labels)
        self.batch = min(settings.batch_size, len(self._images))
        self.steps_per_epoch = len(self._images) // self.batch  # the shuffle's few last images wait for the next epoch
        self.steps = self.steps_per_epoch * settings.epochs
        self.optimizer = Adam(module, settings)
        self._binary = list(binary_layers(module).values())
        self._class_weights = image_weights(settings.class_weights, self.train_data)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._generator = torch.get_rng_state()

    def run(self, report: Callable[[Progress], None] | None = None, stop: Callable[[], bool] | None = None) -> bool:
        """Train to the end, or until `stop()` holds between two steps. Returns whether the end was reached.

        Raises DivergedError, at the next report, where the loss or the weights are no longer finite.
        """
        began, first, told = time.monotonic(), self.step, 0.0
        self.module.train()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._generator)
            order = self._order()
            while not self.finished and not (stop is not None and stop()):
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
        return self.finished

    @property
    def early(self) -> bool:
        """Whether the run ends before its last step, as validation has not risen for `patience` epochs."""
        patience = self.settings.patience
        return self.step < self.steps and patience is not None and self.waited >= patience

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.steps or self.early

    @property
    def epoch(self) -> int:
        """The epoch of the last step, from 1; 0 before the first step."""
        return (self.step - 1) // self.steps_per_epoch + 1

    def _order(self) -> Tensor:
        """The epoch's shuffle, a function of the seed and the epoch alone."""
        epoch = self.step // self.steps_per_epoch
        seed = int(np.random.SeedSequence((self.settings.seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
        return torch.randperm(len(self._images), generator=torch.Generator().manual_seed(seed))

    def _train_on(self, index: Tensor) -> None:
        images, labels = augmented(self._images[index], self.settings.augment), self._labels[index]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            scores = self.module(as_input(images, self.preprocess))
        loss = LOSSES[self.settings.loss](scores.float(), labels, self._class_weights)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        self.optimizer.step(self.step + 1, self.step / self.steps)
        right = int((scores.argmax(1) == labels).sum())
        self.running = (self.running[0] + float(loss.detach()), self.running[1] + right)

    def _report(self, done: bool, seconds: float, first: int, report: Callable[[Progress], None] | None) -> None:
        batches = (self.step - 1) % self.steps_per_epoch + 1
        loss = self.running[0] / batches
        if not np.isfinite(loss):
            raise DivergedError(self._diverged("loss is"))
        validation = None
        if done:
            self._check_finite()
            validation = self._validate()
        part = self.step / self.steps
        progress = Progress(
            epoch=self.epoch,
            epochs=self.settings.epochs,
            step=self.step,
            steps=self.steps,
            epoch_done=done,
            loss=loss,
            accuracy=self.running[1] / (batches * self.batch),
            validation=validation,
            distance=mean_distance(layer.weight for layer in self._binary) if self._binary else None,
            learning_rate=self.settings.learning_rate_at(part),
            strength=self.settings.strength_at(part),
            seconds=seconds,
            left=seconds / (self.step - first) * (self.steps - self.step),
            best=self.best and self.best[1],
        )
        if report is not None:
            report(progress)

    def _validate(self) -> float | None:
        """Accuracy on the held-out images, if there are any; notes whether it is the best one."""
        if not len(self.held_out.images):
            return None
        found = accuracy(self.module, self.held_out, self.preprocess)
        self.waited = 0 if self.best is None or found > self.best[0] else self.waited + 1
        if self.best is None or found >= self.best[0]:
            self.best = found, self.epoch
        return found

    def _check_finite(self) -> None:
        """Raise DivergedError for weights or moments that are not finite: signs of NaN are finite, and hide them."""
        for tensor in (*self.module.state_dict().values(), *self.optimizer.first, *self.optimizer.second):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise DivergedError(self._diverged("weights are"))

    def _diverged(self, what: str) -> str:
        return f"the {what} no longer finite in epoch {self.epoch}: begin anew with a lower learning rate (--lr)"

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on besides module, data and settings: tensors and plain values.

        Raises DivergedError where weights are not finite: such a state is not worth keeping.
        """
        self._check_finite()
        return {
            "step": self.step,
            "running": list(self.running),
            "best": self.best and list(self.best),
            "waited": self.waited,
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
            best = state.get("best")
            self.best = None if best is None else (float(best[0]), int(best[1]))
            self.waited = int(state.get("waited", 0))
            self.running = float(loss), int(right)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
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
