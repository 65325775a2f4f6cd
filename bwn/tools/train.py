"""`bwn train` without its command line: from what was asked for to a run, and through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from bwn._types import StrPath
from bwn.data.datasets import Color, Resize, load_dataset, no_progress
from bwn.data.decoding import ReadProgress
from bwn.errors import ArgumentError
from bwn.ir.node import Pair
from bwn.train.checkpoint import read_checkpoint
from bwn.train.checkpointing import Warn
from bwn.train.device import Device, find_device, find_precision, prepare_process
from bwn.train.distributed import process_group, rank
from bwn.train.networks import NETWORKS, default_network
from bwn.train.preprocessing import image_shape
from bwn.train.progress import Progress
from bwn.train.run import Outcome, Run, resume, start
from bwn.train.run_folder import RunFolder
from bwn.train.schemes import find_scheme
from bwn.train.settings import Architecture, settings_for
from bwn.train.tensorboard import open_log, summary_writer
from bwn.train.trainer import Report


@dataclass(frozen=True)
class TrainRequest:
    """What is asked of a run. None, or a missing key: not chosen.

    Attributes:
        source: The data set; see `bwn.data.datasets.load_dataset`.
        output: The checkpoint to write.
        resume: The checkpoint of a run to resume. All below is for new runs only.
        origin: The checkpoint to start from. Network, activations and image size are its own
            where they are not chosen.
        network: Fields of `Architecture`.
        settings: Fields of `Settings`; `precision` may be `auto`, `penalty` `none`.
        size: (H, W) that images are resized to.
        resize: How images of other proportions are brought to that size.
        skip_bad: Whether images that cannot be read are left out, with a warning.
        log: Folder of a TensorBoard log.
        seconds: Time that the epochs are fitted to.
    """

    source: str | None = None
    output: StrPath | None = None
    resume: StrPath | None = None
    origin: StrPath | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: Pair | None = None
    resize: Resize | None = None
    skip_bad: bool = False
    log: StrPath | None = None
    seconds: float | None = None


@contextmanager
def open_run(
    request: TrainRequest,
    *,
    device: str = "auto",
    threads: int | None = None,
    warn: Warn,
    progress: ReadProgress = no_progress,
) -> Iterator[Run]:
    """Start or resume a run, connected to the other processes of its group while it lasts.

    Args:
        request: What is asked for.
        device: Name of a device; see `bwn.train.device.find_device`.
        threads: Threads of torch; None: its own choice.
        warn: Called with one line where the best epoch's file of a resumed run is missing.
        progress: Called with a line of text while images are read, and with "" at the end.

    Raises:
        BwnError: The data, a checkpoint, the device or a setting is refused.
    """
    prepare_process(threads)
    torch_device = find_device(device)
    if request.log is not None:
        summary_writer()  # a missing package is an error before anything long
    with process_group():
        if request.resume is None:
            yield _start(request, torch_device, progress)
        else:
            yield resume(
                request.resume, request.output, request.source, warn, torch_device, progress
            )


def _start(request: TrainRequest, device: Device, progress: ReadProgress) -> Run:
    origin = None if request.origin is None else read_checkpoint(request.origin)
    network: dict[str, Any] = {}
    size, resize, color = request.size, request.resize, None
    if origin is not None:
        architecture, preprocess = origin.description.architecture, origin.description.preprocess
        for name in ("name", "activations", "width", "float_ends"):
            network[name] = getattr(architecture, name)
        size, resize = size or preprocess.size, resize or cast(Resize, preprocess.resize)
        color = cast(Color, preprocess.color)
    network.update({name: value for name, value in request.network.items() if value is not None})
    assert request.source is not None
    assert request.output is not None
    resize = resize or "stretch"
    data = load_dataset(
        request.source,
        "train",
        size=size,
        resize=resize,
        color=color,
        photo_size=NETWORKS[network.get("name", "convnet")].photo_size,
        skip_bad=request.skip_bad,
        progress=progress,
    )
    shape = image_shape(data)
    network.setdefault("name", default_network(shape))
    architecture = Architecture(input_shape=shape, classes=len(data.classes), **network)
    if architecture.scheme == "float" and request.network.get("float_ends") is not None:
        raise ArgumentError("all layers of scheme 'float' are float: its ends cannot be chosen")
    chosen = dict(request.settings)
    chosen["precision"] = find_precision(chosen.get("precision"), device)
    name, scheme = architecture.name, find_scheme(architecture.scheme)
    return start(
        data,
        architecture,
        settings_for(name, scheme, len(data.images), **chosen),
        request.output,
        source=request.source,
        resize=resize,
        skip_bad=request.skip_bad,
        device=device,
        origin=origin,
        seconds=request.seconds,
    )


def train(
    run: Run,
    report: Report,
    warn: Warn,
    log: StrPath | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Train to the end, or until Ctrl-C or SIGTERM.

    Args:
        run: An open run.
        report: Called about twice a second, and at the end of each epoch.
        warn: Called with one line where a checkpoint or the log cannot be written.
        log: Folder of a TensorBoard log; rank 0 writes it.
        folder: Folder that gets the run's settings and log; rank 0 writes them.

    Returns:
        How the run ended.

    Raises:
        BwnError: As `Run.go`, `RunFolder` and `bwn.train.tensorboard.open_log`.
    """
    if rank():
        return run.go(report, warn)
    reports = [report]
    with ExitStack() as stack:
        if log is not None:
            reports.append(stack.enter_context(open_log(log, run.trainer, warn)).write)
        record = None
        if folder is not None:
            trainer = run.trainer
            record = RunFolder(folder, trainer.step // trainer.steps_per_epoch, warn)
            record.describe(run.description)
            reports.append(record.write)

        def report_to_all(progress: Progress) -> None:
            for each in reports:
                each(progress)

        outcome = run.go(report_to_all, warn)
        if record is not None:
            record.describe(run.description)
        return outcome
