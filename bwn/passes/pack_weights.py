"""Pack weights that are binary by value into one bit each.

1. Float32 weights that are +-alpha[n] in every output channel n become packed words; alpha goes
   into the scale.
2. Where a channel has several magnitudes, alpha is midway between the least and the largest, if
   these are within `tolerance` of it, relative to it: code that trains through sign(w) leaves
   +-alpha * (1 + a few roundings). Equal magnitudes stay exact. Any other channel keeps the layer
   float32.
3. The weights of a Conv are put in the order k = (ky * KW + kx) * channels + c.
4. Where every alpha is 1 the scale is left as it is, or absent.
5. Weights that two layers share become one packed tensor.
6. Rows so short that words and a scale would take more bytes than the floats (K <= 2) stay float32.
7. A channel of zeros has alpha 0, and +1 in every bit; a layer of nothing else stays float32.

Why midway: no other alpha has a smaller largest departure, so nothing packs at a smaller tolerance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.ops.weighted import Weighted
from bwn.passes.rewrite import Rewrite

TOLERANCE = 1e-4
LARGEST_TOLERANCE = 0.01


def pack_weights(graph: Graph, tolerance: float = TOLERANCE) -> Graph:
    """`graph` with the weights packed of each layer whose weights are binary by value.

    Args:
        graph: A legal graph.
        tolerance: How far magnitudes may be from alpha, relative to it; 0: equal ones only.
    """
    rewrite = Rewrite(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted):
            weight = graph.tensors[node.weight]
            alpha = magnitudes(weight, tolerance)
            if alpha is not None:
                rewrite.tensors[node.weight] = words(weight)
                node = replace(node, scale=scaled(rewrite, node, alpha))
        nodes.append(node)
    return rewrite.result(nodes)


def magnitudes(weight: Array, tolerance: float) -> npt.NDArray[np.float32] | None:
    """alpha, (outputs,) float32, of weights to pack by rules 1, 2, 6 and 7; None for all others."""
    if weight.dtype != np.float32 or weight[0].size <= 2:
        return None
    alpha, departure = middles(weight)
    return alpha if alpha.any() and (departure <= tolerance).all() else None


def middles(weight: Array) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """The middle magnitude of each output channel, and how far magnitudes are from it.

    Args:
        weight: (outputs, ...) float32.

    Returns:
        alpha: (outputs,) float32; of equal magnitudes, exactly these.
        departure: (outputs,) float64: max | |w| - alpha | / alpha, 0 for a channel of zeros.
    """
    rows = np.abs(weight.astype(np.float32, copy=False).reshape(len(weight), -1))
    low, high = rows.min(axis=1), rows.max(axis=1)
    alpha = ((low.astype(np.float64) + high) / 2).astype(np.float32)
    size = alpha.astype(np.float64)
    farthest = np.maximum(size - low, high - size)
    return alpha, farthest / np.where(size > 0, size, 1)


def departures(source: Graph, packed: Graph) -> dict[str, float]:
    """How far weights of `source` are from the +-alpha that `packed` holds, by name.

    Exact layers, and layers whose signs differ, are left out.

    Args:
        source: The graph before packing.
        packed: The packed graph.

    Returns:
        max | |w| - alpha | / alpha over the output channels, at most LARGEST_TOLERANCE.
    """
    largest: dict[str, float] = {}
    for node in packed.nodes:
        if not isinstance(node, Weighted) or not node.is_packed(packed.tensors):
            continue
        weight = source.tensors.get(node.weight)
        if weight is None or weight.dtype != np.float32:
            continue
        departure = float(middles(weight)[1].max())
        if 0 < departure <= LARGEST_TOLERANCE and np.array_equal(
            words(weight), packed.tensors[node.weight]
        ):
            largest[node.weight] = departure
    return largest


def words(weight: Array) -> npt.NDArray[np.uint64]:
    """Packed words of float32 weights, (outputs, K) or (outputs, C / groups, KH, KW)."""
    if weight.ndim == 4:
        weight = weight.transpose(0, 2, 3, 1)  # (outputs, KH, KW, C / groups)
    return bits.pack(weight.reshape(weight.shape[0], -1))


def scaled(rewrite: Rewrite, node: Weighted, alpha: npt.NDArray[np.float32]) -> str | None:
    """Store the scale of `node` times alpha. Returns its name, or None without a scale."""
    if (alpha == 1).all():
        return node.scale
    scale = alpha if node.scale is None else rewrite.wide(node.scale) * alpha
    return rewrite.store(f"{node.output}.scale", scale)
