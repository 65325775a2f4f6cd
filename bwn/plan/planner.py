"""The Plan: for one (graph, batch, threads), the steps to run and the memory they run in.

All decisions are made here: kernels (through `registry.select`), layouts, places in the arena, split among threads. The
executor decides nothing and allocates nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bwn.ir.graph import Array, Graph, Shape
from bwn.kernels import costs
from bwn.plan.bit_buffers import Bits
from bwn.plan.buffers import LINE, Buffer, arena, place, round_up
from bwn.plan.builder import Lowering, Step, strides_of
from bwn.plan.lower import lower_graph


@dataclass(frozen=True)
class Plan:
    """Steps in order, and what they point into.

    graph, batch, threads: what it was made for. memory: the arena. keep: everything else the blocks hold addresses of.
    tensors: the buffer of each activation tensor (its content is its own only until the buffer's last step, unless
    the plan was made to keep all). buffers: these and what stands between them. table: the costs it was made by.
    """

    graph: Graph
    batch: int
    threads: int
    steps: tuple[Step, ...]
    memory: npt.NDArray[np.uint8]
    keep: tuple[Array, ...]
    tensors: dict[str, Buffer]
    shapes: dict[str, Shape]
    buffers: tuple[Buffer, ...]
    table: costs.Table

    @property
    def bytes(self) -> int:
        """Bytes of activations: the arena."""
        return self.memory.nbytes

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of an activation tensor, (N, C, H, W) or (N, K) float32, from a plan that keeps all."""
        buffer = self.tensors[name]
        if isinstance(buffer, Bits):
            return self._bits(name, buffer)
        dtype = np.dtype(np.float32 if buffer.type == "f32" else np.int8)
        flat = self.memory[buffer.offset : buffer.offset + buffer.bytes].view(dtype)[buffer.lead :]
        strides = tuple(stride * dtype.itemsize for stride in strides_of(buffer))
        sizes = (buffer.images, buffer.channels, buffer.height, buffer.width)
        planes = np.lib.stride_tricks.as_strided(flat, sizes, strides, writeable=False)
        if len(self.shapes[name]) == 1:
            planes = planes[0, :, 0, :].T
        return planes.astype(np.float32)

    def _bits(self, name: str, buffer: Bits) -> npt.NDArray[np.float32]:
        planes = buffer.unpack(self.memory)
        if buffer.vectors:
            return np.ascontiguousarray(planes[0, :, 0, :].T)
        return planes.reshape(self.batch, *self.shapes[name])


def make_plan(
    graph: Graph,
    batch: int,
    threads: int,
    *,
    keep_all: bool = False,
    table: costs.Table | None = None,
) -> Plan:
    """Plan a graph that `bwn.ir.checker` has passed.

    batch: examples a run. keep_all: no two buffers share memory and every node makes its tensor, so that all can be
    read after a run. table: costs to choose by, default those in force on this machine.
    """
    lower = Lowering(graph, batch, threads, table or costs.table(), fuse=not keep_all)
    lower_graph(lower)
    # In the slack of the last row, where no output is, a window reads up to a row past the plane.
    widest = max(buffer.row * buffer.itemsize for buffer in lower.buffers)
    memory = arena(place(lower.buffers, reuse=not keep_all), widest)
    lower.scratch = round_up(max([lower.scratch, *(need() for need in lower.needs)]), LINE)
    scratch = arena(lower.scratch * threads)
    lower.base, lower.scratch_address = memory.ctypes.data, scratch.ctypes.data
    steps = tuple(task() for task in lower.tasks)
    keep = (scratch, *lower.constants.values())
    return Plan(
        graph,
        batch,
        threads,
        steps,
        memory,
        keep,
        lower.tensors,
        lower.shapes,
        tuple(lower.buffers),
        lower.table,
    )


PASS_BYTES = 5 << 19
"""Activations of a pass, roughly: past the L2 caches they would go to memory and back between layers."""


def images_a_pass(graph: Graph, batch: int, threads: int) -> int:
    """How many images of a batch to take through the network at a time, at least one for each thread.

    See docs/decisions/2026-11-23-passes.md.
    """
    if batch <= threads:
        return batch
    small, large = (_arena_bytes(graph, images, threads) for images in (16, 32))
    most = PASS_BYTES * 16 // max(1, large - small)
    most = most // 16 * 16 if most >= 16 else max(most, threads)  # vectors stand in lanes of 16
    return min(batch, most)


def _arena_bytes(graph: Graph, batch: int, threads: int) -> int:
    lower = Lowering(graph, batch, threads, costs.table())
    lower_graph(lower)
    return place(lower.buffers, reuse=True)
