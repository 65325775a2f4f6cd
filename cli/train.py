"""`bwn train`: a data set to a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bwn.cli.common import FilePath, Number, json_option, json_text, show_progress, threads_option, verbose_option

if TYPE_CHECKING:
    from bwn.train.loop import Progress
    from bwn.train.run import Outcome, Run

# The ranges of the options below are those of bwn.train.settings, which would import torch.
RATE = Number(0, 1e6, min_open=True)
WITH_RESUME = {"resume", "output", "data", "threads", "as_json", "verbose"}
DEFAULT_OUTPUT = Path("model.pt")
MODELS = ["mlp", "lenet", "vgg", "resnet18", "resnet20"]
SCHEMES = ["float", "deterministic", "stochastic", "scaled", "margin"]


@click.command(epilog="Example: bwn train --data mnist-sample -o model.pt")
@click.option(
    "--data",
    type=FilePath(),
    metavar="SOURCE",
    help="A folder of class folders of images, a folder of IDX files (MNIST), "
    "a folder of CIFAR-10 binary files, or `mnist-sample`, which is shipped.",
)
@click.option(
    "-o", "--output", type=FilePath(path_type=Path), help="Checkpoint to write.  [default: model.pt, if there is none]"
)
@click.option("--model", type=click.Choice(MODELS), default="mlp", show_default=True, help="Network.")
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    default="margin",
    show_default=True,
    help="How weights become one bit; `margin` also draws them to +-1, `float` leaves them real.",
)
@click.option(
    "--activations",
    type=click.Choice(["relu", "sign"]),
    default="relu",
    show_default=True,
    help="Between layers: real values, or one bit each.",
)
@click.option(
    "--float-ends/--binary-ends",
    default=None,
    help="Keep the first and the last layer float.  [default: in residual networks]",
)
@click.option(
    "--width", type=click.IntRange(1, 8192), help="Width of the first hidden layer.  [default: the network's]"
)
@click.option("--size", metavar="H[xW]", help="Resize images.  [default: as stored; photographs: as the first one]")
@click.option(
    "--resize",
    type=click.Choice(["stretch", "crop"]),
    default="stretch",
    show_default=True,
    help="How images of other proportions are brought to the size.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 1_000_000),
    help="Passes over the images.  [default: 20; vgg, resnets: 60; more for few images]",
)
@click.option(
    "--batch-size", type=click.IntRange(1, 1_000_000), help="Images per step.  [default: 100; fewer for few images]"
)
@click.option("--lr", "learning_rate", type=RATE, help="Learning rate at the start.  [default: 0.001; vgg: 0.003]")
@click.option("--final-lr", "final_learning_rate", type=RATE, help="Learning rate at the end.  [default: 3e-06]")
@click.option(
    "--loss",
    type=click.Choice(["hinge", "cross-entropy"]),
    help="Squared hinge or cross entropy.  [default: hinge; resnets: cross-entropy]",
)
@click.option(
    "--penalty",
    type=click.Choice(["margin", "double-well", "none"]),
    help="What draws weights to +-1.  [default: margin with --scheme margin]",
)
@click.option(
    "--lambda", "strength", type=Number(0, 1e6), help="Strength of the penalty at the end.  [default: 0.0001]"
)
@click.option("--ramp", type=Number(0, 20), help="Powers of ten that lambda grows by over the run.  [default: 8]")
@click.option(
    "--augment",
    type=click.Choice(["none", "shift", "flip"]),
    help="Move each image a little; `flip` also mirrors.  [default: shift; resnets: flip]",
)
@click.option(
    "--validation", type=Number(0, 0.5), help="Part of the training images held out to watch accuracy.  [default: 0.1]"
)
@click.option(
    "--weight-decay", type=Number(0, 1e3), help="Decoupled decay of weights, for --scheme float.  [default: 0]"
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of products in training; auto: bfloat16 where the processor multiplies it faster.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same network.  [default: 0]")
@click.option(
    "--resume",
    type=FilePath(path_type=Path),
    metavar="CHECKPOINT",
    help="Go on with an interrupted run, exactly as if it had not stopped.",
)
@threads_option
@json_option
@verbose_option
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Train an image classifier with one-bit weights.

    Ctrl-C stops and leaves a checkpoint from which --resume goes on.
    """
    # Threads of torch that spin while they wait make training several times slower on a busy machine. Read at import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from bwn.train.run import prepare_process, resume

    prepare_process(options["threads"])
    if options["resume"] is not None:
        given = {name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
        if given - WITH_RESUME:
            name = sorted(given - WITH_RESUME)[0].replace("_", "-")
            raise click.UsageError(f"--resume goes on with the settings of its run; leave out the option for {name}.")
        run = resume(options["resume"], options["output"], options["data"])
    elif options["data"] is None:
        raise click.UsageError("Missing option '--data' (or '--resume'). To try: --data mnist-sample")
    else:
        run = _fresh(options)
    _train(run, options["as_json"])


def _fresh(options: dict[str, Any]) -> Run:
    from bwn.train.models import Architecture
    from bwn.train.quantizers import find_scheme
    from bwn.train.run import fast_precision, start
    from bwn.train.settings import Settings, settings_for

    chosen = {name: options[name] for name in Settings.__struct_fields__}
    if chosen["precision"] == "auto":
        chosen["precision"] = fast_precision()
    names = ("scheme", "activations", "width", "float_ends")

    def architecture(shape: tuple[int, int, int], classes: int) -> Architecture:
        kept = {name: options[name] for name in names}
        return Architecture(name=options["model"], input_shape=shape, classes=classes, **kept)

    def settings(images: int) -> Settings:
        return settings_for(options["model"], find_scheme(options["scheme"]), images, **chosen)

    output = options["output"] or DEFAULT_OUTPUT
    if options["output"] is None and output.exists():
        raise click.UsageError(
            f"{output} exists: --resume {output} goes on with an interrupted run, -o {output} writes over it."
        )
    size = _size(options["size"])
    return start(options["data"], architecture, settings, output, size=size, resize=options["resize"])


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 4096 for part in parts):
        raise click.BadParameter(f"'{text}' is not a size such as 32 or 224x224.", param_hint="'--size'")
    return int(parts[0]), int(parts[-1])


