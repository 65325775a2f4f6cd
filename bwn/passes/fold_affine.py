"""Fold per-channel affine maps (batch norm, biases, scalings) into the node before.

1. An Affine after a layer with weights goes into its scale and bias:
   a * (s * sum + b) + c = (a * s) * sum + (a * b + c).
2. Two Affines become one.
3. Not if the layer clamps: its bounds apply between the two.
4. Not if something else reads the layer's output, or it is the graph's output.
5. Not if a folded number overflows float32.

Folding is computed in float64 and rounded once. The folded node makes the Affine's tensor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.ops.affine import Affine
from bwn.ops.weighted import Weighted
from bwn.passes.merging import merged

Wide = npt.NDArray[np.float64]


def fold_affine(graph: Graph) -> Graph:
    """`graph` with each Affine folded into the node before it where that is possible."""
    tensors = dict(graph.tensors)
    nodes = merged(graph, lambda before, node: fold(graph, tensors, before, node))
    return graph.replace(nodes, tensors)


def fold(graph: Graph, tensors: dict[str, Array], before: Node, affine: Node) -> Node | None:
    """`before` with `affine` in its scale and bias; None where a rule above forbids it."""
    if not isinstance(affine, Affine) or not isinstance(before, (Weighted, Affine)):
        return None
    if isinstance(before, Weighted) and (before.low is not None or before.high is not None):
        return None
    outer, shift = wide(tensors[affine.scale]), wide(tensors[affine.bias])
    inner = wide(tensors[before.scale]) if before.scale is not None else np.ones_like(outer)
    bias = wide(tensors[before.bias]) if before.bias is not None else np.zeros_like(outer)
    with np.errstate(over="ignore"):
        scale = (outer * inner).astype(np.float32)
        shifted = (outer * bias + shift).astype(np.float32)
    if not (np.isfinite(scale).all() and np.isfinite(shifted).all()):
        return None
    scale_name = graph.free_name(f"{affine.output}.scale", tensors)
    bias_name = graph.free_name(f"{affine.output}.bias", tensors)
    tensors |= {scale_name: scale, bias_name: shifted}
    return replace(before, output=affine.output, scale=scale_name, bias=bias_name)


def wide(array: Array) -> Wide:
    """`array` as float64."""
    return array.astype(np.float64)
