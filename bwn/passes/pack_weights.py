"""Pack weights that are binary by value: one bit each.

1. Float32 weights whose every output channel is +-alpha, alpha > 0, become words; alpha goes into the scale.
2. A channel with two magnitudes, even in the last bit, or with a zero: the layer stays float32. Exporters that fold a
   batch norm multiply a whole channel by one number, which keeps +-alpha exact, so nothing looser is needed.
3. The weights of a Conv are put in the order k = (ky * KW + kx) * (C / groups) + c.
4. Where every alpha is 1 the scale stays as it was, and missing if it was missing.
5. Weights that two layers share become one tensor of words.
6. Rows so short that words and a scale would take more bytes than the floats (K <= 2) stay float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.ops import Weighted


def pack_weights(graph: Graph) -> Graph:
    """`graph` with every product packed whose weights are binary by value."""
    tensors = dict(graph.tensors)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted):
            alpha = magnitudes(graph.tensors[node.weight])
            if alpha is not None:
                weight = graph.tensors[node.weight]
                tensors[node.weight] = words(weight)
                node = replace(node, scale=scaled(graph, tensors, node, alpha))
        nodes.append(node)
    return graph.replace(nodes, tensors)


def magnitudes(weight: Array) -> npt.NDArray[np.float32] | None:
    """alpha: (out,) float32 of weights that are +-alpha[n] in each output channel and worth packing; else None."""
    if weight.dtype != np.float32:
        return None
    rows = np.abs(weight.astype(np.float32, copy=False).reshape(weight.shape[0], -1))
    alpha = rows[:, 0].copy()
    if rows.shape[1] <= 2 or not (alpha > 0).all() or not (rows == alpha[:, None]).all():
        return None
    return alpha


def words(weight: Array) -> npt.NDArray[np.uint64]:
    """Words of float32 weights, (out, K) or (out, C / groups, KH, KW)."""
    if weight.ndim == 4:
        weight = weight.transpose(0, 2, 3, 1)  # (out, KH, KW, C / groups)
    return bits.pack(weight.reshape(weight.shape[0], -1))


def scaled(
    graph: Graph, tensors: dict[str, Array], node: Weighted, alpha: npt.NDArray[np.float32]
) -> str | None:
    """Name of the scale of `node` once alpha is in it."""
    if (alpha == 1).all():
        return node.scale
    if node.scale is not None:
        alpha = (graph.tensors[node.scale].astype(np.float64) * alpha).astype(np.float32)
    name = graph.free_name(f"{node.output}.scale", tensors)
    tensors[name] = alpha
    return name
