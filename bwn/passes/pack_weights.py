"""Pack weights that are binary by value into one bit each.

1. Float32 weights that are +-alpha[n], alpha[n] > 0, in every output channel n become packed words;
   alpha goes into the scale.
2. Where a channel has two magnitudes, even if only the last bit differs, or a zero, the layer stays
   float32. Exporters that fold a batch norm multiply a whole channel by one number, which keeps
   +-alpha exact, so no tolerance is needed.
3. The weights of a Conv are put in the order k = (ky * KW + kx) * (C / groups) + c.
4. Where every alpha is 1 the scale is left as it is, or absent.
5. Weights that two layers share become one packed tensor.
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
    """`graph` with the weights packed of each layer whose weights are binary by value."""
    tensors = dict(graph.tensors)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted):
            weight = graph.tensors[node.weight]
            alpha = magnitudes(weight)
            if alpha is not None:
                tensors[node.weight] = words(weight)
                node = replace(node, scale=scaled(graph, tensors, node, alpha))
        nodes.append(node)
    return graph.replace(nodes, tensors)


def magnitudes(weight: Array) -> npt.NDArray[np.float32] | None:
    """alpha, (outputs,) float32, of weights to pack by rules 1 and 6; None for all others."""
    if weight.dtype != np.float32:
        return None
    rows = np.abs(weight.astype(np.float32, copy=False).reshape(weight.shape[0], -1))
    alpha = rows[:, 0].copy()
    if rows.shape[1] <= 2 or not (alpha > 0).all() or not (rows == alpha[:, None]).all():
        return None
    return alpha


def words(weight: Array) -> npt.NDArray[np.uint64]:
    """Packed words of float32 weights, (outputs, K) or (outputs, C / groups, KH, KW)."""
    if weight.ndim == 4:
        weight = weight.transpose(0, 2, 3, 1)  # (outputs, KH, KW, C / groups)
    return bits.pack(weight.reshape(weight.shape[0], -1))


def scaled(
    graph: Graph, tensors: dict[str, Array], node: Weighted, alpha: npt.NDArray[np.float32]
) -> str | None:
    """Store the scale of `node` times alpha. Returns its name, or None without a scale."""
    if (alpha == 1).all():
        return node.scale
    if node.scale is not None:
        with np.errstate(over="ignore"):  # the checker refuses what overflows, by name
            alpha = (graph.tensors[node.scale].astype(np.float64) * alpha).astype(np.float32)
    name = graph.free_name(f"{node.output}.scale", tensors)
    tensors[name] = alpha
    return name
