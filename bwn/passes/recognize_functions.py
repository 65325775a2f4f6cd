"""Recognize activation functions that exporters write as several operations.

Nodes that compute each number of a tensor from the number at its place in another, x, become one
node where they compute one of these:

1. silu, x * s(a * x) with the sigmoid s.
2. mish, x * tanh(log(1 + exp(x))).
3. gelu, x * (1 + erf(x / sqrt(2))) / 2.
4. gelu_tanh, x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2.
5. HardSwish, x * min(max(x + 3, 0), 6) / 6.
6. Not where another node reads a tensor between x and the result, or it is the graph's output.

They are compared by value, on numbers of all magnitudes, so any spelling is recognized: factors
before or after the product, a power as a product, a hard sigmoid by its own name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from bwn.ir.graph import Graph
from bwn.ir.node import Floats, Node
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.hard_swish import HardSwish
from bwn.ops.mul import Mul
from bwn.ops.unary import Unary

OF_EACH = (Add, Affine, Clamp, HardSwish, Mul, Unary)
"""Operations that compute each number from those at its place."""
MOST_NODES = 12
"""Of one function; gelu_tanh has 10."""
_SMALL, _LARGE = np.linspace(-12, 12, 241), np.geomspace(12, 1e6, 40)
POINTS = np.concatenate([[1.0], _SMALL, _LARGE, -_LARGE, [1e-3, -1e-3]])[:, None]
NEAR = 1e-6
"""Largest difference, relative to 1 + |x|: constants are rounded to float32."""


def recognize_functions(graph: Graph) -> Graph:
    """`graph` with each function above as one node."""
    order = {node.output: index for index, node in enumerate(graph.nodes)}
    replaced: dict[str, Node | None] = {}
    for node in reversed(graph.nodes):
        if node.output not in replaced and isinstance(node, (Mul, Affine)):
            whole, inside = recognize(graph, order, node)
            if whole is not None:
                replaced |= dict.fromkeys(inside)
                replaced[node.output] = whole
    nodes = (replaced.get(node.output, node) for node in graph.nodes)
    return graph.replace(node for node in nodes if node is not None)


def recognize(graph: Graph, order: Mapping[str, int], last: Node) -> tuple[Node | None, set[str]]:
    """The function that ends in a node, and the tensors that it makes unnecessary.

    order: place of the node that makes each tensor.
    """
    inside: list[Node] = []
    frontier = {last.output}
    while len(inside) < MOST_NODES:
        name = max(frontier, key=lambda name: order.get(name, -1))
        node = graph.producers.get(name)
        if node is None or not is_of_each(graph, node, last):
            break
        inside.append(node)
        frontier = (frontier - {name}) | set(node.inputs)
        if len(frontier) == 1 and len(inside) > 1 and is_closed(graph, inside):
            (x,) = frontier
            whole = same_function(evaluate(graph, inside, x), x, last.output)
            if whole is not None:
                return whole, {node.output for node in inside}
    return None, set()


def is_of_each(graph: Graph, node: Node, last: Node) -> bool:
    """Whether a node computes each number from those at its place, alike in all channels."""
    if not isinstance(node, OF_EACH):
        return False
    if isinstance(node, Affine) and uniform(graph, node) is None:
        return False
    shape = graph.shapes[last.output]
    return all(graph.shapes[name] == shape for name in (*node.inputs, node.output))


def uniform(graph: Graph, node: Affine) -> tuple[float, float] | None:
    """Scale and bias that are the same in all channels."""
    vectors = [graph.tensors[name].astype(np.float64) for name in node.constants]
    if any((vector != vector[0]).any() for vector in vectors):
        return None
    return float(vectors[0][0]), float(vectors[1][0])


def is_closed(graph: Graph, inside: list[Node]) -> bool:
    """Whether nothing else reads what the nodes make, but for the last, which is the first here."""
    names = {node.output for node in inside}
    return all(
        node.output != graph.topology.output
        and all(reader.output in names for reader in graph.consumers[node.output])
        for node in inside[1:]
    )


def evaluate(graph: Graph, inside: list[Node], x: str) -> Floats:
    """What the nodes compute of POINTS. inside: the last node first."""
    values: dict[str, Floats] = {x: POINTS}
    for node in reversed(inside):
        if isinstance(node, Affine):
            scale, bias = uniform(graph, node) or (1.0, 0.0)
            values[node.output] = scale * values[node.input] + bias
        else:
            arrays = [values[name] for name in node.inputs]
            values[node.output] = node.reference(arrays, graph.tensors)
    return values[inside[0].output]


def same_function(y: Floats, x: str, output: str) -> Node | None:
    """The node that computes y of POINTS; None where no function above does."""
    make: Callable[..., Node] = lambda **fields: Unary(input=x, output=output, **fields)  # noqa: E731
    at_1 = float(y[0, 0])
    candidates = [make(function=name) for name in ("mish", "gelu", "gelu_tanh")]
    candidates.append(HardSwish(input=x, output=output))
    if 0 < at_1 < 1:
        candidates.append(make(function="silu", alpha=shortest(math.log(at_1 / (1 - at_1)))))
    for node in candidates:
        difference = np.abs(node.reference([POINTS], {}) - y)
        if (difference <= NEAR * (1 + np.abs(POINTS))).all():
            return node
    return None


def shortest(alpha: float) -> float:
    """A factor in as few digits as are near: 1, and not 1.0000001."""
    shorter = (round(alpha, digits) for digits in range(9))
    return next((short for short in shorter if abs(short - alpha) < NEAR), alpha)
