"""Elements picked by an index list for each axis; an index of -1 is a constant instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Node, Reals, Shape, Tensors, is_float32

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Indices = npt.NDArray[np.int64]


class Gather(Node, frozen=True, kw_only=True, tag="gather"):
    """y[c, h, w] = x[indices[0][c], indices[1][h], indices[2][w]], or `value` if an index is -1.

    Attributes:
        indices: One list for each axis of x; an empty one is the whole axis.
        value: The number that an index of -1 stands for.
    """

    since = 4

    indices: tuple[tuple[int, ...], ...]
    value: float = 0.0

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Every element exists."""
        if len(self.indices) != len(inputs[0]):
            raise self.refuse(f"has {len(self.indices)} lists of indices for {inputs[0]}")
        for axis, (indices, size) in enumerate(zip(self.indices, inputs[0], strict=True)):
            if indices and not -1 <= min(indices) <= max(indices) < size:
                raise self.refuse(f"indices of axis {axis} leave its {size} elements")
        if not is_float32(self.value):
            raise self.refuse(f"value is {self.value}, expected a finite float32")

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The length of each axis is the length of its list."""
        return tuple(map(len, self.lists(inputs[0])))

    def lists(self, shape: Shape) -> list[Indices]:
        """The index list of each axis, (length,) int64."""
        return [
            np.array(indices, np.int64) if indices else np.arange(size)
            for indices, size in zip(self.indices, shape, strict=True)
        ]

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """Elements of an input with `value` appended on every axis, where index -1 finds it."""
        x = inputs[0]
        ends = [(0, 0), *[(0, 1)] * len(self.indices)]
        padded = np.pad(x, ends, constant_values=np.float32(self.value))
        lists = self.lists(x.shape[1:])
        return np.asarray(padded[np.ix_(np.arange(len(x)), *lists)])

    @property
    def has_value(self) -> bool:
        """Whether some index is -1."""
        return any(-1 in indices for indices in self.indices)

    def makes_signs(self, signs: set[str]) -> bool:
        """If the input holds signs, and `value` is a sign or unused."""
        return self.input in signs and (not self.has_value or abs(self.value) == 1)

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If the input is not negative, and `value` is not negative or unused."""
        return self.input in nonnegative and (not self.has_value or self.value >= 0)

    def float_terms(self, shape: Shape, *, floats: bool = False) -> None:
        """Exact."""

    def lower(self, plan: PlanBuilder) -> None:
        """Copies of rows."""
        plan.gather(self, self.lists(plan.shape(self.input)), self.value)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Gather from the flattened input, to which the constant is appended."""
        gather_lists(graph, self, self.lists(graph.shapes[self.input]), self.value)


def gather_lists(graph: OnnxGraph, node: Node, lists: Sequence[Indices], value: float) -> None:
    """Emit ONNX nodes that pick elements by index lists; -1 is `value`."""
    shape, source = graph.shapes[node.input], node.input
    for axis, indices in enumerate(lists, 1):
        if (indices < 0).any():
            padded, pads = (
                graph.inner(f"{node.output}.padded{axis}"),
                np.zeros(2 * len(shape) + 2, np.int64),
            )
            pads[len(shape) + 1 + axis] = 1
            names = graph.constant(f"{padded}.pads", pads), graph.number(value)
            graph.emit("Pad", [source, *names], padded)
            source, indices = padded, np.where(indices < 0, shape[axis - 1], indices)
        last = axis == len(shape)
        taken = node.output if last else graph.inner(f"{node.output}.taken{axis}")
        index = graph.constant(f"{taken}.indices", indices)
        graph.emit("Gather", [source, index], taken, axis=axis)
        source = taken
