"""The training loop: Adam on a module, reproducible from its seed, and resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bwn.data.datasets import Dataset
from bwn.errors import ArgumentError, CheckpointError, DivergedError
from bwn.ir.model_spec import Preprocess
from bwn.train import distributed
from bwn.train.augment import Augmentation
from bwn.train.checkpoint import portable
from bwn.train.device import seed_generators
from bwn.train.history import Epoch, decode_history, encode_history, layer_weights
from bwn.train.layers import binary_layers
from bwn.train.losses import LOSSES, image_weights
from bwn.train.optimizer import Adam
from bwn.train.penalties import mean_distance
from bwn.train.preprocessing import accuracy, as_input, device_of, measure, split
from bwn.train.progress import Progress
from bwn.train.settings import Settings
from bwn.train.sources import as_dataset

REPORT_SECONDS = 0.5

Report = Callable[[Progress], None]


class Trainer:
    """One training run of a module on a data set.

    It computes on the device of the module's parameters. Steps depend on nothing but the settings,
    the data and the state: a run that is interrupted and resumed from `state()` ends with the same
    bits (on one machine, with one number of threads and processes). All draws of a step come from
    a seed of its own, so a state holds no generator and suits any device. Within a step the host
    never waits for the device.

    Args:
        module: (N, C, H, W) float32 to scores (N, classes); trained in place.
        data: The training images; some are held out as `settings.validation` says.
        preprocess: How the images are prepared.
        settings: How to train.

    Raises:
        BwnError: There are too few images; patience needs held-out images, and there are none; or
            the class weights do not fit the classes.

    Example:
        >>> from bwn.data.datasets import load_dataset
        >>> from bwn.train import Architecture, Settings, Trainer, build, measure
        >>> data = load_dataset("mnist-sample")
        >>> net = build(Architecture(name="mlp", input_shape=(1, 28, 28), classes=10, width=16))
        >>> trainer = Trainer(net, data, measure(data), Settings(epochs=2))
        >>> trainer.run(stop=lambda: trainer.step == 3)  # stopped before the end
        False
    """

    def __init__(
        self, module: nn.Module, data: Dataset, preprocess: Preprocess, settings: Settings
    ) -> None:
        """Prepare the first step; the arguments are described at the class."""
        self.module, self.preprocess, self.settings = module, preprocess, settings
        self.device = device_of(module)
        self.step = 0
        self.best: tuple[float, int] | None = None  # validation accuracy and epoch
        self.stalled_epochs = 0  # since validation last rose
        self.train_data, self.held_out = split(data, settings.validation, settings.seed)
        if settings.patience is not None and not len(self.held_out.images):
            raise ArgumentError(
                f"patience needs held-out images, and a validation fraction of "
                f"{settings.validation:g} holds out none: choose a larger one, such as 0.1"
            )
        self._images = torch.from_numpy(self.train_data.images).to(self.device)
        self._labels = torch.from_numpy(self.train_data.labels).to(self.device)
        self.batch = min(settings.batch_size, len(self._images))
        distributed.prepare(module, self.batch)
        # The last few images of a shuffle, too few for a batch, are left out of that epoch.
        self.steps_per_epoch = len(self._images) // self.batch
        self.steps = self.steps_per_epoch * settings.epochs
        self.optimizer = Adam(module, settings, self.steps)
        self._augmentation = Augmentation(
            settings, len(self._images), data.size, self._seed(0, 2), self.device
        )
        self._binary = binary_layers(module)
        self.history = [Epoch(epoch=0, layers=layer_weights(self._binary))]
        weights = image_weights(settings.class_weights, self.train_data)
        self._class_weights = None if weights is None else weights.to(self.device)
        self._flips: float | None = None
        # Sum of the batches' losses and number of right answers in this epoch; MPS has no float64.
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._totals = torch.zeros(2, dtype=dtype, device=self.device)

    def run(self, report: Report | None = None, stop: Callable[[], bool] | None = None) -> bool:
        """Train to the end, or until `stop()` is true between two steps.

        Args:
            report: Called about twice a second, and at the end of each epoch.
            stop: Called before each step.

        Returns:
            Whether the end was reached.

        Raises:
            DivergedError: At the next report, where the loss or the weights became NaN or infinite.
        """
        start, first, last_report = time.monotonic(), self.step, 0.0
        self.module.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            order = self._order()
            while not self.finished:
                due = time.monotonic() - last_report > REPORT_SECONDS
                stopped, due = distributed.any_process(stop is not None and stop(), due)
                if stopped:
                    break
                if self.step % self.steps_per_epoch == 0:
                    self._totals.zero_()
                    order = self._order()
                position = self.step % self.steps_per_epoch * self.batch
                done = (self.step + 1) % self.steps_per_epoch == 0
                signs = self._signs() if done else []
                self._train_on(order[position : position + self.batch])
                self.step += 1
                self._flips = self._flipped(signs)
                if done or due:
                    last_report = time.monotonic()
                    self._report(done, last_report - start, first, report)
        self.module.eval()
        return self.finished

    @property
    def early(self) -> bool:
        """Whether `patience` ends the run before its last step."""
        patience = self.settings.patience
        return self.step < self.steps and patience is not None and self.stalled_epochs >= patience

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
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self._images), generator=generator).to(self.device)

    def _seed(self, *numbers: int) -> int:
        sequence = np.random.SeedSequence((self.settings.seed, *numbers))
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)

    def _train_on(self, index: Tensor) -> None:
        """One step, on the images of these indices."""
        seed_generators(self.device, self._seed(self.step, 1))
        epoch = self.step // self.steps_per_epoch
        images = self._augmentation.images(self._images[index], index, epoch)
        holes = self._augmentation.holes(index)
        labels = distributed.shard(self._labels[index])
        mixed = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            x = as_input(distributed.shard(images), self.preprocess)
            x = x if holes is None else x.masked_fill_(distributed.shard(holes), 0)
            scores = self.module(x)
        loss = LOSSES[self.settings.loss](
            scores.float(), labels, self._class_weights, self.settings.label_smoothing
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        right = (scores.argmax(1) == labels).sum().to(loss.dtype) * distributed.size()
        totals = torch.stack([loss.detach(), right])
        distributed.average([*self.optimizer.gradients(), totals])
        self.optimizer.step(self.step)
        self._totals += totals

    def _signs(self) -> list[Tensor]:
        """Where the real weights of the binary layers are 0 or more."""
        return [layer.weight.detach() >= 0 for layer in self._binary.values()]

    def _flipped(self, signs: list[Tensor]) -> float | None:
        """Share of the weights whose signs are others now; None for no weights."""
        if not signs:
            return None
        flips = sum(int((a != b).sum()) for a, b in zip(signs, self._signs(), strict=True))
        return flips / sum(sign.numel() for sign in signs)

    def _report(self, done: bool, seconds: float, first: int, report: Report | None) -> None:
        """Check and report. done: the epoch is. first: the step at which this session began."""
        batches = (self.step - 1) % self.steps_per_epoch + 1
        loss, right = self._totals.tolist()
        loss /= batches
        if not np.isfinite(loss):
            raise DivergedError(self._diverged("loss"))
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
            distance=mean_distance(layer.weight for layer in self._binary.values())
            if self._binary
            else None,
            learning_rate=self.settings.learning_rate_at(part),
            strength=self.settings.lambda_at(part),
            seconds=seconds,
            left=seconds / (self.step - first) * (self.steps - self.step),
            best=self.best and self.best[1],
            images_per_second=(self.step - first) * self.batch / max(seconds, 1e-9),
            flips=self._flips,
        )
        if done:
            self._keep(progress)
        if report is not None:
            report(progress)

    def _keep(self, progress: Progress) -> None:
        """Add an epoch that has ended to the history."""
        self.history.append(
            Epoch(
                epoch=progress.epoch,
                loss=progress.loss,
                accuracy=progress.accuracy,
                validation=progress.validation,
                flips=progress.flips,
                layers=layer_weights(self._binary),
            )
        )

    def _validate(self) -> float | None:
        """Accuracy on the held-out images, if there are any; notes whether it is the best one."""
        if not len(self.held_out.images):
            return None
        value = distributed.from_rank_0(
            lambda: accuracy(self.module, self.held_out, self.preprocess)
        )
        rose = self.best is None or value > self.best[0]
        self.stalled_epochs = 0 if rose else self.stalled_epochs + 1
        if self.best is None or value >= self.best[0]:
            self.best = value, self.epoch
        return value

    def _check_finite(self) -> None:
        """Raise DivergedError for NaN or infinite weights or moments.

        The sign of a NaN weight is finite, so a finite loss does not prove that the weights are.
        """
        moments = self.optimizer.first, self.optimizer.second
        for tensor in (*self.module.state_dict().values(), *moments[0], *moments[1]):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise DivergedError(self._diverged("weights"))

    def _diverged(self, what: str) -> str:
        precision = " or with precision float32" if self.settings.precision != "float32" else ""
        return (
            f"the {what} became NaN or infinite in epoch {self.epoch}; "
            f"restart with a lower learning rate{precision}"
        )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on besides module, data and settings.

        Returns:
            Tensors and plain values, for `restore`.

        Raises:
            DivergedError: Weights are NaN or infinite: such a state is not worth keeping.
        """
        self._check_finite()
        loss, right = self._totals.tolist()
        pairs = zip(self.optimizer.first, self.optimizer.second, strict=True)
        return {
            "step": self.step,
            "running": [loss, round(right)],
            "best": self.best and list(self.best),
            "waited": self.stalled_epochs,
            "moments": [[portable(moment) for moment in pair] for pair in pairs],
            "history": encode_history(self.history),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state()`.

        Args:
            state: The state, of a run with the same module, data and settings.

        Raises:
            CheckpointError: It does not fit.
        """
        try:
            step, (loss, right) = int(state["step"]), state["running"]
            if not 0 <= step <= self.steps:
                raise ValueError(f"step {step} of {self.steps}")
            self.optimizer.load(state["moments"])
            best = state.get("best")
            self.best = None if best is None else (float(best[0]), int(best[1]))
            self.stalled_epochs = int(state.get("waited", 0))
            self.history = decode_history(state.get("history", "[]"))  # older ones have none
            totals = torch.tensor([float(loss), int(right)], dtype=self._totals.dtype)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise CheckpointError(
                f"the training state does not fit its network: {reason}"
            ) from error
        self._totals.copy_(totals)
        self.step = step


def fit(
    module: nn.Module,
    data: Any,
    settings: Settings | None = None,
    *,
    report: Report | None = None,
    on_epoch: Callable[[Progress], bool | None] | None = None,
) -> Preprocess:
    """Train a module of your own on a data set, to the end.

    The module is trained in place, on the device of its parameters, and left in evaluation mode.
    `settings.validation` of the images are held out to measure accuracy; nothing is saved, and
    weights are those of the last step, not of the best epoch. In a process group of
    torch.distributed all its processes make one run (see `bwn.train.distributed`).

    Args:
        module: (N, C, H, W) float32 to scores (N, classes).
        data: A `bwn.data.datasets.Dataset`; or a torch Dataset, a DataLoader around one or a data
            set of Hugging Face, as `as_dataset` reads them, whole, into memory. Shuffles, batches
            and augmentation are bwn's own, so that a run is reproducible.
        settings: How to train; None: `Settings()`, which has no penalty.
        report: Called about twice a second, and at the end of each epoch.
        on_epoch: Called at the end of each epoch, with its number, loss, accuracy, learning rate
            and seconds; training ends where it returns True. An exception that it raises ends
            training too, and is passed on.

    Returns:
        The preprocessing that turned pixels into the module's input, measured on all images of
        `data`. Give it to `accuracy`, and to `export_onnx`, so that `bwn infer` prepares images
        the same way.

    Raises:
        BwnError: The images are too few or all of one color, or settings do not fit them.
        DataError: `data` is of another form; see `as_dataset`.
        DivergedError: The loss or the weights became NaN or infinite.

    Example:
        >>> from torch import nn
        >>> from bwn.data.datasets import load_dataset
        >>> from bwn.train import BinaryLinear, Settings, accuracy, fit
        >>> net = nn.Sequential(nn.Flatten(), BinaryLinear(28 * 28, 10), nn.BatchNorm1d(10))
        >>> preprocess = fit(net, load_dataset("mnist-sample"), Settings(epochs=2))
        >>> accuracy(net, load_dataset("mnist-sample", "test"), preprocess) > 0.5
        True
    """
    images = as_dataset(data)
    preprocess = measure(images)
    stopped = False

    def hook(progress: Progress) -> None:
        nonlocal stopped
        if report is not None:
            report(progress)
        if progress.epoch_done and on_epoch is not None:
            stopped = on_epoch(progress) is True

    Trainer(module, images, preprocess, settings or Settings()).run(hook, lambda: stopped)
    return preprocess
