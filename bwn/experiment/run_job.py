"""One run of an experiment: trained, or gone on with, then measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from bwn.data.datasets import Dataset
from bwn.errors import CheckpointError, DataError
from bwn.experiment.jobs import Job
from bwn.experiment.record import BINS, NEAR, Epoch, Record, add_line, read_lines
from bwn.train.device import prepare_process
from bwn.train.layers import binary_layers
from bwn.train.penalties import mean_distance
from bwn.train.preprocessing import accuracy
from bwn.train.run import Outcome, Run, images_of, resume, start
from bwn.train.schemes import identity
from bwn.train.trainer import Progress


class Logged(Struct, frozen=True):
    """A line of a run's log. seconds: since the line before, or since the session began. epoch: the one that ended."""

    seconds: float
    epoch: Epoch | None = None


class Log:
    """What is known of each epoch, in a file beside the checkpoint.

    The checkpoint is never ahead of it; after a crash it may be behind, and epochs that are done again count anew.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.path = checkpoint.with_suffix(".jsonl")
        self._last = time.monotonic()

    def add(self, epoch: Epoch | None = None) -> None:
        """Add a line; without an epoch, of the seconds alone."""
        now = time.monotonic()
        add_line(self.path, Logged(round(now - self._last, 3), epoch))
        self._last = now

    def epochs(self, last: int) -> tuple[Epoch, ...]:
        """Epochs 0 to `last`. Raises CheckpointError where one is missing."""
        found = {
            line.epoch.epoch: line.epoch for line in read_lines(self.path, Logged) if line.epoch
        }
        missing = [number for number in range(last + 1) if number not in found]
        if missing:
            raise CheckpointError(
                f"'{self.path}' lacks epoch {missing[0]}: remove its .pt file to do the run again"
            )
        return tuple(found[number] for number in range(last + 1))

    def seconds(self) -> float:
        """Seconds of all sessions."""
        return round(sum(line.seconds for line in read_lines(self.path, Logged)), 3)


def perform(job: Job, tell: Callable[[Progress], None]) -> Record | None:
    """Do the run of a job, or what is left of it; None where Ctrl-C or SIGTERM stopped it.

    tell: called about twice a second. Raises BwnError where the run cannot be done, and leaves its last checkpoint.
    """
    prepare_process(job.threads)
    log = Log(Path(job.checkpoint))
    run = _opened(job)
    if run.trainer.step == 0:
        log.add(Epoch(epoch=0, **_weights(run)))

    def report(progress: Progress) -> None:
        if progress.epoch_done:
            log.add(_epoch(progress, run))
        tell(progress)

    try:
        outcome = run.go(report)
        return _record(job, run, outcome, log) if outcome.finished else None
    finally:
        log.add()


def _opened(job: Job) -> Run:
    if Path(job.checkpoint).exists():
        run = resume(job.checkpoint, source=job.source)
    else:
        run = start(job.source, lambda *_: job.architecture, lambda _: job.settings, job.checkpoint)
    found = run.description
    if (found.digest, found.architecture, found.settings) != (
        job.digest,
        job.architecture,
        job.settings,
    ):
        raise CheckpointError(
            f"'{job.checkpoint}' is of other images or settings than the experiment"
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
    near, counts = 0, np.zeros(BINS, np.int64)
    for weight in weights:
        near += int((1 - weight.abs() <= NEAR).sum())
        counts += weight.histc(BINS, -1, 1).cpu().numpy().astype(np.int64)
    total = sum(weight.numel() for weight in weights)
    return {
        "distance": mean_distance(weights),
        "near": near / total,
        "histogram": tuple(counts.tolist()),
    }


def _record(job: Job, run: Run, outcome: Outcome, log: Log) -> Record:
    trainer, settings = run.trainer, job.settings
    epochs, best = log.epochs(outcome.epochs), outcome.best
    test = _test_images(run)
    train_error = _error(accuracy(trainer.module, trainer.train_data, trainer.preprocess))
    real_weights = (
        _real_weights_error(run, test) if test and job.architecture.scheme == "stochastic" else None
    )
    log.add()
    return Record(
        name=job.name,
        scheme=job.architecture.scheme,
        seed=settings.seed,
        sweep=job.sweep,
        strength=settings.strength if settings.penalty else None,
        ramp=settings.ramp if settings.penalty else None,
        test_error=_error(run.description.test_accuracy),
        test_error_real_weights=real_weights,
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


def _error(right: float | None) -> float | None:
    """Part of the images that are wrong, free of the last digits that the subtraction leaves."""
    return None if right is None else round(1 - right, 9)


def _test_images(run: Run) -> Dataset | None:
    try:
        return images_of(run.description, "test")
    except DataError:
        return None  # a folder without test images; the run's own test has said so


def _real_weights_error(run: Run, test: Dataset) -> float | None:
    """Error on the test images with the real weights in the place of their signs."""
    module = copy.deepcopy(run.trainer.module)
    for layer in binary_layers(module).values():
        layer.scheme = replace(layer.scheme, deploy=identity)
    return _error(accuracy(module, test, run.description.preprocess))
