"""`bwn train` without its command line: from a data set to a checkpoint, stoppable and resumable."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import msgspec
import torch

from bwn.datasets import Resize, load_dataset
from bwn.errors import CheckpointError, DataError, FileError
from bwn.files import check_target
from bwn.graph import Pair
from bwn.train.checkpoint import Description, read_checkpoint, write_checkpoint
from bwn.train.inputs import accuracy, digest, measure
from bwn.train.loop import Progress, Trainer
from bwn.train.models import Architecture, build_seeded
from bwn.train.settings import Settings

SAVE_SECONDS = 15.0
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended. finished: False where it was stopped. note: why there is no test accuracy, if so."""

    description: Description
    finished: bool
    images: int
    parameters: int
    seconds: float
    test_images: int = 0
    note: str | None = None


class Run:
    """A training run tied to a checkpoint file; `start` and `resume` make one."""

    def __init__(self, trainer: Trainer, description: Description, output: str | os.PathLike[str]) -> None:
        self.trainer, self.description, self.output = trainer, description, output
        self._saved = time.monotonic()
        folder = Path(output).absolute().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):  # better now than after an hour of training
            raise FileError(f"'{output}' cannot be written: no folder '{folder}' to write to")
        check_target(output)

    def save(self) -> None:
        """Write the checkpoint as it stands."""
        write_checkpoint(self.output, self.description, self.trainer.module, self.trainer.state())
        self._saved = time.monotonic()

    def go(self, report: Report | None = None) -> Outcome:
        """Train to the end, or until Ctrl-C or SIGTERM; either way a valid checkpoint is left.

        A checkpoint is also written after an epoch, at most every 15 s, so that a crash costs little.
        """
        began = time.monotonic()

        def tell(progress: Progress) -> None:
            if report is not None:
                report(progress)
            if progress.epoch_done and time.monotonic() - self._saved > SAVE_SECONDS:
                self.save()

        with stop_requested() as stop:
            finished = self.trainer.run(tell, stop)
        note, images = None, 0
        if finished and not self.description.finished:
            self.save()  # Ctrl-C while testing must not cost the training
            note, images = self._test()
        self.save()
        module = self.trainer.module
        return Outcome(
            description=self.description,
            finished=finished,
            images=len(self.trainer.train_data.images),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            seconds=time.monotonic() - began,
            test_images=images,
            note=note,
        )

    def _test(self) -> tuple[str | None, int]:
        """Measure on the test images, if the data set has any."""
        prepared = self.description.preprocess
        self.description = msgspec.structs.replace(self.description, finished=True)
        try:
            data = load_dataset(
                self.description.source, "test", size=prepared.size, resize=prepared.resize, color=prepared.color
            )
        except DataError as error:
            return f"not tested: {error}", 0
        found = accuracy(self.trainer.module, data, prepared)
        self.description = msgspec.structs.replace(self.description, test_accuracy=found)
        return None, len(data.images)


def start(
    source: str,
    architecture: Callable[[tuple[int, int, int], int], Architecture],
    settings: Callable[[int], Settings],
    output: str | os.PathLike[str],
    *,
    size: Pair | None = None,
    resize: Resize = "stretch",
) -> Run:
    """A fresh run.

    architecture: from the images' shape (C, H, W) and the number of classes. settings: from the number of images.
    """
    data = load_dataset(source, "train", size=size, resize=resize)
    if len(data.classes) < 2:
        raise DataError(f"data '{source}' has only the class '{data.classes[0]}'; expected two or more")
    preprocess = measure(data, resize)
    network = architecture((1 if data.color == "L" else 3, *data.size), len(data.classes))
    chosen = settings(len(data.images))
    description = Description(
        architecture=network,
        settings=chosen,
        preprocess=preprocess,
        classes=data.classes,
        source=source,
        digest=digest(data),
    )
    trainer = Trainer(build_seeded(network, chosen.seed), data, preprocess, chosen)
    return Run(trainer, description, output)


def resume(
    checkpoint_path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    source: str | None = None,
) -> Run:
    """Go on from a checkpoint, with its settings and its data (from another place, if `source` says so).

    Raises CheckpointError where the checkpoint is refused or the training images are not those it began with.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    description = checkpoint.description
    prepared = description.preprocess
    source = source or description.source
    data = load_dataset(source, "train", size=prepared.size, resize=prepared.resize, color=prepared.color)
    if digest(data) != description.digest:
        raise CheckpointError(f"'{checkpoint_path}' was not trained on the images now in '{source}'")
    trainer = Trainer(checkpoint.module, data, prepared, description.settings)
    trainer.restore(checkpoint.training)
    return Run(trainer, msgspec.structs.replace(description, source=source), output or checkpoint_path)


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag; a second one acts as usual. Gives a function that reads it."""
    asked: list[int] = []  # an Event would wait for ever for its own lock if a second signal came within set()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(asked)  # signals belong to the main thread
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(asked_by: int, _frame: FrameType | None) -> None:
        asked.append(asked_by)
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        for number in before:
            signal.signal(number, ask)
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare_process(threads: int | None) -> None:
    """Let torch use so many threads (None: its own choice), and keep freed memory for the next step.

    glibc gives large arrays back to the system and takes them anew in each step; clearing their pages cost a fifth
    of a step's time.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, 2**30)


def fast_precision() -> Literal["float32", "bfloat16"]:
    """`bfloat16` where this processor has instructions that multiply it, else `float32`."""
    known = torch.cpu.get_capabilities()
    return "bfloat16" if any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "float32"
