"""What a step does on the way out: the addition and the clamp after it, when nobody else reads what stands between."""

from __future__ import annotations

from typing import NamedTuple

from bwn.ir.graph import Add, AnyNode, Clamp, Conv, Dense
from bwn.plan.builder import Lowering


class Ending(NamedTuple):
    """How a step ends.

    output: the tensor it makes. also: those of the nodes that it does as well. added: the tensor that is added. low,
    high: bounds after that. rounded: the product that alone reads it, in 8 bits whose step is fixed.
    """

    output: str
    also: tuple[str, ...] = ()
    added: str | None = None
    low: float | None = None
    high: float | None = None
    rounded: Conv | Dense | None = None

    def reason(self, why: str = "") -> str:
        """`why`, and what the step does besides."""
        also = f"does {', '.join(self.also)} too" if self.also else ""
        return "; ".join(filter(None, (why, also, "rounds to 8 bits" if self.rounded else "")))


def reader(lower: Lowering, name: str) -> AnyNode | None:
    """The one node that reads tensor `name`; None where there are others, or a plan keeps all tensors."""
    return lower.graph.sole_reader(name) if lower.fuse else None


def clamped(lower: Lowering, name: str, end: Ending | None = None) -> Ending:
    """The ending of a step that makes `name`, or ends as `end` so far: with the clamp that alone reads it."""
    end, node = end or Ending(name), reader(lower, name)
    if not isinstance(node, Clamp):
        return end
    lower.absorbed.add(node.output)
    return end._replace(
        output=node.output, also=(*end.also, node.output), low=node.low, high=node.high
    )


def ending(lower: Lowering, name: str) -> Ending:
    """The ending of a product that makes `name`.

    With it: an addition whose other tensor is there, a clamp after it, and rounding for who reads that.
    """
    end, node = Ending(name), reader(lower, name)
    other = (node.other if node.input == name else node.input) if isinstance(node, Add) else None
    if node is not None and other in lower.tensors:
        lower.absorbed.add(node.output)
        end = clamped(lower, node.output, Ending(node.output, (node.output,), other))
    then = reader(lower, end.output)
    if isinstance(then, (Conv, Dense)) and then.is_quantized and then.step is not None:
        end = end._replace(rounded=then)
    return end
