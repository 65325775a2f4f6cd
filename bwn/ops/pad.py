"""Padding: a constant, or the input's own elements, around a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from bwn.ir.node import Node, Reals, Shape, Tensors, is_float32
from bwn.ops.gather import Indices, gather_lists
from bwn.ops.window import MAX_ATTRIBUTE

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Mode = Literal["constant", "reflect", "edge", "wrap"]


class Pad(Node, frozen=True, kw_only=True, tag="pad"):
    """x with elements added at both ends of its axes.

    Attributes:
        pads: Elements before each axis, then after each.
        mode: How they are filled: with `value` (constant), the input mirrored at its first or last
            element (reflect), that element (edge), or the input from its other end (wrap).
        value: Number that mode constant adds.
    """

    since = 4

    pads: tuple[int, ...]
    mode: Mode = "constant"
    value: float = 0.0

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """There are two pads for each axis, no larger than the mode has elements for."""
        (shape,) = inputs
        most = [
            size - 1 if self.mode == "reflect" else size if self.mode == "wrap" else MAX_ATTRIBUTE
            for size in (*shape, *shape)
        ]
        if len(self.pads) != len(most) or not all(
            0 <= pad <= limit for pad, limit in zip(self.pads, most, strict=True)
        ):
            raise self.refuse(f"pads of mode {self.mode} are {self.pads}, expected 0 to {most}")
        if not is_float32(self.value) or (self.value and self.mode != "constant"):
            raise self.refuse(f"value is {self.value} of mode {self.mode}, expected finite or 0")

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """Each axis plus its pads."""
        rank = len(inputs[0])
        return tuple(
            size + before + after
            for size, before, after in zip(
                inputs[0], self.pads[:rank], self.pads[rank:], strict=True
            )
        )

    def lists(self, shape: Shape) -> list[Indices]:
        """The input's index for each output index of each axis; -1 is `value`."""
        widths = zip(self.pads[: len(shape)], self.pads[len(shape) :], strict=True)
        return [
            np.pad(np.arange(size), width, constant_values=-1)
            if self.mode == "constant"
            else np.pad(np.arange(size), width, mode=self.mode)
            for size, width in zip(shape, widths, strict=True)
        ]

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """numpy's pad."""
        rank = len(self.pads) // 2
        widths = [(0, 0), *zip(self.pads[:rank], self.pads[rank:], strict=True)]
        if self.mode == "constant":
            return np.pad(inputs[0], widths, constant_values=np.float32(self.value))
        return np.pad(inputs[0], widths, mode=self.mode)

    def makes_signs(self, signs: set[str]) -> bool:
        """If the input holds signs, and so does the padding."""
        return self.input in signs and (self.mode != "constant" or abs(self.value) == 1)

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If neither the input nor the padding is negative."""
        return self.input in nonnegative and self.value >= 0

    def float_terms(self, shape: Shape, *, floats: bool = False) -> None:
        """Exact."""

    def lower(self, plan: PlanBuilder) -> None:
        """Copies of rows."""
        plan.gather(self, self.lists(plan.shape(self.input)), self.value)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Pad, or Gather for mode wrap, which Pad lacks in opset 17."""
        rank = len(self.pads) // 2
        if self.mode == "wrap":
            gather_lists(graph, self, self.lists(graph.shapes[self.input]), 0.0)
            return
        pads = np.array([0, *self.pads[:rank], 0, *self.pads[rank:]], np.int64)
        names = [graph.constant(f"{self.output}.pads", pads)]
        if self.mode == "constant":
            names.append(graph.number(self.value))
        graph.emit("Pad", [self.input, *names], self.output, mode=self.mode)
