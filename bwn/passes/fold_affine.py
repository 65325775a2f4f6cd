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
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Node, is_float32
from bwn.ops.affine import Affine
from bwn.ops.weighted import Weighted
from bwn.passes.rewrite import Rewrite, merged


def fold_affine(graph: Graph) -> Graph:
    """`graph` with each Affine folded into the node before it where that is possible."""
    rewrite = Rewrite(graph)
    return rewrite.result(merged(graph, lambda before, node: fold(rewrite, before, node)))


def fold(rewrite: Rewrite, before: Node, affine: Node) -> Node | None:
    """`before` with `affine` in its scale and bias; None where a rule above forbids it."""
    if not isinstance(affine, Affine) or not isinstance(before, (Weighted, Affine)):
        return None
    if isinstance(before, Weighted) and (before.low is not None or before.high is not None):
        return None
    outer, shift = rewrite.wide(affine.scale), rewrite.wide(affine.bias)
    inner = rewrite.wide(before.scale) if before.scale is not None else np.ones_like(outer)
    bias = rewrite.wide(before.bias) if before.bias is not None else np.zeros_like(outer)
    scale, shifted = outer * inner, outer * bias + shift
    if not all(map(is_float32, (np.abs(scale).max(), np.abs(shifted).max()))):
        return None
    return replace(
        before,
        output=affine.output,
        scale=rewrite.store(f"{affine.output}.scale", scale),
        bias=rewrite.store(f"{affine.output}.bias", shifted),
    )
