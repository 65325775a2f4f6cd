"""The passes in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.passes.fold_affine import fold_affine
from bwn.passes.fuse_clamp import fuse_clamp
from bwn.passes.fuse_pad import fuse_pad
from bwn.passes.pack_weights import pack_weights
from bwn.passes.remove_unused import remove_unused

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    remove_unused,  # first: an unused reader of a tensor would prevent folding
    fold_affine,  # before fuse_clamp: an affine map cannot be folded through bounds
    fuse_clamp,
    fuse_pad,  # any time after remove_unused
    pack_weights,  # after fold_affine, so that alpha times the whole scale is rounded once
)


def run(graph: Graph) -> Graph:
    """`graph` after all passes, checked before the first and after each.

    Raises:
        GraphError: The graph is illegal.
    """
    check(graph)
    for rewrite in PASSES:
        graph = rewrite(graph)
        check(graph)
    return graph
