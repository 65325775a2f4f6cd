"""Concatenation of tensors along the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Reals, Rearrangement, Shape, Tensors
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState, OnnxNode
    from bwn.plan.builder import PlanBuilder


class Concat(Rearrangement, frozen=True, kw_only=True, tag="concat"):
    """y = x, then the others, along the channels."""

    since = 3

    others: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """All parts in order."""
        return (self.input, *self.others)

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The channels added up."""
        first, *others = inputs
        if not others or any(
            len(shape) != len(first) or shape[1:] != first[1:] for shape in others
        ):
            shapes = ", ".join(map(str, inputs))
            raise self.refuse(f"joins {shapes}, expected two or more of one height and width")
        return (sum(shape[0] for shape in inputs), *first[1:])

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """Channels are axis 1."""
        return np.concatenate([x.astype(np.float64) for x in inputs], axis=1)

    def lower(self, plan: PlanBuilder) -> None:
        """Parts are made where they belong, as views of one buffer; a second use is copied."""
        plan.join(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Concat on axis 1."""
        graph.emit("Concat", list(self.inputs), self.output, axis=1)


@reads("Concat")
def read_concat(state: ImportState, node: OnnxNode) -> None:
    """On axis 1; of one input, another name of it."""
    parts = [state.activation(node, index) for index in range(len(node.inputs))]
    rank = len(parts[0][1]) + 1
    if node.attrs["axis"] % rank != 1 % rank:
        raise node.refuse(f"joins axis {node.attrs['axis']}, expected axis 1, the channels")
    if len(parts) == 1:
        state.alias(node)
        return
    names = [name for name, _ in parts]
    state.emit(Concat(input=names[0], others=tuple(names[1:]), output=node.output))
