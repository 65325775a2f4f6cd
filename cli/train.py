"""`bwn train`: a data set to a checkpoint."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bwn.cli.output import json_text, show_progress
from bwn.cli.params import FilePath, json_option, threads_option, verbose_option
from bwn.cli.settings_options import MODELS, SCHEMES, settings_options
from bwn.cli.train_text import heading, show_epoch, summary, text, warn

if TYPE_CHECKING:
    from bwn.train.checkpoint import Description
    from bwn.train.run import Run
    from bwn.train.trainer import Progress

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
@click.option(
    "--data",
    type=FilePath(),
    metavar="SOURCE",
    help="A folder of class folders of images, a folder of IDX files (MNIST), "
    "a folder of CIFAR-10 binary files, or `mnist-sample`, which is shipped.",
)
@click.option(
    "-o",
    "--output",
    type=FilePath(path_type=Path),
    help="Checkpoint to write: the last state. The epoch that is best on the held-out images is kept beside it, for "
    "model.pt in model.best.pt.  [default: model.pt, if there is none]",
)
@click.option(
    "--model", type=click.Choice(MODELS), default="mlp", show_default=True, help="Network."
)
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    default="margin",
    show_default=True,
    help="How weights become one bit; `margin` also draws them to +-1, `float` leaves them real.",
)
@click.option(
    "--activations",
    type=click.Choice(["relu", "int8", "sign"]),
    default="relu",
    show_default=True,
    help="What layers read: real values; rounded to 8 bits, in training as packed; or one bit each.",
)
@click.option(
    "--float-ends/--binary-ends",
    default=None,
    help="Keep the first and the last layer float.  [default: in residual networks]",
)
@click.option(
    "--width",
    type=click.IntRange(1, 8192),
    help="Width of the first hidden layer.  [default: the network's]",
)
@click.option(
    "--size",
    metavar="H[xW]",
    help="Resize images.  [default: as stored; photographs: as the first one]",
)
@click.option(
    "--resize",
    type=click.Choice(["stretch", "crop"]),
    default="stretch",
    show_default=True,
    help="How images of other proportions are brought to the size.",
)
@settings_options()
@click.option(
    "--device",
    type=Device(),
    default="auto",
    metavar="auto|cpu|cuda[:N]|mps",
    show_default=True,
    help="Where to compute; auto: on a CUDA GPU if there is one. The images are held there. A checkpoint resumes on "
    "any device.",
)
@click.option(
    "--from",
    "begin",
    type=FilePath(path_type=Path),
    metavar="CHECKPOINT",
    help="Start from the weights of a trained checkpoint, such as a float one, not from random ones. Network, "
    "activations and image size are then its own where they are not given.",
)
@click.option(
    "--resume",
    type=FilePath(path_type=Path),
    metavar="CHECKPOINT",
    help="Go on with an interrupted run, exactly as if it had not stopped.",
)
@click.option(
    "--log",
    type=FilePath(),
    metavar="DIR",
    help="Write curves and weight histograms for TensorBoard there, an epoch at a time; needs bwn[tensorboard].",
)
@threads_option
@json_option
@verbose_option
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Train an image classifier with one-bit weights.

    Ctrl-C stops and leaves a checkpoint from which --resume goes on. Loss or weights that are no longer finite numbers
    end the run with exit code 1; the checkpoint then holds the last good state.

    On several GPUs, or machines: torchrun --nproc-per-node 4 $(which bwn) train ... The processes share every batch,
    and make the network that one process would make.
    """
    # Threads of torch that spin while they wait make training several times slower on a busy machine. Read at import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from bwn.train.device import find_device, prepare_process
    from bwn.train.distributed import joined
    from bwn.train.run import resume

    prepare_process(options["threads"])
    options["device"] = find_device(options["device"])
    given = {
        name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if options["resume"] is not None:
        if given - WITH_RESUME:
            name = next(
                option.opts[0]
                for option in ctx.command.params
                if option.name in given - WITH_RESUME
            )
            raise click.UsageError(
                f"--resume goes on with the settings of its run; leave out the option {name}."
            )
    elif options["data"] is None:
        raise click.UsageError(
            "Missing option '--data' (or '--resume'). To try: --data mnist-sample"
        )
    with joined():
        if options["resume"] is not None:
            run = resume(
                options["resume"], options["output"], options["data"], warn, options["device"]
            )
        else:
            run = _fresh(options, given)
        _train(run, options["log"], options["as_json"])


def _fresh(options: dict[str, Any], given: set[str]) -> Run:
    from bwn.train.architectures import Architecture
    from bwn.train.checkpoint import read_checkpoint
    from bwn.train.checkpointing import best_path
    from bwn.train.device import fast_precision
    from bwn.train.distributed import rank
    from bwn.train.run import start
    from bwn.train.schemes import find_scheme
    from bwn.train.settings import Settings, settings_for
    from bwn.train.warm_start import keeps_last_layer

    begin = read_checkpoint(options["begin"]) if options["begin"] else None
    if begin is not None:
        own = _own_options(begin.description)
        options = {**options, **{name: value for name, value in own.items() if name not in given}}
    chosen = {name: options[name] for name in Settings.__struct_fields__}
    if chosen["precision"] == "auto":
        chosen["precision"] = fast_precision(options["device"])
    names = ("scheme", "activations", "width", "float_ends")

    def architecture(shape: tuple[int, int, int], classes: int) -> Architecture:
        kept = {name: options[name] for name in names}
        return Architecture(name=options["model"], input_shape=shape, classes=classes, **kept)

    def settings(images: int) -> Settings:
        return settings_for(options["model"], find_scheme(options["scheme"]), images, **chosen)

    output = options["output"] or DEFAULT_OUTPUT
    there = [path for path in (output, best_path(output)) if path.exists()]
    if options["output"] is None and there:
        raise click.UsageError(
            f"{there[0]} exists: --resume {output} goes on with an interrupted run, -o {output} writes over it."
        )
    size = _size(options["size"])
    more = {"size": size, "resize": options["resize"], "begin": begin, "device": options["device"]}
    run = start(options["data"], architecture, settings, output, **more)
    if begin is not None and rank() == 0:
        kept = keeps_last_layer(begin, run.description.classes)
        last = (
            ""
            if kept
            else f"; the last layer starts fresh, for {len(run.description.classes)} other classes"
        )
        scheme = begin.description.architecture.scheme
        click.echo(f"Starts from {begin.path}, scheme {scheme}{last}", err=options["as_json"])
    return run


def _own_options(description: Description) -> dict[str, object]:
    """What --from takes from its checkpoint where the user says nothing."""
    architecture, preprocess = description.architecture, description.preprocess
    return {
        "model": architecture.name,
        "activations": architecture.activations,
        "width": architecture.width,
        "float_ends": architecture.float_ends,
        "size": "x".join(str(extent) for extent in preprocess.size),
        "resize": preprocess.resize,
    }


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(
        part.isascii() and part.isdigit() and 1 <= int(part) <= 4096 for part in parts
    ):
        raise click.BadParameter(
            f"'{text}' is not a size such as 32 or 224x224.", param_hint="'--size'"
        )
    return int(parts[0]), int(parts[-1])


def _train(run: Run, log: str | None, as_json: bool) -> None:
    from bwn.train.distributed import rank
    from bwn.train.tensorboard import open_board

    first = rank() == 0
    if first and not as_json:
        click.echo(heading(run))
    with (
        open_board(log, run.trainer, warn) if first and log is not None else nullcontext() as board
    ):

        def tell(progress: Progress) -> None:
            show_epoch(progress, as_json)
            if board is not None:
                board.write(progress)

        try:
            outcome = run.go(tell, warn)
        finally:
            show_progress("")
    if first:
        click.echo(json_text(summary(outcome, run)) if as_json else text(outcome, run))
    if not outcome.finished:
        raise click.exceptions.Exit(130)
