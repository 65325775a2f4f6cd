"""What lowering works with: buffers, tasks and constants of a plan in the making.

Lowering goes over the graph once: it makes the buffers, says which must share a row stride and how much padding
their readers want, and notes for each step a function that will write its parameter block. When all is known the
buffers get their places, and those functions are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from bwn.ir.graph import Array, Graph, Shape
from bwn.ir.shapes import shapes
from bwn.kernels import registry
from bwn.kernels.costs import Table, Work
from bwn.kernels.registry import GemmSpec, Kernel
from bwn.kernels.simd.widths import NARROW
from bwn.plan.buffers import Buffer, RowClass, Type, round_up

Ends = tuple[tuple[int, tuple[int, ...]], tuple[int, tuple[int, ...]]]
"""Address and strides in elements of a copy's source, and of its target."""
INFINITY = float("inf")
WORTH_SPLITTING = 8
"""Microseconds of work from which sharing it with another thread pays; see docs/decisions/2026-11-23-threads.md."""
SPEED = 2000
"""Elements a microsecond that an elementwise step or a copy does on one thread, roughly."""
WORTH_SAYING = 4096
"""Elements from which a step that goes one by one is said to be slow: some microseconds."""
FINEST = 32
"""A thread takes no less than an even share of a split step, divided by this."""
CLEAR_CHUNK = 1 << 16


