"""`bwn demo`: the other commands, one after the other, on the shipped digits."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from bwn._text import byte_size
from bwn.cli.output import table
from bwn.cli.params import FilePath
from bwn.tools.demo import Figures, measure, write_digits


def steps(folder: Path) -> list[tuple[str, list[str]]]:
    """What each step does, and the arguments of the command that does it."""
    checkpoint, exported, spec = (str(folder / f"model.{kind}") for kind in ("pt", "onnx", "bwn"))
    train = [
        "train",
        "--data",
        "mnist-sample",
        "--model",
        "mlp",
        "--width",
        "512",
        "--epochs",
        "30",
    ]
    return [
        (
            "Train a small network on 7,000 digits, pulling its weights towards -1 and +1.",
            [*train, "-o", checkpoint],
        ),
        ("Write it as an ONNX file: the float32 network.", ["export", checkpoint, "-o", exported]),
        ("Pack it: one bit per weight.", ["pack", checkpoint, "-o", spec]),
        (
            "Does it still compute the same, layer by layer?",
            ["verify", spec, checkpoint, "--images", "mnist-sample"],
        ),
        (
            "Classify a folder of images: PNG files of test digits.",
            ["infer", spec, str(folder / "digits")],
        ),
        ("How fast is it, beside ONNX Runtime?", ["bench", spec]),
    ]


@click.command("demo")
@click.option(
    "--keep",
    "folder",
    type=FilePath(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Where the files go.",
)
@click.pass_context
def command(context: click.Context, folder: Path) -> None:
    """Run the whole way on real digits: train, export, pack, verify, infer, bench.

    Takes about two minutes, and needs the extra `train`. Each step shows the command that does it, so that you can
    repeat it and change it.
    """
    write_digits(folder / "digits")
    for number, (purpose, arguments) in enumerate(steps(folder), 1):
        click.secho(f"\n{number}. {purpose}", bold=True)
        click.secho(f"$ {shlex.join(['bwn', *arguments])}\n", dim=True)
        bwn = context.find_root().command
        code = bwn.main(arguments, prog_name="bwn", standalone_mode=False)
        if code:
            context.exit(code)
    click.echo(summary(measure(folder / "model.bwn", folder / "model.onnx"), folder))


def summary(found: Figures, folder: Path) -> str:
    """What a newcomer wants to see, and what to try next."""
    rows = [
        (
            f"right, of {found.images:,} test digits",
            f"{found.float_right / found.images:.1%}",
            f"{found.right / found.images:.1%}",
            f"same answer on {found.agree:,}",
        ),
        (
            "size of the file",
            byte_size(found.float_bytes),
            byte_size(found.bytes),
            f"{found.float_bytes / found.bytes:.1f} times smaller",
        ),
        (
            "one image, one thread",
            f"{found.float_milliseconds:.3f} ms",
            f"{found.milliseconds:.3f} ms",
            f"{found.float_milliseconds / found.milliseconds:.1f} times as fast",
        ),
    ]
    return "\n".join(
        [
            click.style("\nWhat came out", bold=True),
            table(("", "float32, ONNX Runtime", "one bit, bwn", ""), rows),
            click.style("\nTry next", bold=True),
            f"  bwn inspect {folder / 'model.bwn'}",
            "      what the file holds",
            f"  bwn infer {folder / 'model.bwn'} YOUR_IMAGES --json",
            "      results for programs",
            "  bwn bench --layers",
            "      larger networks, layer by layer",
            "  bwn train --data YOUR_FOLDER --model lenet --scheme margin -o mine.pt",
            "      your own photos, one folder per class",
        ]
    )
