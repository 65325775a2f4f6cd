"""The passes in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.passes.cancel_straight_through import cancel_straight_through
from bwn.passes.fold_affine import fold_affine
from bwn.passes.fold_sign_values import fold_sign_values
from bwn.passes.fuse_clamp import fuse_clamp
from bwn.passes.fuse_pad import fuse_pad
from bwn.passes.merge_equal import merge_equal
from bwn.passes.pack_weights import TOLERANCE, pack_weights
from bwn.passes.push_affine import push_affine
from bwn.passes.push_scale import push_scale
from bwn.passes.recognize_functions import recognize_functions
from bwn.passes.remove_unused import remove_unused
from bwn.passes.split_offsets import split_offsets

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    cancel_straight_through,
    remove_unused,  # early: an unused reader of a tensor would prevent folding
    recognize_functions,  # before passes that move factors into what follows
    push_affine,
    fold_affine,  # before fuse_clamp: an affine map cannot be folded through bounds
    fuse_clamp,
    fuse_pad,  # any time after remove_unused
    fold_sign_values,  # after fold_affine, which makes one affine map of several
    push_scale,  # what is left of its kind
    merge_equal,  # after passes that need a tensor with one reader
)
"""The passes before those that read weights: alpha is multiplied into scales that are complete."""


def run(graph: Graph, tolerance: float = TOLERANCE) -> Graph:
    """`graph` after all passes, checked before the first and after each.

    Args:
        graph: The graph.
        tolerance: Of `pack_weights` and `split_offsets`.

    Raises:
        GraphError: The graph is illegal.
    """
    check(graph)
    binary = (partial(rewrite, tolerance=tolerance) for rewrite in (split_offsets, pack_weights))
    passes: list[Callable[[Graph], Graph]] = [*PASSES, *binary]
    for rewrite in passes:
        graph = rewrite(graph)
        check(graph)
    return graph
