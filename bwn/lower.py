"""Lowering: each node of a graph becomes steps over buffers.

Lowering goes twice over the graph. The first time it makes the buffers, says which must share a row stride and how
much padding their readers want, and notes for each step a function that will write its parameter block. When all
is known the buffers get their places, and those functions are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from bwn.graph import (
    Add,
    Affine,
    AnyNode,
    Array,
    Clamp,
    Conv,
    Dense,
    Flatten,
    Graph,
    Pool,
    Shape,
    Sign,
    Softmax,
)
from bwn.kernels import registry
from bwn.kernels.registry import Kernel
from bwn.memory import Buffer, RowClass, Type, round_up
from bwn.shapes import shapes

INFINITY = float("inf")
SMALL = 100_000
"""Work (multiply-accumulates or elements) below which a step is not split among threads."""
CLEAR_CHUNK = 1 << 16


@dataclass
class Step:
    """One call of a kernel.

    block: its fields. units: work items. parts: among how many threads they are split. node: index of the node, or -1
    for moving input and output. why: the reason for the kernel. external: the field that holds the caller's array.
    """

    kernel: Kernel
    block: Array
    units: int
    parts: int
    node: int
    why: str = ""
    external: str | None = None


@dataclass
class Task:
    """A step before its buffers have places."""

    buffers: tuple[Buffer, ...]
    make: Callable[[], Step]


class Lowering:
    """Buffers and tasks of one (graph, batch, threads). After `lower`, place the buffers and call the tasks."""

    def __init__(self, graph: Graph, batch: int, threads: int) -> None:
        self.graph, self.batch, self.threads = graph, batch, threads
        self.shapes = shapes(graph)
        self.tensors: dict[str, Buffer] = {}
        self.floats: dict[str, Buffer] = {}
        self.buffers: list[Buffer] = []
        self.tasks: list[Task] = []
        self.constants: dict[object, Array] = {}
        self.scratch = 0
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

    def task(self, buffers: tuple[Buffer, ...], make: Callable[[], Step]) -> None:
        """Add a step that uses `buffers`."""
        for buffer in buffers:
            buffer.first = len(self.tasks) if buffer.first < 0 else buffer.first
            buffer.last = len(self.tasks)
        self.tasks.append(Task(buffers, make))

    def address(self, buffer: Buffer) -> int:
        """Address of the first element of a placed buffer."""
        return self.base + buffer.offset

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

    def bounds(self, low: float | None, high: float | None) -> int:
        """Address of the two clamp bounds."""
        pair = (-INFINITY if low is None else low, INFINITY if high is None else high)
        return self.constant(("bounds", pair), lambda: np.array(pair, np.float32))

    def mask(self, buffer: Buffer) -> int:
        """Address of the mask that says which positions of a plane are values."""

        def make() -> Array:
            mask = np.zeros(round_up(buffer.positions, 16), np.int32)
            mask[: buffer.positions].reshape(buffer.height, buffer.row)[:, : buffer.width] = -1
            return mask

        return self.constant(("mask", buffer.height, buffer.width, buffer.row), make)

    def parts(self, units: int, work: int) -> int:
        """Among how many threads to split a step."""
        return 1 if work < SMALL else max(1, min(self.threads, units))

    def lower(self) -> None:
        """Make all buffers and tasks."""
        topology = self.graph.topology
        self.load_input(self.shapes[topology.input])
        for self.node, node in enumerate(self.graph.nodes):
            self.lower_node(node)
        self.node = -1
        self.store_output(topology.output)

    def lower_node(self, node: AnyNode) -> None:
        """Make the buffers and tasks of one node."""
        shape = self.shapes[node.output]
        if isinstance(node, (Conv, Dense)):
            from bwn.lower_products import lower_product

            lower_product(self, node, shape)
        elif isinstance(node, Pool):
            self.pool(node, shape)
        elif isinstance(node, Flatten):
            self.flatten(node, shape)
        elif isinstance(node, Sign):
            source = self.float_tensor(node.input)
            out = self.tensors[node.output] = self.buffer(node.output, "s1", shape, like=source)
            self.map(registry.SIGN, source, out)
        elif isinstance(node, Affine):
            self.affine(node, node.scale, node.bias, None, None)
        elif isinstance(node, Clamp):
            self.affine(node, None, None, node.low, node.high)
        elif isinstance(node, Add):
            source, other = self.float_tensor(node.input), self.float_tensor(node.other)
            RowClass.join(source, other)
            out = self.tensors[node.output] = self.buffer(node.output, "f32", shape, like=source)
            self.map(registry.ADD, source, out, other=other)
        elif isinstance(node, Softmax):
            source = self.float_tensor(node.input)
            out = self.tensors[node.output] = self.buffer(node.output, "f32", shape, like=source)
            self.map(registry.SOFTMAX, source, out, units=self.batch)
        else:
            raise AssertionError(node)

    def float_tensor(self, name: str) -> Buffer:
        """The buffer of a tensor as float32; signs are widened once."""
        source = self.tensors[name]
        if source.type == "f32":
            return source
        if name not in self.floats:
            self.floats[name] = out = self.buffer(f"{name}:f32", "f32", self.shapes[name], like=source)
            self.map(registry.FLOAT, source, out)
        return self.floats[name]

    def affine(self, node: AnyNode, scale: str | None, bias: str | None, low: float | None, high: float | None) -> None:
        """y = clamp(scale * x + bias)."""
        source = self.float_tensor(node.inputs[0])
        out = self.tensors[node.output] = self.buffer(node.output, "f32", self.shapes[node.output], like=source)
        self.map(registry.AFFINE, source, out, scale=scale, bias=bias, low=low, high=high)

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
                images=source.images, channels=channels, positions=source.positions, mask=self.mask(source),
                scale=self.vector(scale, channels, 1.0), bias=self.vector(bias, channels, 0.0),
                bounds=self.bounds(low, high), steps=steps, steps_per_lane=int(source.vectors),
            )  # fmt: skip
            work = source.images * channels * source.positions
            return Step(kernel, block, count, self.parts(count, work), node)

        self.task((source, out) if other is None else (source, other, out), make)

    def copy(
        self,
        buffers: tuple[Buffer, ...],
        wide: bool,
        addresses: Callable[[], tuple[int, int]],
        strides: Callable[[], tuple[tuple[int, ...], tuple[int, ...]]],
        lengths: tuple[int, ...],
        external: str | None = None,
    ) -> None:
        """Add a four-axis strided copy. wide: float32, else int8. addresses, strides: of source and target."""
        node = self.node
        kernel = registry.COPY_F32 if wide else registry.COPY_I8
        units = lengths[0] * lengths[1]

        def make() -> Step:
            (x, out), (xs, outs) = addresses(), strides()
            values = {"x": x, "out": out}
            for axis in range(4):
                values |= {f"x{axis}": xs[axis], f"out{axis}": outs[axis], f"n{axis}": lengths[axis]}
            return Step(kernel, kernel.block(**values), units, self.parts(units, prod(lengths)), node, "", external)

        self.task(buffers, make)

    def clear(self, buffer: Buffer) -> None:
        """Add a step that zeroes a buffer, for a copy that leaves its padding alone."""
        node = self.node

        def make() -> Step:
            size = buffer.bytes
            units = -(-size // CLEAR_CHUNK)
            block = registry.CLEAR.block(out=self.address(buffer), chunk=CLEAR_CHUNK, size=size)
            return Step(registry.CLEAR, block, units, self.parts(units, size // 4), node)

        self.task((buffer,), make)

    def load_input(self, shape: Shape) -> None:
        """Copy the caller's array (N, C, H, W) or (N, K) into a buffer."""
        out = self.tensors[self.graph.topology.input] = self.buffer(self.graph.topology.input, "f32", shape)
        self.clear(out)
        if len(shape) == 3:
            lengths, theirs = (self.batch, *shape), (prod(shape), shape[1] * shape[2], shape[2], 1)
        else:
            lengths, theirs = (1, shape[0], 1, self.batch), (0, 1, 0, shape[0])
        self.copy(
            (out,), True, lambda: (0, self.address(out) + out.lead * 4), lambda: (theirs, strides_of(out)), lengths, "x"
        )

    def store_output(self, name: str) -> None:
        """Copy a tensor into the caller's array."""
        source, shape = self.float_tensor(name), self.shapes[name]
        if len(shape) == 3:
            lengths, theirs = (self.batch, *shape), (prod(shape), shape[1] * shape[2], shape[2], 1)
        else:
            lengths, theirs = (1, shape[0], 1, self.batch), (0, 1, 0, shape[0])
        self.copy(
            (source,),
            True,
            lambda: (self.address(source) + source.lead * 4, 0),
            lambda: (strides_of(source), theirs),
            lengths,
            "out",
        )

    def flatten(self, node: Flatten, shape: Shape) -> None:
        """Planes to vectors: the images become the lanes."""
        source = self.tensors[node.input]
        if len(self.shapes[node.input]) == 1:
            self.tensors[node.output] = source
            return
        out = self.tensors[node.output] = self.buffer(node.output, source.type, shape)
        height, width = source.height, source.width

        def strides() -> tuple[tuple[int, ...], tuple[int, ...]]:
            return strides_of(source), (1, height * width * out.plane, width * out.plane, out.plane)

        self.clear(out)
        self.copy(
            (source, out),
            source.type == "f32",
            lambda: (self.address(source) + source.lead * source.itemsize, self.address(out)),
            strides,
            (self.batch, source.channels, height, width),
        )

    def pool(self, node: Pool, shape: Shape) -> None:
        """Windows over planes; a maximum of signs stays a sign."""
        source = self.tensors[node.input] if node.kind == "max" else self.float_tensor(node.input)
        out = self.tensors[node.output] = self.buffer(node.output, source.type, shape)
        index = self.node
        if node.kind == "average":
            kernel = registry.AVERAGE
        else:
            kernel = registry.MAX_F32 if source.type == "f32" else registry.MAX_I8

        def make() -> Step:
            units = source.images * source.channels
            block = kernel.block(
                x=self.address(source), x_image=source.image, x_plane=source.plane, x_lead=source.lead,
                x_row=source.row, height=source.height, width=source.width,
                out=self.address(out), out_image=out.image, out_plane=out.plane, out_lead=out.lead,
                out_row=out.row, out_height=out.height, out_width=out.width,
                images=source.images, channels=source.channels, kernel_y=node.kernel[0], kernel_x=node.kernel[1],
                stride_y=node.stride[0], stride_x=node.stride[1], top=node.pads[0], left=node.pads[1],
                window=prod(node.kernel) if node.count_pads else 0,
            )  # fmt: skip
            work = units * prod(shape[1:]) * prod(node.kernel)
            return Step(kernel, block, units, self.parts(units, work), index)

        self.task((source, out), make)


def strides_of(buffer: Buffer) -> tuple[int, int, int, int]:
    """Elements between images, channels, rows and columns of a placed buffer."""
    return buffer.image, buffer.plane, buffer.row, 1
