"""The passes in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.passes.fold_affine import fold_affine
from bwn.passes.fuse_clamp import fuse_clamp
from bwn.passes.pack_weights import pack_weights
from bwn.passes.remove_unused import remove_unused

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    remove_unused,  # first: a dead reader would keep the others from folding
    fold_affine,  # before fuse_clamp: an affine map does not fold through bounds
    fuse_clamp,
    pack_weights,  # after fold_affine, so that alpha meets the whole scale and is rounded once
)


def run(graph: Graph) -> Graph:
    """`graph` after all passes, checked before the first and after each. Raises GraphError."""
    check(graph)
    for rewrite in PASSES:
        graph = rewrite(graph)
        check(graph)
    return graph
