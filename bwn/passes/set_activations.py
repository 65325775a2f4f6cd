"""Choose how packed products read their input.

1. `auto`: as signs where the input is signs, else float32; both are exact.
2. `float32`: as it is, everywhere.
3. `int8`: as signs where the input is signs, else rounded to 8 bits, with a fixed step where one is given. That is
   `uint8` where the input cannot be negative, as behind a ReLU, and the sums are not too deep for it; else `int8`.
4. `binary`: as signs; the first packed layer reads float32 where the network's input is no sign, and any other packed
   layer that is not fed by signs is refused by name.
Products with float32 weights always read float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from bwn.check import UINT8_DEEPEST, signs_of
from bwn.errors import GraphError
from bwn.graph import ROUNDED, Activations, AnyNode, Conv, Dense, Graph
from bwn.ranges import nonnegative
from bwn.shapes import depth, shapes, where

Mode = Literal["auto", "float32", "int8", "binary"]


def set_activations(graph: Graph, mode: Mode, steps: Mapping[str, float] | None = None) -> Graph:
    """`graph` with the activations of each packed product chosen by `mode`.

    steps: int8 step by the name of the tensor that is read, of which uint8 takes half; a tensor without one is measured
        per image.
    Raises GraphError where `binary` is asked and the input of a packed product is not signs.
    """
    signs, positive, known = signs_of(graph), nonnegative(graph), shapes(graph)
    steps = steps or {}
    nodes: list[AnyNode] = []
    first = True
    for node in graph.nodes:
        if isinstance(node, (Conv, Dense)):
            chosen: Activations = "float32"
            if graph.packed(node):
                chosen = choose(node, mode, node.input in signs, first)
                first = False
            if chosen == "int8" and node.input in positive and depth(node, known[node.input]) <= UINT8_DEEPEST:
                chosen = "uint8"
            node = replace(node, activations=chosen, step=step_of(chosen, steps.get(node.input)))
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes))


def step_of(chosen: Activations, step: float | None) -> float | None:
    """The step of a product, given the int8 step of what it reads."""
    return None if step is None or chosen not in ROUNDED else step * (ROUNDED["int8"][1] / ROUNDED[chosen][1])


def choose(node: Conv | Dense, mode: Mode, signed: bool, first: bool) -> Activations:
    """How a packed `node` reads its input."""
    if mode == "float32":
        return "float32"
    if signed:
        return "binary"
    if mode == "binary" and not first:
        raise GraphError(
            f"{where(node)}: binary activations asked, but its input '{node.input}' is not signs; "
            "use --activations auto, or train with sign activations"
        )
    return "int8" if mode == "int8" else "float32"
