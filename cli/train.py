"""`bwn train`: a data set to a checkpoint."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bwn._text import one_line
from bwn.cli.main import nothing_written
from bwn.cli.output import command_line, show_progress, stopped, warn
from bwn.cli.params import Duration, FilePath, OutputPath, Size, run_options, skip_bad_option
from bwn.cli.settings_options import chosen, field_options
from bwn.cli.train_report import EpochPrinter, show_end, show_start
from bwn.data.datasets import check_source
from bwn.errors import BwnError
from bwn.train import require_torch
from bwn.train.run_folder import REPORT, RUN_FILE, holds_run, make_folder
from bwn.train.settings import Architecture, Settings

if TYPE_CHECKING:
    from bwn.train.run import Run

WITH_RESUME = {"resume", "output", "data", "device", "log", "threads", "as_json", "verbose"}
DEFAULT_OUTPUT = Path("model.pt")


class Device(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if it is one."""
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", str(value), re.ASCII):
            self.fail(f"{value!r} is not auto, cpu, cuda, cuda:N (N from 0) or mps.", param, ctx)
        return str(value)


@click.command(epilog="Example: bwn train --data mnist-sample -o model.pt")
@click.argument("rest", nargs=-1, metavar="", type=FilePath())
@click.option(
    "--data",
    type=FilePath(),
    metavar="SOURCE",
    help="A folder of class folders of images, a folder of IDX files (MNIST), "
    "a folder of CIFAR-10 binary files, or `mnist-sample`, which comes with bwn.",
)
@click.option(
    "-o",
    "--output",
    type=OutputPath(".pt"),
    metavar="FILE|DIR/",
    help="Checkpoint of the last state to write. The epoch with the best held-out accuracy is "
    "saved next to it: model.best.pt for model.pt. A name that ends in / is a folder for the "
    "whole run: both checkpoints, settings.json, log.jsonl and, with matplotlib, report.html.  "
    "[default: model.pt; refused if it exists]",
)
@field_options(Architecture)
@click.option(
    "--size",
    type=Size(),
    metavar="H[xW]",
    help="Resize images.  [default: as stored; photos: to a square that suits the network]",
)
@click.option(
    "--resize",
    type=click.Choice(["stretch", "crop"]),
    help="How to fit images of other proportions to the size: stretch, or crop the center.  "
    "[default: stretch]",
)
@skip_bad_option
@field_options(Settings)
@click.option(
    "--time",
    "seconds",
    type=Duration(),
    metavar="TIME",
    help="Train for about this time, such as 30m, 1h30m or 90s, in place of --epochs: the first "
    "steps are measured, then the number of epochs is fixed, and all schedules are fitted to it.",
)
@click.option(
    "--device",
    type=Device(),
    default="auto",
    metavar="auto|cpu|cuda[:N]|mps",
    show_default=True,
    help="Where to compute; auto = a CUDA GPU if there is one. All images are held there. A "
    "checkpoint can be resumed on any device.",
)
@click.option(
    "--from",
    "origin",
    type=FilePath(path_type=Path),
    metavar="CHECKPOINT",
    help="Start from the weights of a trained checkpoint, such as a float one, instead of random "
    "ones. Network, activations and image size are taken from the checkpoint, unless you set "
    "them.",
)
@click.option(
    "--resume",
    type=FilePath(path_type=Path),
    metavar="CHECKPOINT",
    help="Checkpoint or folder of an interrupted run to continue. The result is the same as "
    "without the interruption.",
)
@click.option(
    "--log",
    type=FilePath(),
    metavar="DIR",
    help="Write curves and weight histograms of each epoch there, for TensorBoard; needs "
    "the package tensorboard.",
)
@run_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Train an image classifier with one-bit weights.

    Ctrl-C stops and leaves a checkpoint that --resume continues from. If the loss or the weights
    become NaN or infinite, training stops with exit code 1, and the checkpoint holds the last good
    state.

    On several GPUs or machines: torchrun --nproc-per-node 4 $(which bwn) train ... The processes
    share every batch and train the same network as a single process.
    """
    _check_usage(ctx, options)
    # Threads of torch that spin while they wait make training several times slower on a busy
    # machine. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    as_json = options["as_json"]
    with ExitStack() as stack:
        with nothing_written():
            run = stack.enter_context(_open(options))
        show_start(run, as_json)
        epochs = EpochPrinter(as_json)
        from bwn.tools.train import train

        try:
            folder = _folder(options["output"], Path(run.checkpointer.output))
            outcome = train(run, epochs.show, warn, options["log"], folder)
        finally:
            show_progress("")
        epochs.finish()
        show_end(run, outcome, as_json)
        if folder is not None and outcome.finished and not outcome.already_complete:
            _write_report(folder, run, outcome.test_images, as_json)
    if not outcome.finished:
        raise stopped()


def _open(options: dict[str, Any]) -> AbstractContextManager[Run]:
    """Start or resume the run of these options."""
    if options["data"] is not None:
        check_source(options["data"])  # before anything about the output
    require_torch()
    resume = options["resume"]
    output = options["output"] and _file(options["output"])
    output = output if resume else _output(output)
    from bwn.tools.train import TrainRequest, open_run

    request = TrainRequest(
        source=options["data"],
        output=output,
        resume=resume / RUN_FILE if resume and resume.is_dir() else resume,
        origin=options["origin"],
        network=chosen(Architecture, options),
        settings=chosen(Settings, options),
        size=options["size"],
        resize=options["resize"],
        skip_bad=options["skip_bad"],
        log=options["log"],
        seconds=options["seconds"],
    )
    return open_run(
        request,
        device=options["device"],
        threads=options["threads"],
        warn=warn,
        progress=show_progress,
    )


def _is_folder(name: str) -> bool:
    return name.endswith(("/", os.sep))


def _file(name: str) -> Path:
    """The checkpoint that a name means: model.pt in a folder, which is created."""
    if not _is_folder(name):
        return Path(name)
    make_folder(Path(name))  # or an error, if it holds other things
    return Path(name) / RUN_FILE


def _folder(output: str | None, checkpoint: Path) -> Path | None:
    """The folder of the whole run; None if only checkpoints are written."""
    whole = holds_run(checkpoint) if output is None else _is_folder(output)
    return checkpoint.parent if whole else None


def _write_report(folder: Path, run: Run, test_images: int, as_json: bool) -> None:
    """Write the report of a run that has ended; a failure is only a warning."""
    from bwn.reporting.create import report
    from bwn.train.distributed import rank

    if rank():
        return
    description = run.description
    data = description.source if test_images else None
    try:
        report(folder, folder / REPORT, data=data, skip_bad=True, progress=show_progress)
    except BwnError as error:
        warn(f"no report: {error}")
        return
    click.echo(f"Wrote {folder / REPORT}", err=as_json)


def _check_usage(ctx: click.Context, options: dict[str, Any]) -> None:
    if rest := options["rest"]:
        named = options["data"] is not None or options["resume"] is not None
        meant = "" if named else f". Did you mean {command_line('--data', rest[0])}?"
        raise click.UsageError(f"Got an unexpected argument: {one_line(rest[0])}{meant}")
    if options["resume"] is None and options["data"] is None:
        raise click.UsageError(
            "Missing option '--data' (or '--resume'). To try: --data mnist-sample"
        )
    if options["seconds"] is not None and options["epochs"] is not None:
        raise click.UsageError("--time and --epochs both say how long to train; give one.")
    if options["resume"] is not None:
        for parameter in ctx.command.params:
            name = str(parameter.name)
            is_default = ctx.get_parameter_source(name) in (None, ParameterSource.DEFAULT)
            if not is_default and name not in WITH_RESUME:
                raise click.UsageError(
                    "--resume continues with the settings of its run; leave out the option "
                    f"{parameter.opts[0]}."
                )


def _output(path: Path | None) -> Path:
    """Where a new run is saved. The default name never replaces a file."""
    from bwn.train.checkpointing import best_path

    for taken in (DEFAULT_OUTPUT, best_path(DEFAULT_OUTPUT)):
        if path is None and taken.exists():
            raise click.UsageError(
                f"{taken} exists: --resume {DEFAULT_OUTPUT} continues an interrupted run, "
                f"-o {DEFAULT_OUTPUT} replaces it."
            )
    return path or DEFAULT_OUTPUT
