"""What a plan may take: steps, products and memory, known before any of it is allocated."""

from __future__ import annotations

from bwn._text import byte_size
from bwn.errors import BwnError, GraphError
from bwn.ir.checker import MAX_TOTAL
from bwn.kernels.target.limits import available_memory

MAX_STEPS = 2**16
"""Steps of a plan; each takes some 50 microseconds to plan. ResNet-18 has some 30."""
MAX_INPUTS = 2**27
"""Inputs of one output, of all layers together: 8 bytes each in a plan. ResNet-18 has 24,000."""
MAX_WEIGHTS = 2**33
"""Weights of all layers together, shared ones counted for each: as many as a file can hold."""
MAX_EXAMPLE = 4 * MAX_TOTAL
"""Bytes of activations of one example."""
ASKED_FROM = 2**26
"""Bytes from which it is asked how many are free: the question takes 0.1 ms."""


class PlanSize:
    """Counts what a plan takes. Each method raises GraphError or BwnError past a limit."""

    def __init__(self) -> None:
        self.inputs = self.weights = self.bytes = 0

    def check_steps(self, count: int) -> None:
        """Steps so far."""
        if count > MAX_STEPS:
            raise GraphError(f"graph: takes more than {MAX_STEPS:,} steps, too many to plan")

    def add_layer(self, depth: int, outputs: int) -> None:
        """Count a layer whose every output sums `depth` products."""
        self.inputs += depth
        self.weights += depth * outputs
        if self.inputs > MAX_INPUTS or self.weights > MAX_WEIGHTS:
            raise GraphError(
                f"graph: layers have {self.inputs:,} inputs and {self.weights:,} weights together, "
                f"at most {MAX_INPUTS:,} and {MAX_WEIGHTS:,} are planned"
            )

    def check_arena(self, size: int, batch: int) -> None:
        """Bytes of all buffers, padding included."""
        if size > MAX_EXAMPLE * batch:
            raise GraphError(
                f"graph: activations take {byte_size(size // batch)} an example with their "
                f"padding, at most {byte_size(MAX_EXAMPLE)} are allowed"
            )

    def allocate(self, size: int, batch: int) -> None:
        """Count bytes that are about to be allocated for a run of so many examples."""
        self.bytes += size
        if size < ASKED_FROM:
            return
        free = available_memory()
        if free is not None and size > free:
            raise BwnError(
                f"a run of {batch} takes {byte_size(self.bytes)} of memory, of which "
                f"{byte_size(size)} is more than the {byte_size(free)} that are free: run fewer "
                "inputs at a time, or on a machine with more memory"
            )
