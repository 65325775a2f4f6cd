"""Compute what several nodes compute once (common subexpressions).

1. Nodes of one operation with the same fields and inputs: the first serves the readers of all.
2. Their stored tensors may have different names, if dtype, shape and every bit are the same.
3. So are nodes that read what equal nodes make.
4. Not the node that makes the graph's output, whose name stays.

It runs after passes that fold a node into the only node that reads it: of two equal nodes each may
fold, where one with two readers could not.
"""

from __future__ import annotations

from functools import cache
from typing import get_args

import msgspec

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node


def merge_equal(graph: Graph) -> Graph:
    """`graph` with equal nodes merged."""
    stored: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    first = {name: stored.setdefault(content(array), name) for name, array in graph.tensors.items()}
    made: dict[str, str] = {}
    instead: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        renamed = with_names(node, instead)
        key = repr(with_names(renamed, {**first, node.output: ""}))  # repr tells -0.0 from 0.0
        if key in made and node.output != graph.topology.output:
            instead[node.output] = made[key]
        else:
            made.setdefault(key, node.output)
            kept.append(renamed)
    return graph.replace(kept) if instead else graph


def content(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    """What equal tensors have in common."""
    return array.dtype.str, array.shape, array.tobytes()


def with_names(node: Node, names: dict[str, str]) -> Node:
    """A node with some of its tensors renamed, its output included."""
    changes = {}
    for field in name_fields(type(node)):
        value = getattr(node, field)
        if isinstance(value, tuple):
            changes[field] = tuple(names.get(name, name) for name in value)
        elif value is not None:
            changes[field] = names.get(value, value)
    return msgspec.structs.replace(node, **changes)


@cache
def name_fields(kind: type[Node]) -> tuple[str, ...]:
    """The fields of an operation that name tensors: any string, not one of a few."""
    return tuple(
        field.name
        for field in msgspec.structs.fields(kind)
        if field.type is str or str in get_args(field.type)
    )
