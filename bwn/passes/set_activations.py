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

from bwn.ir.analysis import nonnegative, signs_of
from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ir.quantization import QUANT_RANGES, Activations, Quantizations
from bwn.ops.weighted import UINT8_MAX_DEPTH, Weighted

FLOAT_WEIGHTS = (
    "the source rounds its input to 8 bits, which needs one-bit weights, and these are not binary by value; "
    "leave the rounding out there, or pack with float32 activations"
)

Mode = Literal["auto", "float32", "int8", "binary"]


def set_activations(
    graph: Graph,
    mode: Mode,
    scales: Mapping[str, float] | None = None,
    quantizations: Quantizations | None = None,
) -> Graph:
    """`graph` with the activations of each layer with one-bit weights chosen by `mode`.

    Args:
        graph: A legal graph.
        mode: As above.
        scales: int8 scale by the name of the tensor that is read, of which uint8 takes half. A
            tensor without one is measured for each image.
        quantizations: What the source says of layers.

    Raises:
        GraphError: `binary` is asked and the input of a packed layer is not signs, or float weights
            would meet 8 bits.
    """
    signs, positive = signs_of(graph), nonnegative(graph)
    scales, quantizations = scales or {}, quantizations or {}
    nodes: list[Node] = []
    first = True
    for node in graph.nodes:
        if isinstance(node, Weighted):
            chosen: Activations = "float32"
            if node.is_packed(graph.tensors):
                chosen = choose(node, mode, node.input in signs, first)
                first = False
            shallow = node.depth(graph.shapes[node.input]) <= UINT8_MAX_DEPTH
            if chosen == "int8" and node.input in positive and shallow:
                chosen = "uint8"
            scale = scale_of(chosen, scales.get(node.input))
            source = quantizations.get((node.input, node.weight)) if mode != "float32" else None
            if source is not None and not node.is_packed(graph.tensors):
                raise node.refuse(FLOAT_WEIGHTS)
            if source is not None:
                chosen, scale = source.activations, source.scale
            node = replace(node, activations=chosen, input_scale=scale)
        nodes.append(node)
    return graph.replace(nodes)


def scale_of(chosen: Activations, scale: float | None) -> float | None:
    """The input scale of a layer, given the int8 scale of what it reads."""
    if scale is None or chosen not in QUANT_RANGES:
        return None
    return scale * (QUANT_RANGES["int8"][1] / QUANT_RANGES[chosen][1])


def choose(node: Weighted, mode: Mode, signed: bool, first: bool) -> Activations:
    """How a packed `node` reads its input."""
    if mode == "float32":
        return "float32"
    if signed:
        return "binary"
    if mode == "binary" and not first:
        raise node.refuse(
            f"binary activations asked, but its input '{node.input}' is not signs; "
            "use auto, or train with sign activations"
        )
    return "int8" if mode == "int8" else "float32"
