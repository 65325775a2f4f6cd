"""One call of a kernel: what the executor runs, and how it comes to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from bwn.ir.node import Array
from bwn.kernels.costs import Work
from bwn.kernels.registry import GemmSpec, Kernel
from bwn.plan.buffers import Buffer, round_up

FINEST = 32
"""A thread takes no less than an even share of a split step, divided by this."""


class Step(msgspec.Struct, frozen=True, eq=False):
    """One call of a kernel.

    Attributes:
        kernel: The kernel.
        block: Its parameter block.
        units: Work items.
        parts: Among how many threads they are split.
        node: Index of the node; -1 for moving the input, one past the last for the output.
        why: The reason for the kernel, or what makes it slow.
        external: The parameter that holds the address of the caller's array.
        work: Size of a GEMM.
        microseconds: Predicted time of a GEMM on one thread.
    """

    kernel: Kernel
    block: Array
    units: int
    parts: int
    node: int
    why: str = ""
    external: str | None = None
    work: Work | None = None
    microseconds: float | None = None

    @property
    def min_units(self) -> int:
        """Fewest units that a thread takes at a time; all where the step is not split."""
        if self.parts == 1:
            return self.units
        if isinstance(self.kernel, GemmSpec) and self.kernel.lanes == 0:
            return round_up(-(-self.units // self.parts), 16)  # each call gathers its inputs first
        return max(1, self.units // (FINEST * self.parts))


class Call(msgspec.Struct, frozen=True, eq=False):
    """How a kernel is called, once every buffer has its place.

    Attributes:
        kernel: The kernel.
        params: Its parameters by name, but for the scratch that the builder gives it.
        units: Work items.
        microseconds: Predicted time on one thread, which decides whether threads share it.
        why: The reason for the kernel, or what makes it slow.
        work: Size of a GEMM.
    """

    kernel: Kernel
    params: Mapping[str, int]
    units: int
    microseconds: float
    why: str = ""
    work: Work | None = None


class Task(msgspec.Struct, frozen=True, eq=False):
    """A step to be.

    Attributes:
        buffers: What it reads and writes.
        call: Says how its kernel is called; asked when every buffer has its place.
        scratch: Bytes of scratch that each thread needs; asked when geometries are known.
        node: Index of the node.
        external: As in `Step`.
    """

    buffers: tuple[Buffer, ...]
    call: Callable[[], Call]
    scratch: Callable[[], int]
    node: int
    external: str | None
