"""The reference interpreter: a graph computed node by node in float64 or exact integers.

`bwn verify` and the planner's tests hold the fast kernels to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bwn.ir.graph import Graph
from bwn.ir.node import Floats, Node, Reals


def evaluate(graph: Graph, x: Reals) -> dict[str, Floats]:
    """Every activation tensor of a graph, by name.

    Args:
        graph: A legal graph.
        x: (N, *input_shape), any real type.
    """
    tensors: dict[str, Floats] = {graph.topology.input: x.astype(np.float64)}
    for node in graph.nodes:
        tensors[node.output] = evaluate_node(graph, node, [tensors[name] for name in node.inputs])
    return tensors


def evaluate_node(graph: Graph, node: Node, inputs: Sequence[Reals]) -> Floats:
    """The output of one node in float64, batch axis first.

    Args:
        graph: Whose stored tensors the node reads.
        node: The node.
        inputs: The arrays of `node.inputs`, (N, ...), any real type. Nodes that quantize their
            input round it to float32 first.
    """
    return node.reference(inputs, graph.tensors).astype(np.float64)
