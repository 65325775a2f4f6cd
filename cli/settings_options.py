"""The options that set how a network is trained: those of `bwn train` that `bwn experiment` has as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bwn.cli.params import Number

Command = TypeVar("Command", bound=Callable[..., Any])

# The ranges are those of bwn.train.settings, which would import torch.
MODELS = ["mlp", "lenet", "vgg", "resnet18", "resnet20"]
SCHEMES = ["float", "deterministic", "stochastic", "scaled", "margin"]
RATE = Number(0, 1e6, min_open=True)


class ClassWeights(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """`balanced`, `none`, or one number a class: a list, or a file of them."""

    name = "weights"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[float, ...]:
        """The word or the numbers."""
        if value in ("balanced", "none"):
            return str(value)
        try:
            text = Path(value).read_text(encoding="utf-8") if Path(value).is_file() else str(value)
            numbers = tuple(float(part) for part in text.replace(",", " ").split())
        except (OSError, ValueError):
            numbers = ()
        if not numbers or not all(0 < number <= 1e6 for number in numbers):
            self.fail(
                f"{value!r} is neither balanced, none, a list of numbers above 0 such as 1,2.5,1, nor a file of such.",
                param,
                ctx,
            )
        return numbers


OPTIONS: dict[str, Callable[[Any], Any]] = {
    "epochs": click.option(
        "--epochs",
        type=click.IntRange(1, 1_000_000),
        help="Passes over the images.  [default: 30; vgg, resnets: 60; more for few images]",
    ),
    "batch_size": click.option(
        "--batch-size",
        type=click.IntRange(1, 1_000_000),
        help="Images per step.  [default: 100; mlp, lenet: 50; fewer for few images]",
    ),
    "learning_rate": click.option(
        "--lr",
        "learning_rate",
        type=RATE,
        help="Learning rate at the start.  [default: 0.001; vgg: 0.003]",
    ),
    "final_learning_rate": click.option(
        "--final-lr",
        "final_learning_rate",
        type=RATE,
        help="Learning rate at the end.  [default: 3e-06]",
    ),
    "schedule": click.option(
        "--schedule",
        type=click.Choice(["cosine", "exponential"]),
        help="How the learning rate falls from --lr to --final-lr.  [default: cosine]",
    ),
    "loss": click.option(
        "--loss",
        type=click.Choice(["hinge", "cross-entropy"]),
        help="Squared hinge or cross entropy.  [default: hinge; resnets: cross-entropy]",
    ),
    "penalty": click.option(
        "--penalty",
        type=click.Choice(["margin", "double-well", "none"]),
        help="What draws weights to +-1.  [default: margin with --scheme margin]",
    ),
    "strength": click.option(
        "--lambda",
        "strength",
        type=Number(0, 1e6),
        help="Strength of the penalty at the end: that strong all along, it alone would shrink the distances to +-1 by "
        "e^-lambda.  [default: 300]",
    ),
    "ramp": click.option(
        "--ramp",
        type=Number(0, 20),
        help="Powers of ten that lambda grows by over the run.  [default: 6]",
    ),
    "augment": click.option(
        "--augment",
        type=click.Choice(["none", "shift", "flip"]),
        help="Move each image a little; `flip` also mirrors.  [default: shift; resnets: flip]",
    ),
    "validation": click.option(
        "--validation",
        type=Number(0, 0.5),
        help="Part of the training images held out to watch accuracy.  [default: 0.1]",
    ),
    "patience": click.option(
        "--patience",
        type=click.IntRange(1, 1_000_000),
        metavar="EPOCHS",
        help="End when held-out accuracy has not risen for so many epochs. Learning rate and lambda follow schedules "
        "over all --epochs, and the margin closes at their end: a run that ends before leaves weights far from +-1.  "
        "[default: never]",
    ),
    "class_weights": click.option(
        "--class-weights",
        type=ClassWeights(),
        metavar="balanced|none|LIST|FILE",
        help="Weight of each class's images in the loss. `balanced`: the fewer images a class has, the more each "
        "counts; or one number a class, in the order of the classes: 1,2.5,1, or a file of them.  [default: none]",
    ),
    "weight_decay": click.option(
        "--weight-decay",
        type=Number(0, 1e3),
        help="Decoupled decay of weights, for --scheme float.  [default: 0]",
    ),
    "precision": click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Of products in training; auto: bfloat16 where the device multiplies it faster.",
    ),
    "seed": click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same network.  [default: 0]"
    ),
}
"""Of each field of `bwn.train.settings.Settings`."""


def settings_options(*without: str) -> Callable[[Command], Command]:
    """Add these options to a command, but those of the fields named."""

    def add(command: Command) -> Command:
        for name in reversed(OPTIONS):
            if name not in without:
                command = OPTIONS[name](command)
        return command

    return add
