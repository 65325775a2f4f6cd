"""What a step does on the way out: the addition and the clamp after it, when nobody else reads what stands between."""

from __future__ import annotations

from typing import NamedTuple

from bwn.graph import Add, AnyNode, Clamp
from bwn.lowering import Lowering


class Ending(NamedTuple):
    """How a step ends.

    output: the tensor it makes. also: those of the nodes that it does as well. added: the tensor that is added. low,
    high: bounds after that.
    """

    output: str
    also: tuple[str, ...] = ()
    added: str | None = None
    low: float | None = None
    high: float | None = None

    def reason(self, why: str = "") -> str:
        """`why`, and the nodes that the step does as well."""
        return "; ".join(filter(None, (why, f"does {', '.join(self.also)} too" if self.also else "")))


def reader(lower: Lowering, name: str) -> AnyNode | None:
    """The one node that reads tensor `name`; None where there are others, or a plan keeps all tensors."""
    readers = [node for node in lower.graph.nodes for tensor in node.inputs if tensor == name]
    single = lower.fuse and len(readers) == 1 and name != lower.graph.topology.output
    return readers[0] if single else None


def clamped(lower: Lowering, name: str, end: Ending | None = None) -> Ending:
    """The ending of a step that makes `name`, or ends as `end` so far: with the clamp that alone reads it."""
    end, node = end or Ending(name), reader(lower, name)
    if not isinstance(node, Clamp):
        return end
    lower.absorbed.add(node.output)
    return end._replace(output=node.output, also=(*end.also, node.output), low=node.low, high=node.high)


def ending(lower: Lowering, name: str) -> Ending:
    """The ending of a product that makes `name`: an addition whose other tensor is there, and a clamp after it."""
    node = reader(lower, name)
    if not isinstance(node, Add):
        return Ending(name)
    other = node.other if node.input == name else node.input
    if other not in lower.tensors:
        return Ending(name)
    lower.absorbed.add(node.output)
    return clamped(lower, node.output, Ending(node.output, (node.output,), other))
