"""Concatenation of tensors along one axis, mostly the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Reals, Rearrangement, Shape, Tensors

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder


class Concat(Rearrangement, frozen=True, kw_only=True, tag="concat"):
    """y = x, then the others, along an axis.

    Attributes:
        others: Names of the other tensors.
        axis: 0 for the channels, 1 for rows, 2 for columns.
    """

    others: tuple[str, ...]
    axis: int = 0

    @property
    def since(self) -> int:  # type: ignore[override]
        """Version 3 of the file only concatenates channels."""
        return 4 if self.axis else 3

    @property
    def inputs(self) -> tuple[str, ...]:
        """All parts in order."""
        return (self.input, *self.others)

    @property
    def joins_channels(self) -> bool:
        """If it joins along axis 0."""
        return self.axis == 0

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The sum of the lengths along the axis."""
        axis, (first, *others) = self.axis, inputs
        if not 0 <= axis < len(first):
            raise self.refuse(f"axis is {axis}, expected 0 to {len(first) - 1}")
        before, after = first[:axis], first[axis + 1 :]
        if not others or any(
            len(shape) != len(first) or (shape[:axis], shape[axis + 1 :]) != (before, after)
            for shape in others
        ):
            shapes = ", ".join(map(str, inputs))
            raise self.refuse(
                f"joins {shapes}, expected two or more that differ only in axis {axis}"
            )
        return (*before, sum(shape[axis] for shape in inputs), *after)

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """Axis 0 of an example is axis 1 of a batch."""
        return np.concatenate([x.astype(np.float64) for x in inputs], axis=self.axis + 1)

    def lower(self, plan: PlanBuilder) -> None:
        """Channels are made where they belong, as views of one buffer; other parts are copied."""
        plan.join(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Concat."""
        graph.emit("Concat", list(self.inputs), self.output, axis=self.axis + 1)
