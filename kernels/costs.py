"""The costs by which kernels are selected: defaults, and the table measured on this machine.

`gemm/gemm_spec.py` has the model, `gemm/specs.py` the defaults of each kernel, `bwn tune` measures.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from bwn.kernels.gemm.gemm_spec import Cost, Work
from bwn.kernels.gemm.specs import SPECS
from bwn.kernels.target import cpu
from bwn.kernels.target.cache import cache_folder, sources_digest

__all__ = [
    "DEFAULTS", "Cost", "Table", "Work", "defaults", "load", "table", "table_path", "to_json",
]  # fmt: skip

VERSION = 1
TO_MEASURE = "run bwn tune to measure this machine"


class Table(msgspec.Struct, frozen=True):
    """Costs in force.

    Attributes:
        costs: By the kernel's name.
        origin: Whether they were measured on this machine.
        path: Where a measured table is, or would be.
        problem: Why that one is not used, or empty.
    """

    costs: Mapping[str, Cost]
    origin: Literal["measured", "default"]
    path: Path
    problem: str = ""

    @property
    def line(self) -> str:
        """The table in words, one line."""
        if self.origin == "measured":
            return f"measured on this machine, {self.path}"
        return f"defaults{self.problem and ', '}{self.problem}; {TO_MEASURE}"


DEFAULTS = {
    family: {spec.name: spec.costs[family] for spec in SPECS if family in spec.costs}
    for family in cpu.FAMILIES
}
"""For each family of CPUs, the costs of every GEMM that it has where its tables fit the L1."""


def defaults() -> dict[str, Cost]:
    """The default costs on this CPU: twice those of a kernel whose table does not fit its L1."""
    costs = dict(DEFAULTS[cpu.family()])
    for spec in SPECS:
        if spec.table_bytes > cpu.l1_bytes() and spec.name in costs:
            costs[spec.name] = Cost(*(2 * number for number in costs[spec.name]))
    return costs


def fingerprint() -> dict[str, Any]:
    """What a measurement depends on: the CPU, the features compiled for, and the kernels."""
    return {
        "cpu": cpu.model(),
        "llvm_cpu": cpu.name(),
        "features": sorted(cpu.features()),
        "kernels": sources_digest(),
    }


def table_path() -> Path:
    """Where this machine's measured table is: in the cache folder, named by the fingerprint."""
    name = hashlib.sha256(msgspec.json.encode(fingerprint())).hexdigest()[:16]
    return cache_folder() / f"costs-{name}.json"


def to_json(costs: Mapping[str, Cost]) -> str:
    """A measured table as it is stored."""
    document = {"version": VERSION, "fingerprint": fingerprint(), "costs": costs}
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()


def load(path: Path) -> Table:
    """The table at `path`, or the default of this CPU's family if that one cannot be used."""
    try:
        stored = msgspec.json.decode(path.read_bytes())
        if stored["version"] != VERSION:
            problem = "of another version"
        elif stored["fingerprint"] != fingerprint():
            problem = "of another machine or other kernels"
        else:
            return Table(_checked(stored["costs"]), "measured", path)
    except (FileNotFoundError, NotADirectoryError):
        return Table(defaults(), "default", path)
    except OSError as error:
        problem = f"unreadable: {error.strerror}"
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        problem = "damaged"
    problem = f"since the measured table is {problem}: {path}"
    table = Table(defaults(), "default", path, problem)
    logging.getLogger(__name__).warning("cost table: %s", table.line)
    return table


def _checked(stored: Mapping[str, list[float]]) -> dict[str, Cost]:
    """Costs of this CPU's kernels; ValueError, TypeError or KeyError where one is missing."""
    names = [spec.name for spec in SPECS if spec.runs_on(cpu.features())]
    costs = {name: Cost(*map(float, stored[name])) for name in names}
    if not all(math.isfinite(number) and number >= 0 for cost in costs.values() for number in cost):
        raise ValueError
    return costs


@cache
def table() -> Table:
    """The table in force: read once a process."""
    return load(table_path())
