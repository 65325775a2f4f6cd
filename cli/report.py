"""`bwn report`: a report of a run, a packed model or an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bwn._text import byte_size
from bwn.cli.output import json_text, show_progress
from bwn.cli.params import FilePath, Integer, Number, Option, run_options, skip_bad_option

if TYPE_CHECKING:
    from bwn.reporting.facts import Report


@click.command(
    no_args_is_help=True,
    epilog="Example: bwn report model.pt --data mnist-sample -o report.html",
)
@click.argument("source", metavar="RUN_OR_MODEL", type=FilePath(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=FilePath(path_type=Path),
    help="File to write: .html, .png or .svg.  [default: model.html for model.pt, report.html in "
    "a folder; with --json none]",
)
@click.option(
    "--data",
    type=FilePath(),
    metavar="SOURCE",
    help="A data set as in bwn train: classify its test images.",
)
@click.option(
    "--delta",
    cls=Option,
    type=Number(0, 1),
    help="Real weights at most this far from 0 count as near 0.  [default: 0.05]",
)
@click.option(
    "--samples",
    cls=Option,
    type=Integer(1),
    help="At most this many test images.  [default: all]",
)
@skip_bad_option
@run_options
def command(
    source: Path,
    output: Path | None,
    data: str | None,
    delta: float | None,
    samples: int | None,
    skip_bad: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write a report of a run, a packed model or an experiment to one file that works offline.

    RUN_OR_MODEL is a checkpoint of bwn train, a folder with model.pt, a .bwn file, or the folder of
    bwn experiment.

    \b
    checkpoint  histograms of the real weights by layer and epoch, mean distance
                to +-1, flip risk: the share of the real weights near 0;
                with --data also the accuracy lost if exactly these weights
                change sign, the confusion matrix, and images of the most
                frequent confusions
    .bwn        layers, share of one-bit weights, scales; with --data also the
                confusions
    experiment  errors by scheme, weights by epoch, accuracy against lambda

    Figures need matplotlib; --json prints the numbers without it.
    """
    if samples is not None and data is None:
        raise click.UsageError("--samples needs --data.")
    from bwn.reporting.create import report
    from bwn.reporting.report_sources import DELTA

    if output is None and not as_json:
        output = source / "report.html" if source.is_dir() else source.with_suffix(".html")
    numbers = report(
        source,
        output,
        data=data,
        delta=DELTA if delta is None else delta,
        samples=samples,
        threads=threads,
        skip_bad=skip_bad,
        progress=show_progress,
    )
    if as_json:
        import msgspec

        click.echo(json_text(msgspec.to_builtins(numbers)))
        return
    assert output is not None
    click.echo("\n".join([*text(numbers), f"Wrote {output}, {byte_size(output.stat().st_size)}."]))


def text(report: Report) -> list[str]:
    """The few numbers that matter most."""
    from bwn.reporting.words import fact_rows, flip_text

    lines = [f"{name}: {value}" for name, value in fact_rows(report)]
    return [*lines, *flip_text(report), *(f"note: {note}" for note in report.notes)]
