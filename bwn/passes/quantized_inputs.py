"""Which tensors hold whole multiples of a number, so that layers may read them as 8-bit integers.

1. What `Quantize` makes with a fixed scale and a whole zero; moved, pooled by maximum, or
   multiplied by one number above 0.
2. Rounded numbers whose range is known from bounds, as DoReFa writes it: Round(x * n) / n.
3. A layer that reads such a tensor rounds it to the very same integers. So where only such layers
   read what a `Quantize` makes, perhaps behind max pools and moves, that becomes the bounds of its
   range, or nothing where the layers have the same range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Node, Rearrangement, Tensors
from bwn.ir.quantization import QUANT_RANGES
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.quantize import Quantize
from bwn.ops.rearrange import Rearrange
from bwn.ops.unary import Unary
from bwn.ops.weighted import Weighted
from bwn.passes.fuse_clamp import fuse_clamp

INFINITE = float("inf")


class Grid(NamedTuple):
    """What is known about the numbers of a tensor.

    Attributes:
        step: All are whole multiples of it; None: unknown.
        low: Smallest, in steps if there are steps.
        high: Largest, likewise.
    """

    step: float | None = None
    low: float = -INFINITE
    high: float = INFINITE

    @property
    def is_whole(self) -> bool:
        """Whether it is all 256 values of 8 bits, or most of them."""
        return self.step is not None and (
            (self.low == -128 and self.high <= 127) or (self.low >= 0 and self.high == 255)
        )

    def fits(self, *, shallow: bool = True) -> Literal["int8", "uint8"] | None:
        """The 8-bit type that holds the multiples; None where none does.

        shallow: Whether sums are short enough for uint8.
        """
        if self.step is None:
            return None
        for kind in ("int8", "uint8"):
            qmin, qmax = QUANT_RANGES[kind]
            if qmin <= self.low and self.high <= qmax and (shallow or kind == "int8"):
                return kind
        return None


def grids(graph: Graph) -> dict[str, Grid]:
    """What is known about each tensor."""
    known = {graph.topology.input: Grid()}
    for node in graph.nodes:
        known[node.output] = grid_of(node, [known[name] for name in node.inputs], graph.tensors)
    return known


def grid_of(node: Node, inputs: Sequence[Grid], tensors: Tensors) -> Grid:
    """What is known about the output of a node."""
    x = inputs[0]
    if isinstance(node, Quantize):
        if node.scale is None or node.zero != int(node.zero):
            return Grid()
        low, high = node.low - node.zero, node.high - node.zero
        return Grid(float(np.float32(node.scale)), max(low, 0) if x.low >= 0 else low, high)
    if isinstance(node, Rearrangement):
        return joined(inputs)
    if isinstance(node, Pool) and node.kind == "max":
        return x
    if isinstance(node, (Clamp, Weighted)):
        low, high = (
            infinity if bound is None else bound
            for bound, infinity in ((node.low, -INFINITE), (node.high, INFINITE))
        )
        return bounded(x, low, high) if isinstance(node, Clamp) else Grid(None, low, high)
    if (factor := one_factor(node, tensors)) is not None:
        return multiplied(x, factor)
    if isinstance(node, Unary) and node.function == "round" and x.step is None:
        return Grid(1.0, float(np.rint(x.low)), float(np.rint(x.high)))
    return Grid()


def one_factor(node: Node, tensors: Tensors) -> float | None:
    """The one number above 0 with which an Affine multiplies; None where it does more."""
    if not isinstance(node, Affine):
        return None
    scale, bias = tensors[node.scale].astype(np.float32), tensors[node.bias]
    simple = bool((scale == scale[0]).all()) and scale[0] > 0 and not bias.any()
    return float(scale[0]) if simple else None


def joined(inputs: Sequence[Grid]) -> Grid:
    """What holds for all inputs."""
    if len({grid.step for grid in inputs}) > 1:
        return Grid()
    return Grid(inputs[0].step, min(grid.low for grid in inputs), max(grid.high for grid in inputs))


def bounded(x: Grid, low: float, high: float) -> Grid:
    """Within bounds, which keep the multiples where they are 0 or do nothing."""
    if x.step is None:
        return Grid(None, max(x.low, low), min(x.high, high))
    if low not in (0, -INFINITE) and low > x.low * x.step:
        return Grid()
    if high not in (0, INFINITE) and high < x.high * x.step:
        return Grid()
    least, most = max(x.low, 0) if low == 0 else x.low, min(x.high, 0) if high == 0 else x.high
    return Grid(x.step, least, most)


def multiplied(x: Grid, factor: float) -> Grid:
    """Times a number above 0."""
    if x.step is None:
        return Grid(None, x.low * factor, x.high * factor)
    return Grid(float(np.float32(x.step * factor)), x.low, x.high)


def fuse_quantize(graph: Graph) -> Graph:
    """`graph` without each `Quantize` that the layers behind it do themselves (rule 3)."""
    renamed: dict[str, str] = {}
    nodes: list[Node] = []

    def rename(output: str) -> str:
        renamed[output] = graph.free_name(f"{output}.bounded", renamed.values())
        return renamed[output]

    for node in graph.nodes:
        if node.input in renamed:
            output = node.output if isinstance(node, Weighted) else rename(node.output)
            node = replace(node, input=renamed[node.input], output=output)
        qrange = range_behind(graph, node) if isinstance(node, Quantize) else None
        if not isinstance(node, Quantize) or qrange is None:
            nodes.append(node)
        elif qrange == (node.low, node.high):
            renamed[node.output] = node.input
        else:
            scale = np.float32(node.scale or 0)
            low, high = (float(np.float32(bound) * scale) for bound in (node.low, node.high))
            nodes.append(Clamp(input=node.input, output=rename(node.output), low=low, high=high))
    return fuse_clamp(graph.replace(nodes)) if renamed else graph


def range_behind(graph: Graph, node: Quantize) -> tuple[int, int] | None:
    """qmin and qmax of the layers that read what a node makes; None unless they round alike."""
    layers = layers_behind(graph, node.output)
    if node.scale is None or node.zero or node.rounding != "round" or not layers:
        return None
    kinds = {(layer.activations, layer.input_scale) for layer in layers}
    activations, scale = kinds.pop()
    same = not kinds and activations in QUANT_RANGES and scale is not None
    return QUANT_RANGES[activations] if same and scale == np.float32(node.scale) else None


def layers_behind(graph: Graph, name: str, *, averages: bool = False) -> list[Weighted] | None:
    """The layers that read a tensor, directly or behind max pools and moves; None if others do.

    averages: Whether average pools may lie between, too.
    """
    layers: list[Weighted] = []
    names = [name]
    while names:
        name = names.pop()
        if name == graph.topology.output:
            return None
        for node in graph.consumers.get(name, ()):
            if isinstance(node, Weighted):
                layers.append(node)
            elif isinstance(node, (Flatten, Rearrange)) or (
                isinstance(node, Pool) and (averages or node.kind == "max")
            ):
                names.append(node.output)
            else:
                return None
    return layers
