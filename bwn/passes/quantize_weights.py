"""Round float32 weights to int8, for layers that read 8-bit activations.

    w[n, k] ~ scale[n] * q[n, k],    q = rint(w / scale),    scale[n] = max_k |w[n, k]| / 127

1. The scale of each output channel joins the scale of the layer, rounded to float32.
2. A channel of zeros has scale 1.
3. Layers of K <= 2 stay float32, since integers and a scale would take more bytes; so do those
   whose sums an int32 might not hold.
4. Weights that two layers share become one tensor.

Integers that come back as floats, with a scale after the layer, become the same integers, since the
largest of each channel is 127.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.kernels.gemm.depths import INT8_MAX_DEPTH
from bwn.ops.weighted import INT8_WEIGHT_LIMIT, Weighted
from bwn.passes.pack_weights import scaled
from bwn.passes.rewrite import Rewrite


def quantize_weights(graph: Graph) -> Graph:
    """`graph` with int8 weights in place of float32 ones; legal once `set_activations` has run.

    Args:
        graph: A legal graph.
    """
    rewrite = Rewrite(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted):
            weight = graph.tensors[node.weight]
            if weight.dtype == np.float32 and 2 < weight[0].size <= INT8_MAX_DEPTH:
                rewrite.tensors[node.weight], scale = to_int8(weight)
                node = replace(node, scale=scaled(rewrite, node, scale))
        nodes.append(node)
    return rewrite.result(nodes)


def to_int8(weight: Array) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """The integers of float32 weights, and the scale of each output channel, (outputs,)."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    scale = (np.abs(rows).max(axis=1) / INT8_WEIGHT_LIMIT).astype(np.float32)
    scale[scale == 0] = 1
    integers = np.rint(rows / scale[:, None]).clip(-INT8_WEIGHT_LIMIT, INT8_WEIGHT_LIMIT)
    return integers.astype(np.int8).reshape(weight.shape), scale
