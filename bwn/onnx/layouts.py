"""Inputs of an ONNX operation that works on any axes, read as they lie in memory.

The channels-last tensors of a Keras network are views of tensors that lie channels first. An
operation that can work on any axis works on those, and its output is such a view again.
"""

from __future__ import annotations

from itertools import permutations
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bwn.ir.node import Array, Node, Shape

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.onnx.views import View


class InLayout(NamedTuple):
    """Inputs in one layout.

    Attributes:
        node: The ONNX node.
        names: The tensors of the graph.
        shapes: Their shapes.
        order: For each ONNX axis, its axis in (N, *shape); 0 of the batch, and of what is folded.
        view: One of the inputs, to make views of; None where they are in ONNX's order.
        folded: Whether shapes are (before, axis, after), of one ONNX axis and all others.
    """

    node: OnnxNode
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    order: tuple[int, ...]
    view: View | None
    folded: bool = False

    def axis(self, number: int) -> int:
        """The axis of a shape that is an ONNX axis. Raises GraphError for the batch, or none."""
        place = self.order[self.node.axis(number, len(self.order))]
        if not place:
            raise self.node.refuse("works on axis 0, the batch; examples must stay independent")
        return place - 1

    def emit(self, state: ImportState, node: Node) -> str:
        """Emit a node that keeps the layout. Returns the name of the tensor that it makes."""
        if self.view is None:
            state.emit(node)
            return node.output
        shape = node.output_shape([state.shapes[name] for name in node.inputs], state.tensors)
        if self.folded:
            state.emit(node, like=self.view.resized(self.order.index(2), shape))
        else:
            state.emit(node, like=self.view.of(node.output, shape).transpose(self.order))
        return state.views[node.output].source

    def arranged(self, array: Array) -> Array | None:
        """A constant of as many axes as the inputs, (1, ...), in this layout; None: impossible."""
        if array.shape[0] != 1:
            return None
        if self.view is not None and self.folded:
            axis, sizes = self.order.index(2), [size.count for size in self.view.sizes]
            sizes[axis] = array.shape[axis]
            batch = [axis for axis, size in enumerate(self.view.sizes) if size.batch]
            fits = batch == [0] and array.shape == tuple(sizes)
            shape = (prod(sizes[:axis]), sizes[axis], prod(sizes[axis + 1 :]))
            return array.reshape(shape) if fits else None
        moved = array.transpose(np.argsort(self.order))
        rank = max(self.order)
        sizes = [1] * (rank + 1)
        for place, size in zip(sorted(self.order), moved.shape, strict=True):
            sizes[place] = size
        return moved.reshape(sizes[1:])


def in_layout(state: ImportState, node: OnnxNode, count: int = 1) -> InLayout:
    """The first inputs of a node as they lie, if all lie alike; else copied to ONNX's order."""
    views = [state.view(node, index) for index in range(count)]
    first = views[0]
    orders = [(0, *last) for last in permutations(range(1, 4))] if first.rank == 4 else []
    fits = [order for order in orders if all(has_order(view, order) for view in views)]
    if fits and fits[0] != orders[0]:  # else in ONNX's order, which comes first
        names, shapes, *_ = zip(*views, strict=True)
        return InLayout(node, names, shapes, fits[0], first)
    names, shapes = zip(*(state.activation(node, index) for index in range(count)), strict=True)
    # (N, C, L) is (C, 1, L).
    order = (0, 1, 3) if first.rank == 3 else (0, 1, 2, 3)[: first.rank]
    return InLayout(node, names, shapes, order, None)


def in_layout_along(state: ImportState, node: OnnxNode, number: int, count: int = 1) -> InLayout:
    """As `in_layout`, for an operation along one ONNX axis, of tensors of any axes.

    Those that are not (N, C, H, W), (N, C, L) or (N, K) are copied to (before, axis, after).
    """
    views = [state.view(node, index) for index in range(count)]
    first = views[0]
    if all(view.is_ordinary for view in views):
        return in_layout(state, node, count)
    axis = node.axis(number, first.rank)
    others = [place for place in range(first.rank) if place != axis]
    if any(
        view.rank != first.rank
        or view.sizes[axis].batch
        or any(view.place(other) != first.place(other) for other in others)
        for view in views
    ):
        shown = ", ".join(map(str, views))
        raise node.refuse(f"works on axis {axis} of {shown}; examples must stay independent")
    before, after = (
        prod(first.sizes[place].count for place in part)
        for part in (range(axis), range(axis + 1, first.rank))
    )
    shapes = tuple((before, view.sizes[axis].count, after) for view in views)
    names = tuple(
        state.copied(view, view.factors, shape, f"{name}.planes")
        for view, shape, name in zip(views, shapes, node.inputs, strict=False)
    )
    order = tuple(2 if place == axis else 0 for place in range(first.rank))
    return InLayout(node, names, shapes, order, first, folded=True)


def has_order(view: View, order: tuple[int, ...]) -> bool:
    """Whether a view is all of a tensor with its axes in this order."""
    whole = len(view.shape) == 3 and view.of(view.source, view.shape).transpose(order)
    return view == whole
