"""Where with a constant condition: elements of an activation, and one number elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bwn.ops.gather import Gather

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


def read_masked(state: ImportState, node: OnnxNode) -> None:
    """Read as a Gather whose index -1 is the number, or as a view if all elements are kept."""
    at = 2 if state.is_constant(node, 1) else 1
    mask = state.constant(node, 0).astype(bool) == (at == 1)
    view, name = state.whole(node, at), f"{node.output}.mask"
    state.constants[name] = mask.astype(np.float32)
    kept = state.weights_like(replace(node, inputs=(name,)), 0, view) != 0
    if kept.all():
        state.set_view(node, view)
        return
    value = state.weights(node, 3 - at)
    axes = range(kept.ndim)
    lines = [
        np.broadcast_to(kept.any(tuple(other for other in axes if other != axis)), size)
        for axis, size in enumerate(view.shape)
    ]
    separable = np.ones(view.shape, bool)
    for axis, line in enumerate(lines):
        separable = separable & line.reshape([-1 if axis == other else 1 for other in axes])
    if value.size != 1 or (separable != kept).any():
        raise node.refuse("is supported with one number and a condition of whole rows or columns")
    indices = tuple(
        () if line.all() else tuple(int(i) for i in np.where(line, np.arange(len(line)), -1))
        for line in lines
    )
    layer = Gather(
        input=view.source, output=node.output, indices=indices, value=float(value.item())
    )
    state.emit(layer, like=view)
