"""The planner: for one graph, batch and number of threads, the steps to run and their memory.

`builder.py` chooses layouts and what is fused, `gemm_steps.py` and its neighbors the kernels (by
`registry.select`), `state.py` what threads share, `buffers.py` the places in the arena. The
executor decides nothing and allocates nothing.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.graph import Graph
from bwn.ir.node import Array
from bwn.kernels import costs
from bwn.kernels.registry import GemmSpec
from bwn.plan.bit_buffers import BitBuffer
from bwn.plan.buffers import Buffer
from bwn.plan.builder import PlanBuilder
from bwn.plan.state import Split
from bwn.plan.step import Step

PASS_BYTES = 5 << 19
"""Activations of a pass, roughly: past the L2 caches they would go to memory and back."""


class Plan(msgspec.Struct, frozen=True, eq=False):
    """Steps in order, and what they point into.

    Attributes:
        graph: What it computes.
        batch: Examples of a run.
        threads: Threads of a run.
        steps: The steps.
        memory: The arena of all buffers.
        written: Other arrays that a run writes: the scratch, then scales of 8-bit inputs.
        constants: Arrays that it only reads. Parameter blocks hold addresses of all of these.
        tensors: The buffer of each activation tensor. Its content is its own only until the last
            step that uses the buffer, unless the plan was made to keep all.
        buffers: These, and intermediate ones.
        table: The costs that kernels were chosen by.
    """

    graph: Graph
    batch: int
    threads: int
    steps: tuple[Step, ...]
    memory: npt.NDArray[np.uint8]
    written: tuple[Array, ...]
    constants: tuple[Array, ...]
    tensors: dict[str, Buffer]
    buffers: tuple[Buffer, ...]
    table: costs.Table

    @property
    def bytes(self) -> int:
        """Bytes of activations: the arena."""
        return self.memory.nbytes

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of an activation tensor as (N, ...) float32, from a plan that keeps all."""
        buffer = self.tensors[name]
        if isinstance(buffer, BitBuffer):
            planes = buffer.unpack(self.memory)
            if not buffer.vectors:
                return planes.reshape(self.batch, *self.graph.shapes[name])
        else:
            planes = self._planes(buffer)
        if buffer.vectors:
            return np.ascontiguousarray(planes[0, :, 0, :].T)
        return planes

    def _planes(self, buffer: Buffer) -> npt.NDArray[np.float32]:
        dtype = np.dtype(np.float32 if buffer.type == "f32" else np.int8)
        end = buffer.root.start + buffer.root.bytes
        values = self.memory[buffer.start : end].view(dtype)[buffer.lead :]
        strides = tuple(stride * dtype.itemsize for stride in buffer.strides)
        sizes = (buffer.images, buffer.channels, buffer.height, buffer.width)
        view = np.lib.stride_tricks.as_strided(values, sizes, strides, writeable=False)
        return view.astype(np.float32)


def make_plan(
    graph: Graph,
    batch: int,
    threads: int,
    *,
    keep_all: bool = False,
    passes: bool = False,
    table: costs.Table | None = None,
    split: Split = "auto",
    only: GemmSpec | None = None,
    builder: type[PlanBuilder] = PlanBuilder,
) -> Plan:
    """Plan a graph that `bwn.ir.checker` has passed.

    Args:
        graph: The graph.
        batch: Examples of a run.
        threads: Threads of a run.
        keep_all: No two buffers share memory and every node makes its tensor, so that all can be
            read after a run.
        passes: Whether the plan may be for fewer examples, so that a pass stays in the caches; a
            larger batch then takes several.
        table: Costs to choose kernels by; default those in force on this machine.
        split: Whether threads share a step: where it pays, always, or never.
        only: The one kernel that layers with weights may run with; default the fastest for each.
        builder: What builds the plan.

    Returns:
        The plan; with `passes`, `plan.batch` says for how many examples.

    Raises:
        GraphError: No kernel, or not the one in `only`, can compute a layer.
    """
    if threads < 1 or batch < 1:
        raise ValueError(f"batch {batch} on {threads} threads: expected 1 or more of each")
    state = builder(
        graph, batch, threads, table or costs.table(), fuse=not keep_all, split=split, only=only
    )
    state.build()
    if passes and batch > threads:
        state.resize(_pass_size(state, batch))
    return Plan(
        graph, state.batch, threads, *state.finish(), state.tensors, state.buffers, state.table
    )


def _pass_size(builder: PlanBuilder, batch: int) -> int:
    """How many examples to take through the network at a time, at least one for each thread.

    See docs/decisions/2026-11-23-passes.md.
    """
    small, large = (builder.arena_bytes(examples) for examples in (16, 32))
    most = PASS_BYTES * 16 // max(1, large - small)
    # Vectors are computed in lanes of 16.
    most = most // 16 * 16 if most >= 16 else max(most, builder.threads)
    return min(batch, most)
