"""A plan being built: buffers, steps to be, and constants.

The builder goes over the graph once. It makes buffers, records which of them share a row stride
and how much padding their readers need, and adds for each step a function that will give its
parameters. When all is known the buffers get their places, and those functions are called.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node, Shape
from bwn.kernels.costs import Table
from bwn.kernels.params import Activation
from bwn.kernels.registry import GEMMS, GemmSpec, LutWindowGemm
from bwn.plan.buffers import Buffer, Type, arena, place, round_up
from bwn.plan.plan_size import PlanSize
from bwn.plan.step import Call, Step, Task

AnyBuffer = TypeVar("AnyBuffer", bound=Buffer)
Split = Literal["auto", "always", "never"]

ROWS_PAST = 8 if any(isinstance(spec, LutWindowGemm) for spec in GEMMS) else 1
"""Rows that may be read past a plane: by windows in the slack of the last row, where no output is;
by `kernels/gemm/lut_window.py` also where a block of outputs ends below the image.
"""
WORTH_SPLITTING = 12
"""Microseconds of work from which sharing it with another thread pays: docs/decisions/."""
SPEED = 2000
"""Elements a microsecond that an elementwise step or a copy does on one thread, roughly."""
WORTH_SAYING = 4096
"""Elements from which a step that goes one by one is said to be slow: some microseconds."""


def elementwise_time(elements: int) -> float:
    """Predicted microseconds of an elementwise step or a copy on one thread."""
    return elements / SPEED


def slow_note(elements: int) -> str:
    """Why a step without a vector form is slow; empty where that takes no time."""
    return "slow: no vector form, one element at a time" if elements >= WORTH_SAYING else ""


def activation_code(name: str | None) -> int:
    """The code by which kernels know an activation function; 0 for none."""
    if name is None:
        return int(Activation.NONE)
    if name.upper() not in Activation.__members__:
        raise NotImplementedError(f"{name} is not in Activation of kernels/params.py")
    return int(Activation[name.upper()])


class PlanState:
    """Buffers, tasks and constants of one plan.

    Attributes:
        graph: The graph, which `bwn.ir.checker` has passed.
        batch: Examples of a run; `resize` changes it until the plan is finished.
        threads: Threads of a run.
        table: Costs to choose kernels by.
        fuse: Whether a step may do the work of several nodes, whose tensors are then not made.
        split: Whether threads share a step: where it pays, always, or never.
        only: The one kernel that layers with weights may run with; None for the fastest.
        absorbed: Outputs of nodes that an earlier step does.
        size: What the plan takes.
    """

    def __init__(
        self,
        graph: Graph,
        batch: int,
        threads: int,
        table: Table,
        *,
        fuse: bool = True,
        split: Split = "auto",
        only: GemmSpec | None = None,
    ) -> None:
        self.graph, self.batch, self.threads, self.table = graph, batch, threads, table
        self.fuse, self.split, self.only = fuse, split, only
        self.absorbed: set[str] = set()
        self.size = PlanSize()
        self._forms: dict[str, dict[Type, Buffer]] = {}
        self._buffers: list[Buffer] = []
        self._tasks: list[Task] = []
        self._constants: dict[Hashable, tuple[Array, int]] = {}
        self._variables: set[Hashable] = set()
        self._planes: dict[int, tuple[int, int, int, int]] = {}
        self._arena = 0
        self._flattened: dict[str, str] = {}
        self._quantized: dict[Hashable, Buffer] = {}
        self._node = -1

    # Buffers

    def shape(self, name: str) -> Shape:
        """Shape of an activation tensor of one example."""
        return self.graph.shapes[name]

    def buffer(self, name: str, type: Type, shape: Shape, *, like: Buffer | None = None) -> Buffer:
        """A new buffer of planes.

        Args:
            name: Name of the tensor.
            type: Type of its elements.
            shape: Shape of one example.
            like: A buffer to share the row stride with.
        """
        buffer = Buffer.of(name, type, shape, self.batch)
        if like is not None:
            buffer.share_rows(like)
        return self.keep(buffer)

    def keep(self, buffer: AnyBuffer) -> AnyBuffer:
        """Give a new buffer a place in the arena."""
        self._buffers.append(buffer)
        return buffer

    def set_form(self, name: str, buffer: AnyBuffer) -> AnyBuffer:
        """Say that a buffer holds an activation tensor, in its element type."""
        self._forms.setdefault(name, {})[buffer.type] = buffer
        return buffer

    def form(self, name: str, type: Type | None = None) -> Buffer | None:
        """The buffer that holds a tensor in a type, or as it was made; None where there is none."""
        forms = self._forms.get(name, {})
        return next(iter(forms.values()), None) if type is None else forms.get(type)

    def consumer(self, name: str) -> Node | None:
        """The node that alone reads a tensor; None also where the plan keeps all tensors."""
        return self.graph.sole_consumer(name) if self.fuse else None

    # Steps

    def at(self, node: int) -> None:
        """What follows belongs to the node of this index."""
        self._node = node

    def step(
        self,
        buffers: tuple[Buffer, ...],
        call: Callable[[], Call],
        *,
        scratch: Callable[[], int] = int,
        external: str | None = None,
    ) -> None:
        """Add a step.

        Args:
            buffers: What it reads and writes.
            call: Gives the kernel and its parameters when every buffer has its place.
            scratch: Gives the bytes of scratch that each thread needs.
            external: The parameter that holds the address of the caller's array.
        """
        for buffer in buffers:
            root = buffer.root
            root.first = len(self._tasks) if root.first < 0 else root.first
            root.last = len(self._tasks)
        self._tasks.append(Task(buffers, call, scratch, self._node, external))
        self.size.check_steps(len(self._tasks))

    # What parameters are made of, once every buffer has its place

    def address(self, buffer: Buffer) -> int:
        """Address of the first element of a buffer, padding included."""
        assert self._arena, "buffers have no place yet"
        return self._arena + buffer.start

    def position_0(self, buffer: Buffer) -> int:
        """Address of the first value of a buffer."""
        return self.address(buffer) + buffer.lead * buffer.itemsize

    def planes(self, prefix: str, buffer: Buffer) -> dict[str, int]:
        """The parameters that describe a buffer of planes."""
        if id(buffer) not in self._planes:
            places = self.address(buffer), buffer.image, buffer.plane, buffer.lead
            self._planes[id(buffer)] = places
        names = (prefix, f"{prefix}_image", f"{prefix}_plane", f"{prefix}_lead")
        return dict(zip(names, self._planes[id(buffer)], strict=True))

    def constant(self, key: Hashable, make: Callable[[], Array]) -> int:
        """Address of a constant that lives as long as the plan, made once for each key."""
        if key not in self._constants:
            array = np.ascontiguousarray(make())
            self.size.allocate(array.nbytes, self.batch)
            self._constants[key] = array, array.ctypes.data
        return self._constants[key][1]

    def variable(self, key: Hashable, make: Callable[[], Array]) -> int:
        """Address of an array that lives as long as the plan, like a constant, but that a run
        fills."""
        self._variables.add(key)
        return self.constant(key, make)

    def constant_bytes(self, key: Hashable) -> int:
        """Bytes of a constant."""
        return self._constants[key][0].nbytes

    def vector(self, name: str | None, length: int, fill: float) -> int:
        """Address of a stored float32 vector, or of one full of `fill`."""
        if name is not None:
            return self.constant(name, lambda: self.graph.tensors[name])
        return self.constant((length, fill), lambda: np.full(length, fill, np.float32))

    def bounds(self, *pairs: tuple[float | None, float | None] | None) -> int:
        """Address of clamp bounds, lower and upper in turn; None is infinite."""
        values = [
            infinity if bound is None else bound
            for pair in pairs
            for bound, infinity in zip(pair or (None, None), (-np.inf, np.inf), strict=True)
        ]
        return self.floats(*values)

    def floats(self, *numbers: float) -> int:
        """Address of some float32."""
        array = np.array(numbers, np.float32)
        return self.constant(array.tobytes(), lambda: array)  # -0.0 is not 0.0

    def mask(self, buffer: Buffer) -> int:
        """Address of the mask that says which positions of a plane are values."""
        positions, height, width, row = buffer.positions, buffer.height, buffer.width, buffer.row

        def make() -> Array:
            mask = np.zeros(round_up(positions, 16), np.int32)
            mask[:positions].reshape(height, row)[:, :width] = -1
            return mask

        return self.constant(("mask", height, width, row), make)

    def worth_splitting(self, microseconds: float) -> bool:
        """Whether a step that takes so long on one thread gains from more."""
        if self.split == "auto":
            return microseconds > WORTH_SPLITTING
        return self.split == "always"

    # The end

    def resize(self, batch: int) -> None:
        """Change the batch; nothing has a place yet."""
        self.batch = batch
        for buffer in self._buffers:
            buffer.resize(batch)

    def arena_bytes(self, batch: int) -> int:
        """Bytes that the buffers would take with another batch."""
        self.resize(batch)
        return place(self._buffers, reuse=True)

    def finish(
        self,
    ) -> tuple[tuple[Step, ...], npt.NDArray[np.uint8], tuple[Array, ...], tuple[Array, ...]]:
        """Place the buffers and make the steps.

        Returns:
            The steps, the arena, and all else that they hold addresses of: the scratch and the
            arrays that a run fills, and the constants.
        """
        size = place(self._buffers, reuse=self.fuse)
        self.size.check_arena(size, self.batch)
        past = ROWS_PAST * max(buffer.row * buffer.itemsize for buffer in self._buffers)
        self.size.allocate(size + past, self.batch)
        memory = arena(size, past)
        self._arena = memory.ctypes.data
        part = round_up(max((task.scratch() for task in self._tasks), default=0), 64)
        self.size.allocate(part * self.threads, self.batch)
        scratch = arena(part * self.threads)
        steps = tuple(self._finished(task, int(scratch.ctypes.data), part) for task in self._tasks)
        written, constants = (
            [
                array
                for key, (array, _) in self._constants.items()
                if (key in self._variables) == fill
            ]
            for fill in (True, False)
        )
        return steps, memory, (scratch, *written), tuple(constants)

    def _finished(self, task: Task, scratch: int, part: int) -> Step:
        call = task.call()
        params = dict(call.params)
        if "scratch" in call.kernel.params.fields:
            params |= {"scratch": scratch, "scratch_part": part}
        split = self.worth_splitting(call.microseconds)
        return Step(
            call.kernel,
            call.kernel.block(**params),
            call.units,
            max(1, min(self.threads, call.units)) if split else 1,
            task.node,
            call.why,
            task.external,
            call.work,
            call.microseconds if call.work else None,
        )

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """All buffers."""
        return tuple(self._buffers)

    @property
    def tensors(self) -> dict[str, Buffer]:
        """The buffer of each activation tensor, as it was made."""
        return {name: next(iter(forms.values())) for name, forms in self._forms.items()}
