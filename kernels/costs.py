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

from bwn.kernels.target import cpu
from bwn.kernels.target.cache import cache_folder, sources_digest

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
# measured; instructions at a nominal one a nanosecond, of single, bytes, split, dots and inlane fitted to counts of 17
# to 19 sizes each within 2 %, of the others those of docs/arm.md, told apart by what the loops do. The sums of dots
# (0.13 instructions) are those of bytes times 1.27, as llvm-mca's cycles on a Neoverse N1 are.
_DEFAULTS: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "avx512": {
        "f32_b1_f32_planes_lookup": (189, 1.58, 0.0507, 3.57),
        "i8_b1_f32_planes_lookup": (203, 1.35, 0.0547, 5.64),
        "s1_b1_f32_planes_lookup": (207, 1.34, 0.0578, 10.3),
        "f32_f32_f32_planes_multiply": (152, 0, 0.164, 1.45),
        "f32_b1_f32_planes_inlane": (139, 0.706, 0.00426, 1.48),
        "i8_b1_f32_planes_inlane": (173, 0.549, 0.00151, 1.43),
        "i8_b1_f32_planes_bytes": (159, 0.551, 0.00501, 1.15),
        "s1_b1_f32_planes_inlane": (134, 0.27, 0.00123, 1.22),
        "f32_b1_f32_planes_single": (81, 0.479, 0.0226, 1.75),
        "i8_b1_f32_planes_single": (101, 0.225, 0.0105, 4.29),
        "f32_f32_f32_planes_single": (92, 0.339, 0.0456, 3.02),
        "f32_b1_f32_planes_permute": (317, 0.468, 0.00278, 0.408),
        "i8_b1_f32_planes_permute": (40, 0.538, 0.00109, 0.404),
    },
    "avx2": {
        "f32_b1_f32_planes_lookup": (201, 2.56, 0.0795, 3.73),
        "i8_b1_f32_planes_lookup": (181, 2.34, 0.0831, 6.62),
        "s1_b1_f32_planes_lookup": (220, 2.23, 0.0871, 10.2),
        "f32_f32_f32_planes_multiply": (160, 0.129, 0.287, 1.8),
        "f32_b1_f32_planes_inlane": (126, 0.767, 0.0142, 1.68),
        "i8_b1_f32_planes_bytes": (130, 0.612, 0.00462, 1.46),
        "s1_b1_f32_planes_inlane": (132, 0.268, 0.0027, 1.56),
        "f32_b1_f32_planes_single": (61, 0.423, 0.0477, 1.64),
        "i8_b1_f32_planes_single": (99, 0.211, 0.0233, 4.35),
        "f32_f32_f32_planes_single": (84, 0.383, 0.045, 2.2),
    },
    "neon": {
        "f32_b1_f32_planes_lookup": (300, 35, 2.94, 100),
        "i8_b1_f32_planes_lookup": (300, 38, 2.94, 100),
        "s1_b1_f32_planes_lookup": (300, 35, 3.4, 100),
        "f32_f32_f32_planes_multiply": (300, 2, 6.1, 100),
        "f32_b1_f32_planes_single": (300, 6, 1.56, 53),
        "i8_b1_f32_planes_single": (300, 4.8, 0.53, 82),
        "i8_b1_f32_planes_bytes": (300, 10, 0.116, 15),
        "i8_b1_f32_planes_dots": (300, 4.7, 0.147, 16),
        "f32_b1_f32_planes_split": (300, 11.4, 0.29, 15),
        "s1_b1_f32_planes_inlane": (300, 5.6, 0.041, 24),
        "f32_f32_f32_planes_single": (300, 6, 0.63, 52),
    },
}
DEFAULTS = {
    family: {name: Cost(*cost) for name, cost in costs.items()}
    for family, costs in _DEFAULTS.items()
}
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
    from bwn.kernels.registry import GEMMS  # which imports this file

    default, problem = DEFAULTS[cpu.family()], ""
    try:
        found = json.loads(path.read_bytes())
        if found["version"] != VERSION:
            problem = "of another version"
        elif found["fingerprint"] != fingerprint():
            problem = "of another machine or other kernels"
        else:
            return Table(_costs(found["costs"], [row.name for row in GEMMS]), "measured", path)
    except (FileNotFoundError, NotADirectoryError):
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
