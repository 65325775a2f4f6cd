"""The table of an experiment: schemes by their errors, and how surely the margin scheme differs from each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bwn._files import write_beside
from bwn.errors import BwnError, FileError, MissingPackageError
from bwn.experiment.record import NEAR, RESULTS, Record, read_records
from bwn.experiment.statistics import Difference, Spread, paired_difference, spread

ORDER = ("float", "deterministic", "stochastic", "scaled", "margin")
REFERENCE = "margin"
TABLE = "table.md"
HEADER = (
    "scheme",
    "runs",
    "test error %",
    "range",
    "margin less it",
    "validation %",
    "train %",
    "arrived %",
)

Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone. name: as it is shown; scheme, sweep: as in their records."""

    name: str
    scheme: str
    sweep: bool
    records: tuple[Record, ...]

    def by_seed(self, value: Value) -> dict[int, float]:
        """A number of each run that has it."""
        return {
            record.seed: found for record in self.records if (found := value(record)) is not None
        }

    def spread(self, value: Value) -> Spread | None:
        """The same numbers in short; None where there are none."""
        found = self.by_seed(value)
        return spread(list(found.values())) if found else None


class Row(NamedTuple):
    """One line of the table; errors are parts of the images.

    less: the margin scheme's test error less this one's, over the seeds that both have; None for that scheme itself.
    arrived: part of the weights within 0.05 of -1 or +1.
    """

    name: str
    runs: int
    test: Spread | None
    less: Difference | None
    validation: Spread | None
    train: Spread | None
    arrived: Spread | None


def read_groups(folders: Sequence[Path]) -> list[Group]:
    """The runs of one experiment or several, grouped, in the table's order; several are told apart by folder.

    Raises BwnError where there is nothing to report, or two folders have one name.
    """
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise BwnError(
            "two folders have the same name: rename one, the table tells them apart by it"
        )
    groups: list[Group] = []
    for folder in folders:
        records = read_records(folder)
        if not records:
            raise FileError(f"'{folder}' has no finished run: no line in {RESULTS}")
        prefix = f"{folder.resolve().name}: " if len(folders) > 1 else ""
        groups += [
            _group(prefix, key, records) for key in sorted({_key(record) for record in records})
        ]
    return groups


def _key(record: Record) -> tuple[bool, int, float]:
    """What makes a group; schemes come in their order, then the sweeps, by lambda or weight decay."""
    return (
        record.sweep,
        ORDER.index(record.scheme),
        record.strength or record.settings["weight_decay"],
    )


def _group(prefix: str, key: tuple[bool, int, float], records: Sequence[Record]) -> Group:
    sweep, place, value = key
    scheme = ORDER[place]
    found = {record.name: record for record in records if _key(record) == key}
    name = scheme
    if sweep and scheme == REFERENCE:
        name = f"{scheme}, lambda {value:g}"
    elif scheme == "float" and value:
        name = f"{scheme}, weight decay {value:g}"
    return Group(
        prefix + name, scheme, sweep, tuple(sorted(found.values(), key=lambda record: record.seed))
    )


def rows(groups: Sequence[Group]) -> list[Row]:
    """The lines of the table; margin is that of the first folder that has it, sweeps aside."""
    margin = next(
        (group for group in groups if group.scheme == REFERENCE and not group.sweep), None
    )
    found = []
    for group in groups:
        found.append(_row(group, group.name, lambda record: record.test_error, margin))
        if group.by_seed(lambda record: record.test_error_real_weights):
            name = f"{group.name}, by its real weights"
            found.append(_row(group, name, lambda record: record.test_error_real_weights, margin))
    return found


def _row(group: Group, name: str, value: Value, margin: Group | None) -> Row:
    less = None
    if margin is not None and group is not margin:
        less = paired_difference(
            margin.by_seed(lambda record: record.test_error), group.by_seed(value)
        )
    real = name != group.name
    return Row(
        name=name,
        runs=len(group.records),
        test=group.spread(value),
        less=less,
        validation=None if real else group.spread(lambda record: record.validation_error),
        train=None if real else group.spread(lambda record: record.train_error),
        arrived=group.spread(lambda record: record.near),
    )


def cells(row: Row) -> tuple[str | int, ...]:
    """A line of the table as text, in per cent, under HEADER; `-` where there is nothing."""
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
    about = sorted({_about(record) for record in records})
    return [
        *about,
        "Errors are in %, at the end of the last epoch, with the weights that are deployed: one bit each, but `float`.",
        "+-: sample standard deviation over the seeds.",
        "margin less it: mean difference of the test errors of runs with the same seed, in points, with its 95 % "
        "confidence interval (Student's t) and the number of pairs; below 0 the margin scheme is better.",
        f"arrived: weights within {NEAR} of -1 or +1.",
    ]


def _about(record: Record) -> str:
    settings, network = record.settings, record.architecture
    width = f" of width {network['width']}" if network["width"] else ""
    return (
        f"{record.source}: {network['name']}{width}, {settings['epochs']} epochs of {record.train_images:,} images, "
        f"batches of {settings['batch_size']}, learning rate {settings['learning_rate']:g} to "
        f"{settings['final_learning_rate']:g}, augmentation {settings['augment']}, {settings['precision']}; "
        f"{record.validation_images:,} images held out, {record.test_images:,} test images."
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
    """Write table.md and the plots into a folder: the files' names, and why there are no plots, if so."""
    names: list[str] = []
    missing = None
    try:
        from bwn.experiment.plots import draw

        names = draw(groups, folder)
    except MissingPackageError as error:
        missing = str(error)
    write_beside(folder / TABLE, markdown(groups, names).encode())
    return [TABLE, *names], missing
