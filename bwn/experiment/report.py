"""The table of an experiment: schemes by their errors, and how surely margin differs from each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bwn._files import write_atomically
from bwn._text import count_noun
from bwn.errors import MissingPackageError
from bwn.experiment.groups import REFERENCE, Group
from bwn.experiment.record import NEAR, Record
from bwn.experiment.statistics import Difference, Spread, paired_difference

TABLE = "table.md"
HEADER = (
    "scheme",
    "runs",
    "test error %",
    "range",
    "margin minus scheme",
    "validation %",
    "train %",
    "near +-1 %",
)


class Row(NamedTuple):
    """One line of the table; errors are fractions of the images.

    Attributes:
        name: The group's name.
        runs: How many runs it has.
        test: Test error.
        less: margin's test error minus this one's, over the seeds of both; None for margin.
        validation: Validation error.
        train: Training error.
        arrived: Fraction of the weights within NEAR of -1 or +1.
    """

    name: str
    runs: int
    test: Spread | None
    less: Difference | None
    validation: Spread | None
    train: Spread | None
    arrived: Spread | None


def rows(groups: Sequence[Group]) -> list[Row]:
    """The lines of the table. All are compared with the first group of margin, sweeps aside."""
    margin = next(
        (group for group in groups if group.scheme == REFERENCE and not group.sweep), None
    )
    table = []
    for group in groups:
        table.append(_row(group, group.name, "test_error", margin))
        if group.by_seed("test_error_real_weights"):
            name = f"{group.name}, with its real weights"
            table.append(_row(group, name, "test_error_real_weights", margin))
    return table


def _row(group: Group, name: str, field: str, margin: Group | None) -> Row:
    less = None
    if margin is not None and group is not margin:
        less = paired_difference(margin.by_seed("test_error"), group.by_seed(field))
    real = name != group.name
    return Row(
        name=name,
        runs=len(group.records),
        test=group.spread(field),
        less=less,
        validation=None if real else group.spread("validation_error"),
        train=None if real else group.spread("train_error"),
        arrived=group.spread("near"),
    )


def cells(row: Row) -> tuple[str | int, ...]:
    """A line of the table as text, in percent, under HEADER; `-` where there is nothing."""
    test = row.test
    return (
        row.name,
        row.runs,
        _mean(test),
        "-" if test is None else f"{100 * test.low:.2f} to {100 * test.high:.2f}",
        "-" if row.less is None else _difference(row.less),
        _mean(row.validation),
        _mean(row.train),
        _mean(row.arrived, 1),
    )


def _mean(values: Spread | None, digits: int = 2) -> str:
    if values is None:
        return "-"
    deviation = "" if values.deviation is None else f" +- {100 * values.deviation:.{digits}f}"
    return f"{100 * values.mean:.{digits}f}{deviation}"


def _difference(less: Difference) -> str:
    text = f"{100 * less.mean:+.2f}"
    if less.low is not None and less.high is not None:
        text += f" [{100 * less.low:+.2f}, {100 * less.high:+.2f}]"
    return text + f" ({less.pairs})"


def notes(groups: Sequence[Group]) -> list[str]:
    """What the table's numbers are, one sentence a line."""
    records = [record for group in groups for record in group.records]
    return [
        *sorted({_about(record) for record in records}),
        "Errors are in %, at the end of the last epoch, with the weights that are deployed: one "
        "bit each, except for `float`.",
        "+-: sample standard deviation over the seeds.",
        "margin minus scheme: mean difference of the test errors of runs with the same seed, in "
        "percentage points, with its 95 % confidence interval (Student's t) and the number of "
        "pairs; below 0 the margin scheme is better.",
        f"near +-1: weights within {NEAR} of -1 or +1.",
    ]


def _about(record: Record) -> str:
    settings, network = record.settings, record.architecture
    width = f" of width {network['width']}" if network["width"] else ""
    return (
        f"{record.source}: {network['name']}{width}, {count_noun(settings['epochs'], 'epoch')} of "
        f"{count_noun(record.train_images, 'image')}, batches of {settings['batch_size']}, "
        f"learning rate {settings['learning_rate']:g} to {settings['final_learning_rate']:g}, "
        f"augmentation {settings['augment']}, {settings['precision']}; "
        f"{count_noun(record.validation_images, 'image')} held out, "
        f"{count_noun(record.test_images, 'test image')}."
    )


def markdown(groups: Sequence[Group], plots: Sequence[str] = ()) -> str:
    """The table as a Markdown page. plots: names of pictures to show below it."""
    lines = [[str(cell) for cell in cells(row)] for row in rows(groups)]
    rule = ["---", *("---:" for _ in HEADER[1:])]
    page = [f"| {' | '.join(line)} |" for line in (HEADER, rule, *lines)]
    page += ["", *(f"- {note}" for note in notes(groups)), ""]
    page += [f"![{name.removesuffix('.svg')}]({name})" for name in plots]
    return "\n".join(page).rstrip() + "\n"


def write_report(groups: Sequence[Group], folder: Path) -> tuple[list[str], str | None]:
    """Write table.md and the plots: the files' names, and why there are no plots, if so."""
    names: list[str] = []
    missing = None
    try:
        from bwn.experiment.plots import draw

        names = draw(groups, folder)
    except MissingPackageError as error:
        missing = str(error)
    write_atomically(folder / TABLE, markdown(groups, names).encode())
    return [TABLE, *names], missing
