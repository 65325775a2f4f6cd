"""Records that differ in their seeds alone, grouped: the rows of the table and of the plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bwn.errors import ArgumentError, FileError
from bwn.experiment.record import RESULTS, Record, read_records
from bwn.experiment.statistics import Spread, spread
from bwn.train.settings import SCHEME_NAMES

REFERENCE = "margin"
"""The scheme that the others are compared with."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone.

    Attributes:
        name: As it is shown.
        scheme: As in the records.
        sweep: As in the records.
        records: By seed.
    """

    name: str
    scheme: str
    sweep: bool
    records: tuple[Record, ...]

    def by_seed(self, field: str) -> dict[int, float]:
        """A field of each record that has it, by the run's seed."""
        values = {record.seed: getattr(record, field) for record in self.records}
        return {seed: number for seed, number in values.items() if number is not None}

    def spread(self, field: str) -> Spread | None:
        """Mean and deviation of the same numbers; None if there are none."""
        values = self.by_seed(field)
        return spread(list(values.values())) if values else None


def read_groups(folders: Sequence[Path]) -> list[Group]:
    """The runs of experiments, grouped, in the table's order; several are told apart by folder.

    Raises BwnError where there is nothing to report, or two folders have the same name.
    """
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise ArgumentError("two folders have the same name: rename one, the table shows the name")
    groups: list[Group] = []
    for folder in folders:
        records = read_records(folder)
        if not records:
            raise FileError(f"{folder}: has no finished run: no line in {RESULTS}")
        prefix = f"{folder.resolve().name}: " if len(folders) > 1 else ""
        groups += [
            _group(prefix, key, records) for key in sorted({_key(record) for record in records})
        ]
    return groups


def _key(record: Record) -> tuple[bool, int, float]:
    """What makes a group: schemes in their order, then the sweeps, by lambda or weight decay."""
    return (
        record.sweep,
        SCHEME_NAMES.index(record.scheme),
        record.strength or record.settings["weight_decay"],
    )


def _group(prefix: str, key: tuple[bool, int, float], records: Sequence[Record]) -> Group:
    sweep, index, value = key
    scheme = SCHEME_NAMES[index]
    # Of records with the same name, a run that was done twice, the last counts.
    members = {record.name: record for record in records if _key(record) == key}
    name = prefix + scheme
    if sweep and scheme == REFERENCE:
        name += f", lambda {value:g}"
    elif scheme == "float" and value:
        name += f", weight decay {value:g}"
    by_seed = sorted(members.values(), key=lambda record: record.seed)
    return Group(name, scheme, sweep, tuple(by_seed))
