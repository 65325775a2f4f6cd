"""Where the parts of a concatenation are made: in place."""

from __future__ import annotations

from bwn.ir.graph import Graph


def homes(graph: Graph) -> dict[str, tuple[str, int]]:
    """Where tensors can be made in place: in which Concat, and from which channel of it on.

    A tensor has one home, the last Concat that reads it. A Concat whose parts follow each other in
    a later one lies there as a whole, as those of a dense block do.
    """
    places: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.nodes):
        if not node.joins_channels:
            continue
        channel, channels = 0, dict[str, int]()
        for name in node.inputs:
            channels.setdefault(name, channel)
            channel += graph.shapes[name][0]
        placed = [places.get(name) for name in node.inputs]
        first = placed[0]
        together = first is not None and placed == [
            (first[0], first[1] + offset) for offset in channels.values()
        ]
        if together and first is not None and len(channels) == len(node.inputs):
            places.setdefault(node.output, first)
        for name, offset in channels.items():
            places.setdefault(name, (node.output, offset))
    places.pop(graph.topology.input, None)
    return places