def _train(run: Run, as_json: bool) -> None:
    description = run.description
    if not as_json:
        architecture = description.architecture
        shape = " x ".join(str(extent) for extent in architecture.input_shape)
        click.echo(
            f"{architecture.name}, scheme {architecture.scheme}, {architecture.activations} activations; "
            f"{len(run.trainer.train_data.images):,} images of {shape}, {architecture.classes} classes"
        )
    outcome = run.go(_json_line if as_json else _line)
    if as_json:
        click.echo(json_text(_summary(outcome, run)))
    else:
        show_progress("")
        _tell(outcome, run)
    if not outcome.finished:
        raise click.exceptions.Exit(130)


def _line(progress: Progress) -> None:
    parts = [
        f"epoch {progress.epoch:>{len(str(progress.epochs))}}/{progress.epochs}",
        f"loss {progress.loss:.4f}",
        f"accuracy {progress.accuracy:.2%}",
    ]
    if progress.validation is not None:
        parts.append(f"held-out {progress.validation:.2%}")
    if progress.distance is not None:
        parts.append(f"distance to +-1 {progress.distance:.3f}")
    parts.append(f"{clock(progress.left)} left")
    if progress.epoch_done:
        show_progress("")
        click.echo("  ".join(parts))
    else:
        show_progress("  ".join(parts))


def _json_line(progress: Progress) -> None:
    if progress.epoch_done:
        click.echo(json_text({"event": "epoch", **vars(progress)}))


def _summary(outcome: Outcome, run: Run) -> dict[str, object]:
    return {
        "event": "finished" if outcome.finished else "stopped",
        "checkpoint": str(run.output),
        "test_accuracy": outcome.description.test_accuracy,
        "test_images": outcome.test_images,
        "note": outcome.note,
        "train_images": outcome.images,
        "parameters": outcome.parameters,
        "seconds": outcome.seconds,
    }


def _tell(outcome: Outcome, run: Run) -> None:
    if not outcome.finished:
        click.echo(f"Stopped; {run.output} is a checkpoint. Go on with: bwn train --resume {run.output}")
        return
    found = outcome.description.test_accuracy
    if found is not None:
        images = f" on {outcome.test_images:,} test images" if outcome.test_images else ""
        click.echo(f"Accuracy {found:.2%} (error {1 - found:.2%}){images}, weights as they will be packed.")
    if outcome.note:
        click.echo(f"Note: {outcome.note}")
    name = Path(run.output)
    click.echo(f"Wrote {name} after {clock(outcome.seconds)}. Next: bwn pack {name} -o {name.with_suffix('.bwn')}")


def clock(seconds: float) -> str:
    """Minutes and seconds, hours where there are any."""
    whole = round(seconds)
    return (
        f"{whole // 60}:{whole % 60:02d}"
        if whole < 3600
        else f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    )
