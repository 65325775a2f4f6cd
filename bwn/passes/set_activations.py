"""Choose the activation type of each layer whose weights are not float32.

1. `auto`: binary where the input holds signs, else float32; both are exact.
2. `float32`: float32 in every layer.
3. `int8`: binary where the input holds signs, else 8 bits, with a fixed scale where there is one:
   `uint8` where the input cannot be negative, as after a ReLU, and the sums are not too long for
   it; else `int8`.
4. `binary`: binary. The first packed layer reads float32 where its input does not hold signs; any
   other such layer is refused by name.
5. In every mode but `float32`, a layer whose input holds whole multiples of a number, few enough
   for 8 bits (`quantized_inputs`), reads these integers, which is exact. `int8` also takes all 256
   values of 8 bits, of which -128 or 255 becomes its neighbor.
6. A layer with int8 weights (`quantize_weights`) reads 8 bits in every mode, signs as well.

Layers with float32 weights always read float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from bwn.errors import GraphError
from bwn.ir.analysis import nonnegative, signs_of
from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ir.quantization import QUANT_RANGES, Activations
from bwn.kernels.gemm.depths import UINT8_MAX_DEPTH
from bwn.ops.weighted import Weighted, WeightType, layer_names
from bwn.passes.quantized_inputs import Grid, fuse_quantize, grids

NOT_A_SIGN = (
    "cannot take binary activations: its input is not a sign; pack with auto activations, or train "
    "with sign activations"
)

Mode = Literal["auto", "float32", "int8", "binary"]
FIXED: dict[WeightType, Mode] = {"float32": "float32", "int8": "int8"}
"""The mode of layers without one-bit weights, whatever that of the graph."""


def set_activations(
    graph: Graph,
    mode: Mode,
    scales: Mapping[str, float] | None = None,
) -> Graph:
    """`graph` with the activations of each layer chosen by `mode`.

    Args:
        graph: A legal graph.
        mode: As above.
        scales: int8 scales by the name of the tensor that a layer reads; uint8 uses half of one.
            The scale of a tensor without one is measured for each image.

    Raises:
        GraphError: The mode is `binary` and the input of a packed layer does not hold signs.
    """
    signs, positive, known = signs_of(graph), nonnegative(graph), grids(graph)
    scales = scales or {}
    nodes: list[Node] = []
    first = True
    for node in graph.nodes:
        if isinstance(node, Weighted):
            weights = node.weight_type(graph.tensors)
            packed = weights == "1 bit"
            reads_signs = node.input in signs
            if mode == "binary" and packed and not (reads_signs or first):
                raise refusal(graph, node, NOT_A_SIGN)
            own_mode = FIXED.get(weights, mode)
            as_bits = packed and reads_signs
            activations = choose(own_mode, as_bits)
            first = first and not packed
            shallow = node.depth(graph.shapes[node.input]) <= UINT8_MAX_DEPTH
            if activations == "int8" and node.input in positive and shallow:
                activations = "uint8"
            scale = scale_of(activations, scales.get(node.input))
            grid = Grid(1.0, -1, 1) if reads_signs else known[node.input]
            kind = None if as_bits else as_integers(grid, own_mode, shallow=shallow)
            if kind is not None:
                activations, scale = kind, grid.step
            node = replace(node, activations=activations, input_scale=scale)
        nodes.append(node)
    return fuse_quantize(graph.replace(nodes))


def as_integers(grid: Grid, mode: Mode, *, shallow: bool) -> Literal["int8", "uint8"] | None:
    """The integers as which a packed layer reads a tensor by rule 5; None where it does not."""
    if mode == "float32":
        return None
    if mode == "int8" and grid.is_whole:
        return "int8" if grid.low < 0 or not shallow else "uint8"
    return grid.fits(shallow=shallow)


def scale_of(activations: Activations, scale: float | None) -> float | None:
    """The input scale of a layer that reads a tensor of this int8 scale."""
    if scale is None or activations not in QUANT_RANGES:
        return None
    return scale * (QUANT_RANGES["int8"][1] / QUANT_RANGES[activations][1])


def refusal(graph: Graph, node: Node, why: str) -> GraphError:
    """An error that names the layer as tables do."""
    return GraphError(f"layer '{layer_names(graph)[node.output]}' {why}")


def choose(mode: Mode, as_bits: bool) -> Activations:
    """The activation type of a layer by rules 1 to 4, without uint8.

    as_bits: Whether it has one-bit weights and reads signs.
    """
    if mode == "float32":
        return "float32"
    if as_bits:
        return "binary"
    return "int8" if mode == "int8" else "float32"
