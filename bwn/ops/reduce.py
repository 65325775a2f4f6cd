"""Means, sums, maxima and norms over some axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from bwn.ir.node import Node, Reals, Shape, Tensors, elements, largest

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Kind = Literal["mean", "sum", "max", "min", "l1", "l2", "sum_square"]

ONNX_OPS: dict[Kind, str] = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "max": "ReduceMax",
    "min": "ReduceMin",
    "l1": "ReduceL1",
    "l2": "ReduceL2",
    "sum_square": "ReduceSumSquare",
}


class Reduce(Node, frozen=True, kw_only=True, tag="reduce"):
    """y = kind of x over some axes, whose sizes become 1.

    Attributes:
        kind: l1 is sum |x|, l2 is sqrt(sum x**2), sum_square is sum x**2.
        axes: Axes of one example, in order: 0, 1, 2 for (C, H, W), 0 for (K,).
    """

    since = 4

    kind: Kind
    axes: tuple[int, ...]

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """The axes exist, each once, in order."""
        rank = len(inputs[0])
        if not self.axes or list(self.axes) != sorted({*self.axes} & {*range(rank)}):
            raise self.refuse(f"axes are {self.axes} of an input of {rank} axes")

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The input's shape, with size 1 on the axes."""
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(inputs[0]))

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        x, axes = inputs[0].astype(np.float64), tuple(axis + 1 for axis in self.axes)
        with np.errstate(all="ignore"):
            return np.asarray(
                {
                    "mean": lambda: x.mean(axes, keepdims=True),
                    "sum": lambda: x.sum(axes, keepdims=True),
                    "max": lambda: x.max(axes, keepdims=True),
                    "min": lambda: x.min(axes, keepdims=True),
                    "l1": lambda: np.abs(x).sum(axes, keepdims=True),
                    "l2": lambda: np.sqrt((x * x).sum(axes, keepdims=True)),
                    "sum_square": lambda: (x * x).sum(axes, keepdims=True),
                }[self.kind]()
            )

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If it is a norm, or the input is not negative."""
        return self.kind in ("l1", "l2", "sum_square") or self.input in nonnegative

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int | None:
        """The numbers that it sums; maxima and minima are exact."""
        return None if self.kind in ("max", "min") else prod(shape[axis] for axis in self.axes)

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The same reduction of the absolute values."""
        return largest(self.reference([np.abs(inputs[0])], tensors))

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Every element of its input."""
        return elements(inputs[0])

    def lower(self, plan: PlanBuilder) -> None:
        """One step."""
        plan.reduce(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """The ONNX operation, with axes as opset 17 has them."""
        axes = [axis + 1 for axis in self.axes]
        if self.kind == "sum":
            name = graph.constant(f"{self.output}.axes", np.array(axes, np.int64))
            graph.emit("ReduceSum", [self.input, name], self.output)
        else:
            graph.emit(ONNX_OPS[self.kind], [self.input], self.output, axes=axes)
