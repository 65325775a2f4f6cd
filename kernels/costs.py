"""What a product costs: four coefficients a kernel, their defaults, and the table that was measured on this machine.

    nanoseconds = call + passes * (K * gather + K * N * sums + N * end)

passes: how often a kernel goes over the rows of a group: once a block of positions, a partly filled one like a whole
one, or once a position where it has no lanes (`Product.terms`). gather: reading an input and making what all rows
share of it. sums: what one row does with it. end: writing one row's outputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bwn.kernels import cpu
from bwn.kernels.compiler import cache_folder, sources_digest

VERSION = 1


class Cost(NamedTuple):
    """Coefficients of one kernel, nanoseconds."""

    call: float
    gather: float
    sums: float
    end: float


class Work(NamedTuple):
    """Size of a product.

    depth: K. outputs: N, of one group. positions: of an image, the slack of its rows included. values: positions that
    are outputs. taps: of the window.
    """

    depth: int
    outputs: int
    positions: int
    values: int
    images: int = 1
    groups: int = 1
    taps: int = 1


@dataclass(frozen=True)
class Table:
    """Costs by the kernel's name. path: where a measured table is, or would be. problem: why that one was not taken."""

    costs: Mapping[str, Cost]
    origin: Literal["measured", "default"]
    path: Path
    problem: str = ""

    @property
    def line(self) -> str:
        """The table in words, one line."""
        if self.origin == "measured":
            return f"measured on this machine, {self.path}"
        return f"default, {self.problem or 'no measurement of this machine (bwn tune makes one)'}"


# avx512, avx2: `bwn tune` on a Zen 5 server core, 2026-11-23, the second with code compiled for Zen 3. neon: not
# measured; instructions of docs/arm.md, told apart by what the loops do, at a nominal one a nanosecond (bytes and
# inlane: estimated from their loops, not counted).
_DEFAULTS: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "avx512": {
        "f32_b1_f32_planes_lookup": (310, 1.76, 0.0490, 2.60),
        "i8_b1_f32_planes_lookup": (320, 1.34, 0.0525, 4.80),
        "s1_b1_f32_planes_lookup": (310, 1.21, 0.0560, 7.90),
        "f32_f32_f32_planes_multiply": (260, 0, 0.180, 2.30),
        "f32_b1_f32_planes_single": (260, 0.44, 0.0215, 1.38),
        "i8_b1_f32_planes_single": (280, 0.21, 0.0101, 3.75),
        "f32_b1_f32_planes_inlane": (300, 0.66, 0.00496, 1.08),
        "i8_b1_f32_planes_inlane": (330, 0.53, 0.00151, 1.21),
        "i8_b1_f32_planes_bytes": (330, 0.57, 0.00482, 0.92),
        "s1_b1_f32_planes_inlane": (310, 0.26, 0.00112, 1.09),
        "f32_f32_f32_planes_single": (270, 0.15, 0.0465, 2.25),
        "f32_b1_f32_planes_permute": (500, 0.4, 0.0026, 0.25),
        "i8_b1_f32_planes_permute": (500, 0.3, 0.0010, 0.25),
    },
    "avx2": {
        "f32_b1_f32_planes_lookup": (310, 2.76, 0.0775, 2.75),
        "i8_b1_f32_planes_lookup": (310, 2.06, 0.0808, 4.74),
        "s1_b1_f32_planes_lookup": (310, 2.10, 0.0922, 7.70),
        "f32_f32_f32_planes_multiply": (270, 0, 0.317, 1.03),
        "f32_b1_f32_planes_single": (280, 0.39, 0.0471, 1.54),
        "i8_b1_f32_planes_single": (280, 0.20, 0.0238, 3.69),
        "f32_b1_f32_planes_inlane": (300, 0.98, 0.0142, 2.41),
        "i8_b1_f32_planes_bytes": (330, 0.59, 0.00467, 0.90),
        "s1_b1_f32_planes_inlane": (310, 0.26, 0.00277, 1.17),
        "f32_f32_f32_planes_single": (280, 0.16, 0.0502, 1.51),
    },
    "neon": {
        "f32_b1_f32_planes_lookup": (300, 35, 2.94, 100),
        "i8_b1_f32_planes_lookup": (300, 38, 2.94, 100),
        "s1_b1_f32_planes_lookup": (300, 35, 3.4, 100),
        "f32_f32_f32_planes_multiply": (300, 2, 6.1, 100),
        "f32_b1_f32_planes_single": (300, 6, 1.83, 23),
        "i8_b1_f32_planes_single": (300, 6, 0.76, 28),
        "i8_b1_f32_planes_bytes": (300, 12, 0.1, 8),
        "s1_b1_f32_planes_inlane": (300, 6, 0.06, 8),
        "f32_f32_f32_planes_single": (300, 5, 0.56, 23),
    },
}
DEFAULTS = {family: {name: Cost(*cost) for name, cost in costs.items()} for family, costs in _DEFAULTS.items()}
"""For each family of CPUs, the costs of every product that it has."""


def fingerprint() -> dict[str, Any]:
    """What a measurement holds for: the CPU, the features compiled for, and the kernels."""
    return {
        "cpu": cpu.model(),
        "llvm_cpu": cpu.name(),
        "features": sorted(cpu.features()),
        "kernels": sources_digest(),
    }


def table_path() -> Path:
    """Where this machine's measured table is kept: with the compiled kernels, named after the fingerprint."""
    name = hashlib.sha256(json.dumps(fingerprint()).encode()).hexdigest()[:16]
    return cache_folder() / f"costs-{name}.json"


def to_json(costs: Mapping[str, Cost]) -> str:
    """A measured table as it is kept."""
    return json.dumps({"version": VERSION, "fingerprint": fingerprint(), "costs": costs}, indent=1)


def load(path: Path) -> Table:
    """The table at `path`; where there is none, or none that can be used, the default of this CPU's family."""
    from bwn.kernels.registry import SUMS  # which imports this file

    default, problem = DEFAULTS[cpu.family()], ""
    try:
        found = json.loads(path.read_bytes())
        if found["version"] != VERSION:
            problem = "of another version"
        elif found["fingerprint"] != fingerprint():
            problem = "of another machine or other kernels"
        else:
            return Table(_costs(found["costs"], [row.name for row in SUMS]), "measured", path)
    except FileNotFoundError:
        return Table(default, "default", path)
    except OSError as error:
        problem = f"unreadable: {error.strerror}"
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        problem = "damaged"
    problem = f"since the measured table is {problem} (bwn tune --force measures anew): {path}"
    logging.getLogger(__name__).warning("cost table: default, %s", problem)
    return Table(default, "default", path, problem)


def _costs(found: Mapping[str, list[float]], names: list[str]) -> dict[str, Cost]:
    """Costs of the kernels of these names. Raises ValueError, TypeError or KeyError where one is missing or is none."""
    costs = {name: Cost(*map(float, found[name])) for name in names}
    if not all(math.isfinite(number) and number >= 0 for cost in costs.values() for number in cost):
        raise ValueError
    return costs


@cache
def table() -> Table:
    """The table in force: read once a process."""
    return load(table_path())