@dataclass
class Step:
    """One call of a kernel.

    block: its fields. units: work items. parts: among how many threads they are split. node: index of the node; -1
    for moving the input, one past the last for the output. why: the reason for the kernel, or what makes it slow.
    external: the field that holds the caller's array. work, microseconds: of a product, and its predicted time on one
    thread.
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
    def least(self) -> int:
        """Fewest units that a thread takes at a time; all where the step is not split."""
        if self.parts == 1:
            return self.units
        if (
            isinstance(self.kernel, GemmSpec) and self.kernel.lanes == 0
        ):  # each call gathers the inputs first
            return round_up(-(-self.units // self.parts), 16)
        return max(1, self.units // (FINEST * self.parts))


def slowly(work: int) -> str:
    """Why a step of `work` elements, which has no vector form, is slow; nothing where that takes no time."""
    return "slow: no vector form, one element at a time" if work >= WORTH_SAYING else ""


class Lowering:
    """Buffers and tasks of one (graph, batch, threads). After `lower_graph`, place the buffers and call the tasks.

    A task makes its step once the buffers have places. fuse: whether a step may do the work of several nodes, whose
    tensors are then not made. absorbed: outputs of nodes that an earlier step does. rounded: by its
    output, what a product reads as 8 bits that an earlier step rounded. wanted: tensors of signs that are
    kept as bits; flattened: of those that are the bits of another tensor, which; unpacked: planes that were made of
    bits.
    """

    def __init__(
        self, graph: Graph, batch: int, threads: int, table: Table, *, fuse: bool = True
    ) -> None:
        self.graph, self.batch, self.threads, self.table, self.fuse = (
            graph,
            batch,
            threads,
            table,
            fuse,
        )
        self.absorbed: set[str] = set()
        self.rounded: dict[str, Buffer] = {}
        self.shapes = shapes(graph)
        self.tensors: dict[str, Buffer] = {}
        self.floats: dict[str, Buffer] = {}
        self.wanted: frozenset[str] = frozenset()
        self.flattened: dict[str, str] = {}
        self.unpacked: dict[tuple[str, Type], Buffer] = {}
        self.buffers: list[Buffer] = []
        self.tasks: list[Callable[[], Step]] = []
        self.constants: dict[object, Array] = {}
        self.scratch = 0
        self.needs: list[Callable[[], int]] = []
        self.base = 0
        self.scratch_address = 0
        self.node = -1

    def buffer(self, name: str, type: Type, shape: Shape, *, like: Buffer | None = None) -> Buffer:
        """A new buffer for a tensor of one example's `shape`; `like`: a buffer to share the row stride with."""
        if len(shape) == 3:
            made = Buffer(name, type, self.batch, shape[0], shape[1], shape[2])
        else:
            made = Buffer(name, type, 1, shape[0], 1, self.batch, vectors=True)
        if like is not None:
            RowClass.join(like, made)
        self.buffers.append(made)
        return made

    def output(self, name: str, type: Type, *, like: Buffer | None = None) -> Buffer:
        """A new buffer for tensor `name`."""
        made = self.tensors[name] = self.buffer(name, type, self.shapes[name], like=like)
        return made

    def task(self, buffers: tuple[Buffer, ...], make: Callable[[], Step]) -> None:
        """Add a task whose step uses `buffers`."""
        for buffer in buffers:
            buffer.first = len(self.tasks) if buffer.first < 0 else buffer.first
            buffer.last = len(self.tasks)
        self.tasks.append(make)

    def address(self, buffer: Buffer) -> int:
        """Address of the first element of a placed buffer."""
        return self.base + buffer.offset

    def start(self, buffer: Buffer) -> int:
        """Address of the first value of a placed buffer: position 0 of its first plane."""
        return self.address(buffer) + buffer.lead * buffer.itemsize

    def constant(self, key: object, make: Callable[[], Array]) -> int:
        """Address of a constant that lives as long as the plan."""
        if key not in self.constants:
            self.constants[key] = np.ascontiguousarray(make())
        return int(self.constants[key].ctypes.data)

    def vector(self, name: str | None, length: int, fill: float) -> int:
        """Address of a stored float32 vector, or of one full of `fill`."""
        if name is not None:
            return self.constant(name, lambda: self.graph.tensors[name])
        return self.constant((length, fill), lambda: np.full(length, fill, np.float32))

    def bounds(self, *bounds: float | None) -> int:
        """Address of clamp bounds, low and high in turn; None is infinite."""
        values = [
            INFINITY * (index % 2 * 2 - 1) if bound is None else bound
            for index, bound in enumerate(bounds)
        ]
        return self.constant(("bounds", *values), lambda: np.array(values, np.float32))

    def mask(self, buffer: Buffer) -> int:
        """Address of the mask that says which positions of a plane are values."""

        def make() -> Array:
            mask = np.zeros(round_up(buffer.positions, 16), np.int32)
            mask[: buffer.positions].reshape(buffer.height, buffer.row)[:, : buffer.width] = -1
            return mask

        return self.constant(("mask", buffer.height, buffer.width, buffer.row), make)

    def worth_splitting(self, microseconds: float) -> bool:
        """Whether a step that takes so long on one thread gains from more."""
        return microseconds > WORTH_SPLITTING

    def parts(self, units: int, work: int) -> int:
        """Among how many threads to split an elementwise step or a copy of `work` elements."""
        return self.shares(units, work / SPEED)

    def shares(self, units: int, microseconds: float) -> int:
        """Among how many threads to split a step that takes so long on one."""
        return max(1, min(self.threads, units)) if self.worth_splitting(microseconds) else 1

    def float_tensor(self, name: str) -> Buffer:
        """The buffer of a tensor as float32; signs are widened once."""
        source = self.tensors[name]
        if source.type == "f32":
            return source
        if name not in self.floats:
            self.floats[name] = out = self.buffer(
                f"{name}:f32", "f32", self.shapes[name], like=source
            )
            self.map(registry.FLOAT, source, out)
        return self.floats[name]

    def map(
        self,
        kernel: Kernel,
        source: Buffer,
        out: Buffer,
        *,
        other: Buffer | None = None,
        units: int | None = None,
        scale: str | None = None,
        bias: str | None = None,
        low: float | None = None,
        high: float | None = None,
        steps: int = 0,
        why: str = "",
    ) -> None:
        """Add an elementwise step. units: default one a channel of each image."""
        node = self.node
        channels = source.channels
        count = source.images * channels if units is None else units

        def make() -> Step:
            second = other or source
            block = kernel.block(
                x=self.address(source), x_image=source.image, x_plane=source.plane, x_lead=source.lead,
                other=self.address(second), other_image=second.image, other_plane=second.plane, other_lead=second.lead,
                out=self.address(out), out_image=out.image, out_plane=out.plane, out_lead=out.lead,
                channels=channels, positions=source.positions, mask=self.mask(source),
                scale=self.vector(scale, channels, 1.0), bias=self.vector(bias, channels, 0.0),
                bounds=self.bounds(low, high), activation=0, other_broadcast=0, x_scales=steps, scale_per_position=int(source.vectors),
            )  # fmt: skip
            work = source.images * channels * source.positions
            return Step(kernel, block, count, self.parts(count, work), node, why)

        self.task((source, out) if other is None else (source, other, out), make)

    def copy(
        self,
        buffers: tuple[Buffer, ...],
        lengths: tuple[int, ...],
        ends: Callable[[], Ends],
        *,
        external: str | None = None,
    ) -> None:
        """Add a four-axis strided copy between buffers, or between one and the caller's array."""
        node = self.node
        kernel = registry.COPY_F32 if buffers[0].type == "f32" else registry.COPY_I8
        units, work = lengths[0] * lengths[1], prod(lengths)

        def make() -> Step:
            (x, theirs), (out, ours) = ends()
            block = kernel.block(
                x=x, x0=theirs[0], x1=theirs[1], x2=theirs[2], x3=theirs[3],
                out=out, out0=ours[0], out1=ours[1], out2=ours[2], out3=ours[3],
                n1=lengths[1], n2=lengths[2], n3=lengths[3],
            )  # fmt: skip
            why = slowly(work) if theirs[3] > 2 or ours[3] != 1 or lengths[3] < NARROW else ""
            return Step(kernel, block, units, self.parts(units, work), node, why, external)

        self.task(buffers, make)

    def clear(self, buffer: Buffer) -> None:
        """Add a step that makes all of a buffer padding, for a copy that leaves that alone."""
        node = self.node

        def make() -> Step:
            size = buffer.bytes
            units = -(-size // CLEAR_CHUNK)
            block = registry.CLEAR.block(
                out=self.address(buffer), chunk=CLEAR_CHUNK, size=size, value=buffer.fill
            )
            return Step(registry.CLEAR, block, units, self.parts(units, size // 4), node)

        self.task((buffer,), make)


def strides_of(buffer: Buffer) -> tuple[int, int, int, int]:
    """Elements between images, channels, rows and columns of a placed buffer."""
    return buffer.image, buffer.plane, buffer.row, 1
