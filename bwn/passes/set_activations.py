"""Choose how packed products read their input.

1. `auto`: as signs where the input is signs, else float32; both are exact.
2. `float32`: as it is, everywhere.
3. `int8`: as signs where the input is signs, else rounded to 8 bits, with a fixed step where one is given. That is
   `uint8` where the input cannot be negative, as behind a ReLU, and the sums are not too deep for it; else `int8`.
4. `binary`: as signs; the first packed layer reads float32 where the network's input is no sign, and any other packed
   layer that is not fed by signs is refused by name.
5. A product whose source says how it rounds its input does just that, in all modes but `float32`. It needs one-bit
   weights.
Products with float32 weights always read float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from bwn.errors import GraphError
from bwn.ir.analysis import nonnegative
from bwn.ir.checker import UINT8_DEEPEST, signs_of
from bwn.ir.graph import QUANT_RANGES, Activations, AnyNode, Conv, Dense, Graph, Quantizations
from bwn.ir.shapes import depth, shapes, where

FLOAT_WEIGHTS = (
    "the source rounds its input to 8 bits, which needs one-bit weights, and these are not binary by value; "
    "leave the rounding out there, or pack with float32 activations"
)

Mode = Literal["auto", "float32", "int8", "binary"]


def set_activations(
    graph: Graph,
    mode: Mode,
    steps: Mapping[str, float] | None = None,
    roundings: Quantizations | None = None,
) -> Graph:
    """`graph` with the activations of each packed product chosen by `mode`.

    steps: int8 step by the name of the tensor that is read, of which uint8 takes half; a tensor without one is measured
        per image.
    roundings: what the source says of products.
    Raises GraphError where `binary` is asked and the input of a packed product is not signs, or float weights would
    meet 8 bits.
    """
    signs, positive, known = signs_of(graph), nonnegative(graph), shapes(graph)
    steps, roundings = steps or {}, roundings or {}
    nodes: list[AnyNode] = []
    first = True
    for node in graph.nodes:
        if isinstance(node, (Conv, Dense)):
            chosen: Activations = "float32"
            if graph.is_packed(node):
                chosen = choose(node, mode, node.input in signs, first)
                first = False
            if (
                chosen == "int8"
                and node.input in positive
                and depth(node, known[node.input]) <= UINT8_DEEPEST
            ):
                chosen = "uint8"
            step = step_of(chosen, steps.get(node.input))
            given = roundings.get((node.input, node.weight)) if mode != "float32" else None
            if given is not None and not graph.is_packed(node):
                raise GraphError(f"{where(node)}: {FLOAT_WEIGHTS}")
            if given is not None:
                chosen, step = given.activations, given.step
            node = replace(node, activations=chosen, step=step)
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes))


def step_of(chosen: Activations, step: float | None) -> float | None:
    """The step of a product, given the int8 step of what it reads."""
    return (
        None
        if step is None or chosen not in QUANT_RANGES
        else step * (QUANT_RANGES["int8"][1] / QUANT_RANGES[chosen][1])
    )


def choose(node: Conv | Dense, mode: Mode, signed: bool, first: bool) -> Activations:
    """How a packed `node` reads its input."""
    if mode == "float32":
        return "float32"
    if signed:
        return "binary"
    if mode == "binary" and not first:
        raise GraphError(
            f"{where(node)}: binary activations asked, but its input '{node.input}' is not signs; "
            "use auto, or train with sign activations"
        )
    return "int8" if mode == "int8" else "float32"
