"""The passes in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.passes.fold_affine import fold_affine
from bwn.passes.fuse_clamp import fuse_clamp
from bwn.passes.pack_weights import TOLERANCE, pack_weights
from bwn.passes.push_affine import push_affine
from bwn.passes.push_scale import push_scale
from bwn.passes.remove_unused import remove_unused

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    remove_unused,  # first: an unused reader of a tensor would prevent folding
    push_affine,
    fold_affine,  # before fuse_clamp: an affine map cannot be folded through bounds
    fuse_clamp,
    push_scale,  # after fold_affine: what is left of its kind
)
"""The passes before `pack_weights`, which multiplies alpha into scales that are complete."""


def run(graph: Graph, tolerance: float = TOLERANCE) -> Graph:
    """`graph` after all passes, checked before the first and after each.

    Args:
        graph: The graph.
        tolerance: Of `pack_weights`.

    Raises:
        GraphError: The graph is illegal.
    """
    check(graph)
    passes: list[Callable[[Graph], Graph]] = [*PASSES, partial(pack_weights, tolerance=tolerance)]
    for rewrite in passes:
        graph = rewrite(graph)
        check(graph)
    return graph
