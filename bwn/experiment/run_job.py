"""One run of an experiment: started or resumed, trained, then measured."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct

from bwn.data.datasets import Dataset, load_dataset
from bwn.errors import CheckpointError, DataError
from bwn.experiment.jobs import Job
from bwn.experiment.record import Epoch, Record, add_line, read_lines
from bwn.train.device import prepare_process
from bwn.train.history import Epoch as KeptEpoch
from bwn.train.layers import binary_layers
from bwn.train.preprocessing import accuracy
from bwn.train.progress import Progress
from bwn.train.run import Outcome, Run, images_of, resume, start
from bwn.train.schemes import identity
from bwn.train.trainer import Report


class Session(Struct, frozen=True):
    """Part of the time that a run took; a line of a file next to its checkpoint.

    Attributes:
        seconds: Since the line before, or since the run was started or resumed.
    """

    seconds: float


class Stopwatch:
    """The time that a run takes, over all its sessions."""

    def __init__(self, checkpoint: Path) -> None:
        self._path = checkpoint.with_suffix(".jsonl")
        self._last = time.monotonic()

    def save(self) -> None:
        """Keep the time until now."""
        now = time.monotonic()
        add_line(self._path, Session(round(now - self._last, 3)))
        self._last = now

    def total(self) -> float:
        """Seconds that were kept."""
        return round(sum(session.seconds for session in read_lines(self._path, Session)), 3)


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
    watch = Stopwatch(Path(job.checkpoint))
    run = _opened(job)

    def keep_time_and_report(progress: Progress) -> None:
        if progress.epoch_done:
            watch.save()
        report(progress)

    try:
        outcome = run.go(keep_time_and_report)
        return _record(job, run, outcome, watch) if outcome.finished else None
    finally:
        watch.save()


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


def _epochs(run: Run) -> tuple[Epoch, ...]:
    """Epochs 0 to the last. Raises CheckpointError where the run has not kept them."""
    kept = run.trainer.history
    if len(kept) != run.trainer.epoch + 1:
        raise CheckpointError(
            f"{run.checkpointer.output}: lacks some of its epochs; remove it to do the run again"
        )
    return tuple(map(_epoch, kept))


def _epoch(kept: KeptEpoch) -> Epoch:
    """What the run kept of an epoch, with its layers as one."""
    histograms = (layer.histogram for layer in kept.layers)
    counts = [sum(bins) for bins in zip(*histograms, strict=True)]
    distances = sum(layer.distance * sum(layer.histogram) for layer in kept.layers)
    return Epoch(
        epoch=kept.epoch,
        loss=kept.loss,
        running_error=_error(kept.accuracy),
        validation_error=_error(kept.validation),
        distance=distances / sum(counts) if counts else None,
        near=(counts[0] + counts[-1]) / sum(counts) if counts else None,
        histogram=tuple(counts) or None,
    )


def _record(job: Job, run: Run, outcome: Outcome, watch: Stopwatch) -> Record:
    trainer, settings = run.trainer, job.settings
    epochs, best = _epochs(run), outcome.best
    test = _test_images(run)
    train_error = _error(accuracy(trainer.module, trainer.train_data, trainer.preprocess))
    stochastic = job.architecture.scheme == "stochastic"
    real_weights_error = _real_weights_error(run, test) if test and stochastic else None
    watch.save()
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
        seconds=watch.total(),
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
