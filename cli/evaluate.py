"""`bwn evaluate`: accuracy of a .bwn file on a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import numpy as np

from bwn.cli.common import (
    FilePath,
    json_option,
    json_text,
    show_progress,
    table,
    threads_option,
    verbose_option,
)
from bwn.metrics import confused_text

if TYPE_CHECKING:
    from bwn.tools.evaluate import Evaluation

LISTED = 20


@click.command(no_args_is_help=True)
@click.argument("model", type=FilePath())
@click.option(
    "--data",
    type=FilePath(),
    metavar="SOURCE",
    required=True,
    help="A data set as in bwn train; its test split is used.",
)
@click.option(
    "--samples", type=click.IntRange(1), help="Only so many images, the first ones.  [default: all]"
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    help="Images run at once.",
)
@threads_option
@json_option
@verbose_option
def command(
    model: str,
    data: str,
    samples: int | None,
    batch_size: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure the accuracy of MODEL, a .bwn file, on a data set.

    Prints accuracy and error, the share of each class's images that is found (recall), and the most frequent
    confusions; --json has the whole confusion matrix: a row for each right class, a column for each answer.

    \b
    bwn evaluate model.bwn --data mnist-sample
    bwn evaluate model.bwn --data photos/ --json
    """
    from bwn.tools.evaluate import evaluate

    found = evaluate(
        model, data, samples=samples, batch_size=batch_size, threads=threads, progress=show_progress
    )
    click.echo(json_text(found) if as_json else text(found))


def text(found: Evaluation) -> str:
    """The classes, of many those that are found least, and the sums below."""
    there = [result for result in found.classes if result.recall is not None]
    shown = (
        there
        if len(there) <= LISTED
        else sorted(there, key=lambda result: result.recall or 0)[:LISTED]
    )
    rows = [(result.name, result.images, result.right, f"{result.recall:.2%}") for result in shown]
    lines = [table(("class", "images", "right", "recall"), rows)]
    if len(there) > LISTED:
        lines.append(f"The {LISTED} of {len(there)} classes that are found least.")
    most = confused_text(np.array(found.confusion), [result.name for result in found.classes])
    lines += ["", *([f"Most often mistaken: {most}"] if most else [])]
    lines.append(
        f"Accuracy {found.accuracy:.2%} (error {found.error:.2%}) on {found.images:,} images of {found.data}"
    )
    return "\n".join(lines)
