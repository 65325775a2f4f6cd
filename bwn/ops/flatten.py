"""Flatten (N, C, H, W) to (N, C * H * W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bwn.ir.node import Reals, Rearrangement, Shape, Tensors, elements
from bwn.ops.onnx_reading import BATCH, axes_of, reads
from bwn.ops.rearrange import Rearrange

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState, OnnxNode
    from bwn.plan.builder import PlanBuilder


class Flatten(Rearrangement, frozen=True, kw_only=True, tag="flatten"):
    """(N, C, H, W) to (N, C * H * W), in that order."""

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """All elements on one axis."""
        return (elements(inputs[0]),)

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The same elements."""
        return inputs[0].reshape(len(inputs[0]), -1)

    @property
    def moves_signs(self) -> bool:
        """The bits stay where they are."""
        return True

    def lower(self, plan: PlanBuilder) -> None:
        """A copy of planes to vectors, or nothing."""
        plan.flatten(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Flatten."""
        graph.emit("Flatten", [self.input], self.output, axis=1)


@reads("Flatten")
def read_flatten(state: ImportState, node: OnnxNode) -> None:
    """From axis 1."""
    source, shape = state.activation(node)
    if node.attrs.get("axis", 1) not in (1, -len(shape)):
        raise node.refuse(
            f"axis is {node.attrs['axis']}; only axis 1 (all but the batch) is supported"
        )
    _emit(state, node, source, shape)


def _emit(state: ImportState, node: OnnxNode, source: str, shape: Shape) -> None:
    """Emit a Flatten, or nothing where there is nothing to flatten."""
    if len(shape) == 1:
        state.alias(node)
    else:
        state.emit(Flatten(input=source, output=node.output))


@reads("Reshape")
def read_reshape(state: ImportState, node: OnnxNode) -> None:
    """To (N, -1), or to the shape that the tensor has."""
    source, shape = state.activation(node)
    target = [int(size) for size in state.constant(node, 1).reshape(-1)]
    full = (BATCH, *shape)
    if not node.attrs.get("allowzero", 0):
        target = [
            full[axis] if size == 0 and axis < len(full) else size
            for axis, size in enumerate(target)
        ]
    if state.single and target[:1] == [1]:
        target[0] = BATCH
    rest = target[1:]
    if target[:1] in ([-1], [BATCH]):
        if rest == [elements(shape)] or (rest == [-1] and target[0] == BATCH):
            _emit(state, node, source, shape)
            return
        if rest == list(shape):
            state.alias(node)
            return
        if len(rest) in (1, 3) and target[0] != -1 and rest.count(-1) == 1:
            rest[rest.index(-1)] = elements(shape) // max(1, -elements(tuple(rest)))
        if len(rest) in (1, 3) and elements(tuple(rest)) == elements(shape):
            size = (elements(shape),)
            wanted = tuple(rest)
            state.emit(
                Rearrange(input=source, output=node.output, shape=wanted, sizes=size, strides=(1,))
            )
            return
    shown = ["N" if size == BATCH else size for size in target]
    raise node.refuse(f"turns {('N', *shape)} into {shown}; only (N, all the rest) is supported")


@reads("Squeeze")
def read_squeeze(state: ImportState, node: OnnxNode) -> None:
    """Of (C, 1, 1) to (C,)."""
    source, shape = state.activation(node)
    axes = axes_of(node, state.optional(node, 1))
    wanted = axes is not None and sorted(axis % (len(shape) + 1) for axis in axes) == [2, 3]
    if not wanted or shape[1:] != (1, 1):
        raise node.refuse(
            f"removes axes {axes} of {('N', *shape)}; only (N, C, 1, 1) to (N, C) is supported"
        )
    _emit(state, node, source, shape)
