"""One run of an experiment: started or resumed, trained, then measured."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bwn.data.datasets import Dataset, load_dataset
from bwn.errors import CheckpointError, DataError
from bwn.experiment.jobs import Job
from bwn.experiment.record import NEAR, Epoch, Record, add_line, read_lines
from bwn.train.device import prepare_process
from bwn.train.history import histogram
from bwn.train.layers import binary_layers
from bwn.train.penalties import mean_distance
from bwn.train.preprocessing import accuracy
from bwn.train.progress import Progress
from bwn.train.run import Outcome, Run, images_of, resume, start
from bwn.train.schemes import identity
from bwn.train.trainer import Report


class LogLine(Struct, frozen=True):
    """A line of a run's log.

    Attributes:
        seconds: Since the line before, or since the session began.
        epoch: The epoch that ended, if one did.
    """

    seconds: float
    epoch: Epoch | None = None


class EpochLog:
    """What is known of each epoch, in a file next to the checkpoint.

    The checkpoint is never ahead of the log. After a crash it may be behind; then epochs are done
    again, and their last lines count.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.path = checkpoint.with_suffix(".jsonl")
        self._last = time.monotonic()

    def add(self, epoch: Epoch | None = None) -> None:
        """Add a line; without an epoch, only its seconds."""
        now = time.monotonic()
        add_line(self.path, LogLine(round(now - self._last, 3), epoch))
        self._last = now

    def epochs(self, last: int) -> tuple[Epoch, ...]:
        """Epochs 0 to `last`. Raises CheckpointError where one is missing."""
        lines = read_lines(self.path, LogLine)
        epochs = {line.epoch.epoch: line.epoch for line in lines if line.epoch}
        missing = [number for number in range(last + 1) if number not in epochs]
        if missing:
            raise CheckpointError(
                f"{self.path}: lacks epoch {missing[0]}: remove its .pt file to do the run again"
            )
        return tuple(epochs[number] for number in range(last + 1))

    def seconds(self) -> float:
        """Seconds of all sessions."""
        return round(sum(line.seconds for line in read_lines(self.path, LogLine)), 3)


def perform(job: Job, report: Report) -> Record | None:
    """Do the run of a job, or what is left of it.

    Args:
        job: The run.
        report: Called about twice a second.

    Returns:
        Its record; None where Ctrl-C or SIGTERM stopped it.

    Raises:
        BwnError: The run cannot be done; its last checkpoint stays.
    """
    prepare_process(job.threads)
    log = EpochLog(Path(job.checkpoint))
    run = _opened(job)
    if run.trainer.step == 0:
        log.add(Epoch(epoch=0, **_weights(run)))

    def log_and_report(progress: Progress) -> None:
        if progress.epoch_done:
            log.add(_epoch(progress, run))
        report(progress)

    try:
        outcome = run.go(log_and_report)
        return _record(job, run, outcome, log) if outcome.finished else None
    finally:
        log.add()


def _opened(job: Job) -> Run:
    if Path(job.checkpoint).exists():
        run = resume(job.checkpoint, source=job.source)
    else:
        data = load_dataset(job.source)
        run = start(data, job.architecture, job.settings, job.checkpoint, source=job.source)
    description = run.description
    if (description.digest, description.architecture, description.settings) != (
        job.digest,
        job.architecture,
        job.settings,
    ):
        raise CheckpointError(
            f"{job.checkpoint}: is of other images or settings than the experiment; remove it to "
            "do the run again"
        )
    return run


def _epoch(progress: Progress, run: Run) -> Epoch:
    return Epoch(
        epoch=progress.epoch,
        loss=progress.loss,
        running_error=_error(progress.accuracy),
        validation_error=_error(progress.validation),
        **_weights(run),
    )


def _weights(run: Run) -> dict[str, Any]:
    """distance, near and histogram of an Epoch, as the weights are now."""
    weights = [layer.weight.detach() for layer in binary_layers(run.trainer.module).values()]
    if not weights:
        return {}
    near = sum(int((1 - weight.abs() <= NEAR).sum()) for weight in weights)
    return {
        "distance": mean_distance(weights),
        "near": near / sum(weight.numel() for weight in weights),
        "histogram": tuple(map(sum, zip(*map(histogram, weights), strict=True))),
    }


def _record(job: Job, run: Run, outcome: Outcome, log: EpochLog) -> Record:
    trainer, settings = run.trainer, job.settings
    epochs, best = log.epochs(outcome.epochs), outcome.best
    test = _test_images(run)
    train_error = _error(accuracy(trainer.module, trainer.train_data, trainer.preprocess))
    stochastic = job.architecture.scheme == "stochastic"
    real_weights_error = _real_weights_error(run, test) if test and stochastic else None
    log.add()
    return Record(
        name=job.name,
        scheme=job.architecture.scheme,
        seed=settings.seed,
        sweep=job.sweep,
        strength=settings.strength if settings.penalty else None,
        ramp=settings.ramp if settings.penalty else None,
        test_error=_error(run.description.test_accuracy),
        test_error_real_weights=real_weights_error,
        validation_error=epochs[-1].validation_error,
        train_error=train_error,
        distance=epochs[-1].distance,
        near=epochs[-1].near,
        best_epoch=best.best.epoch if best and best.best else None,
        best_test_error=_error(best.test_accuracy) if best else None,
        source=Path(job.source).name,
        digest=job.digest,
        train_images=len(trainer.train_data.images),
        validation_images=len(trainer.held_out.images),
        test_images=len(test.images) if test else 0,
        architecture=msgspec.structs.asdict(job.architecture),
        settings=msgspec.structs.asdict(settings),
        versions={name: version(name) for name in ("bwn", "torch", "numpy")},
        threads=job.threads,
        seconds=log.seconds(),
        epochs=epochs,
    )


def _error(accuracy: float | None) -> float | None:
    """1 - accuracy, without the last digits that the subtraction leaves."""
    return None if accuracy is None else round(1 - accuracy, 9)


def _test_images(run: Run) -> Dataset | None:
    try:
        return images_of(run.description, "test", describe=False)
    except DataError:
        return None  # a folder without test images; the run's own test has said so


def _real_weights_error(run: Run, test: Dataset) -> float | None:
    """Error on the test images with the real weights instead of their signs."""
    module = copy.deepcopy(run.trainer.module)
    for layer in binary_layers(module).values():
        layer.scheme = replace(layer.scheme, deploy=identity)
    return _error(accuracy(module, test, run.description.preprocess))
