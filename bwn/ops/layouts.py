"""Inputs of an ONNX operation that works on any axes, read as they lie in memory.

The channels-last tensors of a Keras network are views of tensors that lie channels first. An
operation that can work on any axis works on those, and its output is such a view again.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

from bwn.ir.node import Node, Shape

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.onnx.views import View


class Laid(NamedTuple):
    """Inputs in one layout.

    Attributes:
        node: The ONNX node.
        names: The tensors of the graph.
        shapes: Their shapes.
        order: For each ONNX axis, its axis in (N, *shape).
        view: One of the inputs, to make views of; None where they are in ONNX's order.
    """

    node: OnnxNode
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    order: tuple[int, ...]
    view: View | None

    def axis(self, number: int) -> int:
        """The axis of a shape that is an ONNX axis. Raises GraphError for the batch, or none."""
        rank = len(self.order)
        if not -rank <= number < rank:
            raise self.node.refuse(f"axis {number} of a tensor of {rank} axes")
        if number % rank == 0:
            raise self.node.refuse("works on axis 0, the batch; examples must stay independent")
        return self.order[number % rank] - 1

    def emit(self, state: ImportState, node: Node) -> str:
        """Emit a node that keeps the layout. Returns the name of the tensor that it makes."""
        if self.view is None:
            state.emit(node)
            return node.output
        shape = node.output_shape([state.shapes[name] for name in node.inputs], state.tensors)
        state.emit(node, like=self.view.of(node.output, shape).transpose(self.order))
        return state.views[node.output].source


def laid(state: ImportState, node: OnnxNode, count: int = 1) -> Laid:
    """The first inputs of a node as they lie, if all lie alike; else copied to ONNX's order."""
    views = [state.view(node, index) for index in range(count)]
    first = views[0]
    orders = [(0, *last) for last in permutations(range(1, 4))] if first.rank == 4 else []
    fits = [order for order in orders if all(lies(view, order) for view in views)]
    if fits and fits[0] != orders[0]:  # else in ONNX's order, which comes first
        names, shapes, *_ = zip(*views, strict=True)
        return Laid(node, names, shapes, fits[0], first)
    names, shapes = zip(*(state.activation(node, index) for index in range(count)), strict=True)
    # (N, C, L) is (C, 1, L).
    order = (0, 1, 3) if first.rank == 3 else (0, 1, 2, 3)[: first.rank]
    return Laid(node, names, shapes, order, None)


def lies(view: View, order: tuple[int, ...]) -> bool:
    """Whether a view is all of a tensor with its axes in this order."""
    whole = len(view.shape) == 3 and view.of(view.source, view.shape).transpose(order)
    return view == whole
