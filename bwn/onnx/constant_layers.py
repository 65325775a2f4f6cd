"""Constant folding of convolutions, read as the layers of a graph and computed in float64.

Exporters leave a convolution of positions in the graph of a network that embeds them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import structs

from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Array
from bwn.onnx.import_state import ImportState
from bwn.onnx.onnx_node import Allowance, OnnxNode
from bwn.onnx.views import View
from bwn.ops.onnx_reading import READERS

LAYERS = frozenset(["Conv", "ConvTranspose"])
MOST_WORK = 2**27
"""Products of numbers of which a constant may be made."""


def compute_layer(
    node: OnnxNode, inputs: Sequence[Array | None], opset: int, allowance: Allowance
) -> Array | None:
    """The output of a layer of a constant; None where it is too much work.

    Raises:
        GraphError: It is not legal, or too large.
    """
    x, name = inputs[0], node.inputs[0]
    if x is None or x.ndim not in (3, 4) or x.dtype != np.float32 or not x.size:
        return None
    images = x if x.ndim == 4 else x[:, :, None]
    state = ImportState(name, images.shape[1:], opset)
    state.allowance = allowance
    state.views[name] = View.of(name, images.shape[1:], None if x.ndim == 4 else (0, 2))
    state.constants = {
        name: array
        for name, array in zip(node.inputs[1:], inputs[1:], strict=True)
        if array is not None
    }
    READERS[node.op_type](state, node)
    work = 0
    for layer in state.nodes:
        shapes = [state.shapes[name] for name in layer.inputs]
        work += layer.macs(shapes, state.shapes[layer.output]) * len(x)
    if work > MOST_WORK:
        return None
    allowance.check(node, 8 * work)
    topology = structs.replace(state.topology, nodes=tuple(state.nodes))
    graph = Graph(topology=topology, tensors=state.tensors)
    y = evaluate(graph, images)[state.views[node.output].source].astype(np.float32)
    allowance.take(node, y.nbytes)
    return y if x.ndim == 4 else y[:, :, 0]
