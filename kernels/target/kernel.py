"""A kernel by its name: how it is called, and what its code must be made of.

Nothing here needs a compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.kernels.lazy import lazy
from bwn.kernels.target.loader import Entry, entry
from bwn.kernels.target.targets import TARGETS, Target


class Kernel(msgspec.Struct, frozen=True, eq=False, dict=True):
    """A compiled entry and its parameters.

    Attributes:
        code: Its `folder.module.function`; the module is imported only to compile it.
        params: The fields of its parameter block, a `Params`.
        expected: By target, regular expressions that its assembly must match. A kernel whose loop
            is no longer made of these has lost its vectors; only what it is built around is named.
    """

    code: str
    params: Any
    expected: Mapping[str, Sequence[str]] = {}

    @lazy
    def name(self) -> str:
        """Name of the kernel; `bwn.kernels` deciphers it."""
        return self.code.rpartition(".")[2]

    def entry(self) -> Entry:
        """The compiled kernel."""
        return entry(self.code)

    def block(self, **values: int) -> npt.NDArray[np.int64]:
        """The parameter block of a call. values: one for each parameter, no other."""
        return np.array(self.params(**values), np.int64)

    def runs_on(self, features: frozenset[str]) -> bool:
        """Whether a CPU with these features has the instructions that the kernel is written in."""
        return True

    def expected_on(self, target: Target) -> Sequence[str]:
        """What its assembly for a target must match: the patterns of the best target up to it."""
        names = [other.name for other in TARGETS if other.machine == target.machine]  # best first
        upto = names[names.index(target.name) :]
        return next((self.expected[name] for name in upto if name in self.expected), ())
