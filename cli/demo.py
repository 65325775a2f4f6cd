"""`bwn demo`: the other commands, one after the other, on the bundled digits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bwn._text import byte_size
from bwn.cli.output import command_line, table
from bwn.cli.params import FilePath
from bwn.tools.demo import Figures, measure, write_digits

if TYPE_CHECKING:
    from bwn.tools.benchmark import NetworkResult

TRAIN = ("train", "--data", "mnist-sample", "--model", "mlp", "--width", "512", "--epochs", "30")


def steps(folder: Path) -> list[tuple[str, list[str]]]:
    """The purpose of each step, and the arguments of its command. The last one is `bench`."""
    checkpoint, exported, packed = (str(folder / f"model.{kind}") for kind in ("pt", "onnx", "bwn"))
    return [
        (
            "Train a small network on 7,000 digits, pulling its weights toward -1 and +1.",
            [*TRAIN, "-o", checkpoint],
        ),
        ("Write it as an ONNX file: the float32 network.", ["export", checkpoint, "-o", exported]),
        ("Pack it: one bit per weight.", ["pack", checkpoint, "-o", packed]),
        (
            "Check layer by layer that it still computes the same.",
            ["verify", packed, checkpoint, "--images", "mnist-sample"],
        ),
        (
            "Classify a folder of images: PNG files of test digits.",
            ["infer", packed, str(folder / "digits")],
        ),
        ("Measure its speed on one thread.", ["bench", packed, "--threads", "1"]),
    ]


@click.command()
@click.option(
    "--keep",
    "folder",
    type=FilePath(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Folder that the demo writes its files to.",
)
@click.pass_context
def command(context: click.Context, folder: Path) -> None:
    """Run the full workflow on sample digits: train, export, pack, verify, infer, bench.

    Takes about two minutes and needs the `train` extra. Each step prints its command, so that you
    can repeat it or change it.
    """
    write_digits(folder / "digits")
    bwn = context.find_root().command
    result: Any = None
    for number, (purpose, arguments) in enumerate(steps(folder), 1):
        click.secho(f"\n{number}. {purpose}", bold=True)
        click.secho(f"$ {command_line('bwn', *arguments)}\n", dim=True)
        result = bwn.main(arguments, prog_name="bwn", standalone_mode=False)
        if isinstance(result, int) and result:  # an exit code
            context.exit(result)
    benchmark: NetworkResult = result[0]  # of the last step
    click.echo(summary(measure(folder / "model.bwn", folder / "model.onnx"), benchmark, folder))


def summary(figures: Figures, benchmark: NetworkResult, folder: Path) -> str:
    """Accuracy, size and the latency that `bwn bench` measured, and what to try next."""
    rows = [
        (
            f"correct of {figures.images:,} test digits",
            f"{figures.float_correct / figures.images:.1%}",
            f"{figures.correct / figures.images:.1%}",
            f"same class on {figures.agreements:,}",
        ),
        (
            "file size",
            byte_size(figures.float_bytes),
            byte_size(figures.bytes),
            f"{figures.float_bytes / figures.bytes:.1f} times smaller",
        ),
        latency(benchmark),
    ]
    return "\n".join(
        [
            click.style("\nSummary", bold=True),
            table(("", "float32, ONNX Runtime", "one bit, bwn", ""), rows),
            click.style("\nTry next", bold=True),
            f"  {command_line('bwn', 'inspect', folder / 'model.bwn')}",
            "      what the file holds",
            f"  {command_line('bwn', 'infer', folder / 'model.bwn')} YOUR_IMAGES --json",
            "      results for programs",
            "  bwn bench --layers",
            "      larger networks, layer by layer",
            "  bwn train --data YOUR_FOLDER -o mine.pt",
            "      your own photos, one folder per class",
        ]
    )


def latency(benchmark: NetworkResult) -> tuple[str, str, str, str]:
    """The row of the latency of one image: the medians and the speedup of step 6."""
    single = {timing.engine: timing for timing in benchmark.timings if timing.batch == 1}
    packed, original = single["bwn"], single["onnxruntime"]
    threads = "one thread" if packed.threads == 1 else f"{packed.threads} threads"
    return (
        f"one image, {threads} (from bench)",
        f"{original.median_ms:.3f} ms",
        f"{packed.median_ms:.3f} ms",
        f"{original.speedup:.2f} times as fast",
    )
