"""The training loop: Adam on a module, reproducible from its seed, and resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bwn.data.datasets import Dataset
from bwn.errors import BwnError, CheckpointError, DivergedError
from bwn.ir.model_spec import Preprocess
from bwn.train import distributed
from bwn.train.checkpoint import portable
from bwn.train.device import seed_draws
from bwn.train.layers import binary_layers
from bwn.train.losses import LOSSES, image_weights
from bwn.train.optimizer import Adam
from bwn.train.penalties import mean_distance
from bwn.train.preprocessing import accuracy, as_input, augmented, device_of, measure, split
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

    It computes where the module's parameters are. Steps depend on nothing but the settings, the data and the state, so
    a run that is interrupted and resumed from `state()` ends with the same bits (on one machine, its processor, with
    one number of threads and processes). All draws of a step come from a seed of its own, so no state of a generator
    is kept, and the state is that of any device. Within a step the host never waits for the device.
    """

    def __init__(
        self, module: nn.Module, data: Dataset, preprocess: Preprocess, settings: Settings
    ) -> None:
        self.module, self.preprocess, self.settings = module, preprocess, settings
        self.device = device_of(module)
        self.step = 0
        self.best: tuple[float, int] | None = None  # validation accuracy and epoch
        self.waited = 0  # epochs since validation last rose
        self.train_data, self.held_out = split(data, settings.validation, settings.seed)
        if settings.patience is not None and not len(self.held_out.images):
            raise BwnError(
                "patience counts epochs without a better accuracy on held-out images, and there are none"
            )
        self._images = torch.from_numpy(self.train_data.images).to(self.device)
        self._labels = torch.from_numpy(self.train_data.labels).to(self.device)
        self.batch = min(settings.batch_size, len(self._images))
        distributed.prepare(module, self.batch)
        self.steps_per_epoch = (
            len(self._images) // self.batch
        )  # the shuffle's few last images wait for the next epoch
        self.steps = self.steps_per_epoch * settings.epochs
        self.optimizer = Adam(module, settings, self.steps)
        self._binary = list(binary_layers(module).values())
        weights = image_weights(settings.class_weights, self.train_data)
        self._class_weights = None if weights is None else weights.to(self.device)
        # Sum of the batches' losses and number of right answers in this epoch; MPS has no float64.
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        self._running = torch.zeros(2, dtype=kind, device=self.device)

    def run(
        self,
        report: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Train to the end, or until `stop()` holds between two steps. Returns whether the end was reached.

        Raises DivergedError, at the next report, where the loss or the weights are no longer finite.
        """
        began, first, told = time.monotonic(), self.step, 0.0
        self.module.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            order = self._order()
            while not self.finished:
                due = time.monotonic() - told > REPORT_SECONDS
                stopped, due = distributed.on_any(stop is not None and stop(), due)
                if stopped:
                    break
                if self.step % self.steps_per_epoch == 0:
                    self._running.zero_()
                    order = self._order()
                position = self.step % self.steps_per_epoch * self.batch
                self._train_on(order[position : position + self.batch])
                self.step += 1
                done = self.step % self.steps_per_epoch == 0
                if done or due:
                    told = time.monotonic()
                    self._report(done, told - began, first, report)
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
        seed = self._seed(self.step // self.steps_per_epoch)
        return torch.randperm(len(self._images), generator=torch.Generator().manual_seed(seed)).to(
            self.device
        )

    def _seed(self, *numbers: int) -> int:
        return int(
            np.random.SeedSequence((self.settings.seed, *numbers)).generate_state(1, np.uint64)[0]
            >> 1
        )

    def _train_on(self, index: Tensor) -> None:
        seed_draws(self.device, self._seed(self.step, 1))
        images = distributed.own_part(augmented(self._images[index], self.settings.augment))
        labels = distributed.own_part(self._labels[index])
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"
        ):
            scores = self.module(as_input(images, self.preprocess))
        loss = LOSSES[self.settings.loss](scores.float(), labels, self._class_weights)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        seen = torch.stack(
            [loss.detach(), (scores.argmax(1) == labels).sum().to(loss.dtype) * distributed.size()]
        )
        distributed.average([*self.optimizer.gradients(), seen])
        self.optimizer.step(self.step)
        self._running += seen

    def _report(
        self, done: bool, seconds: float, first: int, report: Callable[[Progress], None] | None
    ) -> None:
        batches = (self.step - 1) % self.steps_per_epoch + 1
        loss, right = self._running.tolist()
        loss /= batches
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
            accuracy=round(right) / (batches * self.batch),
            validation=validation,
            distance=mean_distance(layer.weight for layer in self._binary)
            if self._binary
            else None,
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
        found = distributed.from_first(
            lambda: accuracy(self.module, self.held_out, self.preprocess)
        )
        self.waited = 0 if self.best is None or found > self.best[0] else self.waited + 1
        if self.best is None or found >= self.best[0]:
            self.best = found, self.epoch
        return found

    def _check_finite(self) -> None:
        """Raise DivergedError for weights or moments that are not finite: signs of NaN are finite, and hide them."""
        for tensor in (
            *self.module.state_dict().values(),
            *self.optimizer.first,
            *self.optimizer.second,
        ):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise DivergedError(self._diverged("weights are"))

    def _diverged(self, what: str) -> str:
        return f"the {what} no longer finite in epoch {self.epoch}: begin anew with a lower learning rate (--lr)"

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on besides module, data and settings: tensors and plain values.

        Raises DivergedError where weights are not finite: such a state is not worth keeping.
        """
        self._check_finite()
        loss, right = self._running.tolist()
        pairs = zip(self.optimizer.first, self.optimizer.second, strict=True)
        return {
            "step": self.step,
            "running": [loss, round(right)],
            "best": self.best and list(self.best),
            "waited": self.waited,
            "moments": [[portable(moment) for moment in pair] for pair in pairs],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`. Raises CheckpointError where it does not fit."""
        try:
            step, (loss, right) = int(state["step"]), state["running"]
            if not 0 <= step <= self.steps:
                raise ValueError(f"step {step} of {self.steps}")
            self.optimizer.load(state["moments"])
            best = state.get("best")
            self.best = None if best is None else (float(best[0]), int(best[1]))
            self.waited = int(state.get("waited", 0))
            running = torch.tensor([float(loss), int(right)], dtype=self._running.dtype)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint's training state does not fit its network: {error}"
            ) from error
        self._running.copy_(running)
        self.step = step


def fit(
    module: nn.Module,
    data: Dataset,
    settings: Settings | None = None,
    *,
    report: Callable[[Progress], None] | None = None,
) -> Preprocess:
    """Train any module of one's own on a data set, to the end.

    module: (N, C, H, W) float32 to scores (N, classes), on any device. report: called about twice a second.
    In a process group of torch.distributed all its processes make one run of it (see `bwn.train.distributed`).
    Returns the preparation of images that was used; give it to `export_onnx`.
    """
    preprocess = measure(data)
    Trainer(module, data, preprocess, settings or Settings()).run(report)
    return preprocess
