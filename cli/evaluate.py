"""`bwn evaluate`: accuracy of a .bwn file on a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bwn._text import count_noun, one_line
from bwn.cli.output import command_line, json_text, show_progress, table
from bwn.cli.params import (
    FilePath,
    Integer,
    Option,
    batch_size_option,
    run_options,
    skip_bad_option,
)

if TYPE_CHECKING:
    from bwn.tools.evaluate import Evaluation

LISTED = 20


@click.command(no_args_is_help=True)
@click.argument("model", type=FilePath())
@click.argument("rest", nargs=-1, metavar="", type=FilePath())
@click.option(
    "--data",
    type=FilePath(),
    metavar="SOURCE",
    help="A data set as in bwn train; its test split is used.  [required]",
)
@click.option(
    "--samples",
    cls=Option,
    type=Integer(1),
    help="Evaluate at most this many images: the first ones or, for class folders, some of each "
    "class.  [default: all]",
)
@skip_bad_option
@batch_size_option(64)
@run_options
def command(
    model: str,
    rest: tuple[str, ...],
    data: str | None,
    samples: int | None,
    batch_size: int,
    threads: int | None,
    as_json: bool,
    skip_bad: bool,
) -> None:
    """Measure the accuracy of MODEL, a .bwn file, on a data set.

    Prints accuracy and error, the recall of each class (the share of its images that is classified
    correctly), and the most frequent confusions. --json adds the confusion matrix: a row for each
    true class, a column for each predicted one.

    \b
    bwn evaluate model.bwn --data mnist-sample
    bwn evaluate model.bwn --data photos/ --json
    """
    if data is None:
        meant = f" Did you mean {command_line('--data', rest[0])}?" if rest else ""
        raise click.UsageError(f"Missing option '--data'.{meant}")
    if rest:
        raise click.UsageError(f"Got an unexpected argument: {one_line(rest[0])}")
    from bwn.tools.evaluate import evaluate

    result = evaluate(
        model,
        data,
        samples=samples,
        batch_size=batch_size,
        threads=threads,
        skip_bad=skip_bad,
        progress=show_progress,
    )
    click.echo(json_text(result) if as_json else text(result))


def text(result: Evaluation) -> str:
    """A table of the classes (if there are many, those of lowest recall), then the totals."""
    import numpy as np

    from bwn.metrics import accuracy_text, confused_text

    known = [row for row in result.classes if row.recall is not None]
    shown = known
    if len(known) > LISTED:
        shown = sorted(known, key=lambda row: row.recall or 0)[:LISTED]
    rows = [(row.name, row.images, row.right, f"{row.recall:.2%}") for row in shown]
    lines = [table(("class", "images", "right", "recall"), rows)]
    if len(known) > LISTED:
        lines.append(f"The {LISTED} of {len(known):,} classes with the lowest recall.")
    most = confused_text(np.array(result.confusion), [row.name for row in result.classes])
    lines += ["", *([f"Most frequent confusions: {most}"] if most else [])]
    lines.append(
        f"Accuracy {accuracy_text(result.right, result.images)} on "
        f"{count_noun(result.images, 'image')} of {result.data}"
    )
    return "\n".join(lines)
