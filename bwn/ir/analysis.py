"""What holds for a graph's tensors whatever the network is fed."""

from __future__ import annotations

from bwn.ir.graph import Graph


def signs_of(graph: Graph) -> set[str]:
    """Names of the tensors of a legal graph that hold only +-1."""
    signs: set[str] = set()
    for node in graph.nodes:
        if node.makes_signs(signs):
            signs.add(node.output)
    return signs


def nonnegative(graph: Graph) -> set[str]:
    """Names of the tensors of a legal graph that are 0 or more (or NaN): 8 bits need no sign."""
    names: set[str] = set()
    for node in graph.nodes:
        if node.makes_nonnegative(names, graph.tensors):
            names.add(node.output)
    return names
