"""Push affine maps up through pools, bounds and concatenations, to where fold_affine folds them.

1. Through a max pool, where all scales are above 0: rounding keeps order, so this is exact.
2. Through an average pool, unless it counts padding and some bias is not 0.
3. Through a Clamp, where all scales are above 0 and each bound becomes one number for all channels.
4. Through a Concat, each part with its own channels.
5. Not unless every branch ends at an Affine, or at a layer with weights and without bounds: what
   cannot be folded would cost more there.
6. Not where something else reads a tensor on the way, or it is the graph's output.

Averages and bounds are rounded as by fold_affine. The last node makes the Affine's tensor; tensors
on the way change, and get new names.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Floats, Node, is_float32
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.pool import Pool
from bwn.ops.weighted import Weighted
from bwn.passes.rewrite import Rewrite

ROUNDS = 4
"""An Affine that waits for the one above it is pushed in the next round."""
MAX_DEPTH = 8
"""Nodes between an Affine and where it goes."""


def push_affine(graph: Graph) -> Graph:
    """`graph` with each Affine where it can be folded."""
    for _ in range(ROUNDS):
        pushes = Pushes(graph)
        for node in graph.nodes:
            if isinstance(node, Affine):
                pushes.push(node)
        if not pushes.rewritten:
            break
        graph = pushes.result()
    return graph


class Pushes:
    """The pushes of one round, which share no node.

    Attributes:
        graph: The graph before the round.
        rewritten: The nodes that replace the node that made a tensor.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rewritten: dict[str, list[Node]] = {}
        self._new = Rewrite(graph)

    def push(self, affine: Affine) -> None:
        """Push an Affine up, where that is possible."""
        scale, bias = map(self._new.wide, affine.constants)
        producer = self.graph.producers.get(affine.input)
        moves = isinstance(producer, (Pool, Clamp, Concat))
        if moves and self._fits(affine.input, scale, bias, MAX_DEPTH):
            self.rewritten[affine.output] = []
            self._rewrite(affine.input, scale, bias, affine.output)

    def result(self) -> Graph:
        """The graph after the round."""
        nodes = (
            new for node in self.graph.nodes for new in self.rewritten.get(node.output, [node])
        )
        return self._new.result(nodes)

    def _fits(self, name: str, scale: Floats, bias: Floats, depth: int) -> bool:
        """Whether what makes a tensor can make scale * it + bias instead."""
        node = self.graph.producers.get(name)
        alone = self.graph.sole_consumer(name) is not None and name not in self.rewritten
        if node is None or not alone or depth == 0:
            return False
        if isinstance(node, Weighted):
            return node.low is None and node.high is None
        positive = bool((scale > 0).all())
        if isinstance(node, Pool):
            exact = positive if node.kind == "max" else not (node.count_pads and bias.any())
        elif isinstance(node, Clamp):
            bounds = [moved(bound, scale, bias) for bound in (node.low, node.high)]
            exact = positive and all(bound is None or is_float32(bound) for bound in bounds)
        else:
            exact = isinstance(node, Concat)
        return isinstance(node, Affine) or (
            exact
            and all(
                self._fits(part, scales, biases, depth - 1)
                for part, scales, biases in self._parts(node, scale, bias)
            )
        )

    def _rewrite(self, name: str, scale: Floats, bias: Floats, output: str) -> None:
        """Make `output`, scale * it + bias, instead of the tensor `name`."""
        node = self.graph.producers[name]
        if isinstance(node, (Weighted, Affine)):
            affine = Affine(
                input=name,
                output=output,
                scale=self._new.store(f"{output}.scale", scale),
                bias=self._new.store(f"{output}.bias", bias),
            )
            self.rewritten[name] = [node, affine]
            return
        parts = []
        for part, scales, biases in self._parts(node, scale, bias):
            parts.append(self._new.free_name(f"{part}.scaled"))
            self._rewrite(part, scales, biases, parts[-1])
        changes: dict[str, object] = {"input": parts[0], "output": output}
        if isinstance(node, Concat):
            changes["others"] = tuple(parts[1:])
        if isinstance(node, Clamp):
            changes["low"], changes["high"] = (
                moved(bound, scale, bias) for bound in (node.low, node.high)
            )
        self.rewritten[name] = [replace(node, **changes)]

    def _parts(self, node: Node, scale: Floats, bias: Floats) -> list[tuple[str, Floats, Floats]]:
        """Each input of a node with its channels of scale and bias."""
        ends = np.cumsum([self.graph.shapes[name][0] for name in node.inputs])[:-1]
        return list(zip(node.inputs, np.split(scale, ends), np.split(bias, ends), strict=True))


def moved(bound: float | None, scale: Floats, bias: Floats) -> float | None:
    """scale * bound + bias, where that is one number; NaN where channels differ."""
    if bound is None:
        return None
    with np.errstate(over="ignore"):
        numbers = (scale * bound + bias).astype(np.float32)
    return float(numbers[0]) if (numbers == numbers[0]).all() else float("nan")
