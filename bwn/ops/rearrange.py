"""Elements in another order or shape, left out or repeated: transpose, reshape, slice, expand."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Array, Reals, Rearrangement, Shape, Tensors, elements

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

MAX_AXES = 8


class Rearrange(Rearrangement, frozen=True, kw_only=True, tag="rearrange"):
    """y.reshape(sizes)[i0, i1, ...] = x.flat[offset + i0 * strides[0] + i1 * strides[1] + ...].

    Attributes:
        shape: Shape of the output.
        sizes: Lengths of the loop's axes; their product is the number of elements of the output.
        strides: Stride of each axis over the input's elements in row-major order; 0 repeats.
        offset: Index of the first element.
    """

    since = 4

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Every element exists."""
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise self.refuse(f"shape is {self.shape}, expected (C, H, W) or (K,)")
        axes = len(self.sizes)
        if axes != len(self.strides) or axes > MAX_AXES or min(self.sizes, default=1) < 1:
            raise self.refuse(
                f"sizes {self.sizes} with strides {self.strides}: expected as many, "
                f"at most {MAX_AXES}, and sizes of at least 1"
            )
        if prod(self.sizes) != elements(self.shape):
            raise self.refuse(f"sizes {self.sizes} do not fill the output, {self.shape}")
        steps = [(size - 1) * step for size, step in zip(self.sizes, self.strides, strict=True)]
        first = self.offset + sum(min(step, 0) for step in steps)
        last = self.offset + sum(max(step, 0) for step in steps)
        if first < 0 or last >= elements(inputs[0]):
            raise self.refuse(
                f"reads elements {first} to {last} of an input of {elements(inputs[0])}"
            )

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The given shape."""
        return self.shape

    def indices(self) -> npt.NDArray[np.int64]:
        """The flat input index of each output element, in order."""
        index = np.full(1, self.offset, np.int64)
        for size, stride in zip(self.sizes, self.strides, strict=True):
            index = np.add.outer(index, np.arange(size) * (stride if size > 1 else 0)).ravel()
        return index

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The same elements."""
        x = inputs[0].reshape(len(inputs[0]), -1)
        return np.asarray(x[:, self.indices()].reshape(len(x), *self.shape))

    def lower(self, plan: PlanBuilder) -> None:
        """Copies of rows, or none: a range of channels is a view of its input."""
        plan.rearrange(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Gather from the flattened input."""
        gather_flat(graph, self.input, self.output, self.indices(), self.shape)


def gather_flat(graph: OnnxGraph, source: str, output: str, indices: Array, shape: Shape) -> None:
    """Emit ONNX nodes that pick elements of each example by flat indices."""
    names = [graph.inner(f"{output}.{part}") for part in ("flat", "taken")]
    graph.emit("Flatten", [source], names[0], axis=1)
    index = graph.constant(f"{output}.indices", indices)
    graph.emit("Gather", [names[0], index], names[1], axis=1)
    target = graph.constant(f"{output}.shape", np.array([-1, *shape], np.int64))
    graph.emit("Reshape", [names[1], target], output)
