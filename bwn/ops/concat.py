"""Concatenation of tensors along one axis, mostly the channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Reals, Rearrangement, Shape, Tensors
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.layouts import Laid, laid
from bwn.ops.onnx_reading import reads
from bwn.ops.pad import Pad

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
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
        """Version 3 has only channels."""
        return 4 if self.axis else 3

    @property
    def inputs(self) -> tuple[str, ...]:
        """All parts in order."""
        return (self.input, *self.others)

    @property
    def joins_channels(self) -> bool:
        """On axis 0."""
        return self.axis == 0

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The lengths of the axis added up."""
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


@reads("Concat")
def read_concat(state: ImportState, node: OnnxNode) -> None:
    """Of any axis but the batch; of one input, another name of it."""
    places = range(len(node.inputs))
    activations = [index for index in places if not state.is_array(node, index)]
    if 0 < len(activations) < len(places):
        read_with_constants(state, node, activations)
        return
    parts = laid(state, node, len(node.inputs))
    axis = parts.axis(node.attrs["axis"])
    if len(node.inputs) == 1:
        state.alias(node)
        return
    first, *others = parts.names
    joined = Concat(input=first, others=tuple(others), output=node.output, axis=axis)
    parts.emit(state, joined)


def read_with_constants(state: ImportState, node: OnnxNode, activations: list[int]) -> None:
    """Constants before and after activations: zeros around these, to which constants are added."""
    start, end = activations[0], activations[-1] + 1
    if len(activations) != end - start:
        raise node.refuse("joins constants between activations, which is not supported")
    inner = dataclasses.replace(node, inputs=node.inputs[start:end])
    parts = laid(state, inner, len(activations))
    axis = parts.axis(node.attrs["axis"])
    first, *others = parts.names
    if others:
        joined = Concat(
            input=first, others=tuple(others), output=f"{node.output}.activations", axis=axis
        )
        first = parts.emit(state, joined)
    shape = state.shapes[first]
    arrays = [
        [as_laid(state, node, index, parts, axis, shape) for index in indices]
        for indices in (range(start), range(end, len(node.inputs)))
    ]
    pads = [0] * (2 * len(shape))
    for half, constants in enumerate(arrays):
        pads[axis + half * len(shape)] = sum(array.shape[axis] for array in constants)
    padded = Pad(input=first, output=f"{node.output}.padded", pads=tuple(pads))
    whole = np.concatenate([*arrays[0], np.zeros(shape, np.float32), *arrays[1]], axis)
    name = parts.emit(state, padded)
    stored = state.store(f"{node.output}.constant", whole)
    parts.emit(state, Arithmetic(input=name, output=node.output, function="add", constant=stored))


def as_laid(
    state: ImportState, node: OnnxNode, index: int, parts: Laid, axis: int, shape: Shape
) -> npt.NDArray[np.float32]:
    """A constant input as it lies beside tensors of `shape`, of any length on the axis."""
    array = state.weights(node, index, rank=len(parts.order))
    if array.ndim == len(parts.order) and array.shape[0] == 1:
        moved = array.transpose(np.argsort(parts.order))
        sizes = [1] * (len(shape) + 1)
        for place, size in zip(sorted(parts.order), moved.shape, strict=True):
            sizes[place] = size
        moved = moved.reshape(sizes[1:])
        if all(
            a == b or n == axis for n, (a, b) in enumerate(zip(moved.shape, shape, strict=True))
        ):
            return moved
    raise node.refuse(f"'{node.inputs[index]}' has shape {array.shape}, which does not fit")
