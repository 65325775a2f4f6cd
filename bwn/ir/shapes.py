"""The shape of every tensor of a graph, one rule per node.

Shapes are of one example: (C, H, W) or (K,); the batch axis is not part of them.
"""

from __future__ import annotations

from math import prod

from bwn.errors import GraphError
from bwn.ir.graph import (
    Add,
    Affine,
    AnyNode,
    Conv,
    Dense,
    Flatten,
    Graph,
    Pads,
    Pair,
    Pool,
    Shape,
    Softmax,
)


def window_output(
    size: Pair, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair = (1, 1)
) -> Pair:
    """(H, W) of the windows that fit: (size + pads - dilation * (kernel - 1) - 1) // stride + 1 on each axis."""
    height = (size[0] + pads[0] + pads[2] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    width = (size[1] + pads[1] + pads[3] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    return height, width


def depth(node: Conv | Dense, shape: Shape) -> int:
    """K: how many products each output of `node` sums."""
    if isinstance(node, Conv):
        return node.kernel[0] * node.kernel[1] * shape[0] // node.groups
    return shape[0]


def output_shape(graph: Graph, node: AnyNode, inputs: tuple[Shape, ...]) -> Shape:
    """Shape that `node` makes of its inputs' shapes; the checker has vouched for the attributes."""
    shape = inputs[0]
    if isinstance(node, (Conv, Pool)):
        if len(shape) != 3:
            raise GraphError(
                f"{where(node)}: input has shape {shape}, expected (channels, height, width)"
            )
        dilation = node.dilation if isinstance(node, Conv) else (1, 1)
        size = window_output((shape[1], shape[2]), node.kernel, node.stride, node.pads, dilation)
        if min(size) < 1:
            raise GraphError(
                f"{where(node)}: a window of {node.kernel} does not fit an input of {shape[1:]}"
            )
        return (graph.tensors[node.weight].shape[0] if isinstance(node, Conv) else shape[0], *size)
    if isinstance(node, (Dense, Softmax)) and len(shape) != 1:
        raise GraphError(f"{where(node)}: input has shape {shape}, expected (features,)")
    if isinstance(node, Dense):
        return (graph.tensors[node.weight].shape[0],)
    if isinstance(node, Flatten):
        return (prod(shape),)
    if isinstance(node, Add) and inputs[1] != shape:
        raise GraphError(f"{where(node)}: adds {shape} and {inputs[1]}, expected equal shapes")
    if isinstance(node, Affine) and graph.tensors[node.scale].shape != (shape[0],):
        raise GraphError(
            f"{where(node)}: scale has shape {graph.tensors[node.scale].shape}, expected ({shape[0]},)"
        )
    return shape


def where(node: AnyNode) -> str:
    """How messages name a node: its operation and what it makes."""
    return f"{type(node).__name__.lower()} '{node.output}'"


def shapes(graph: Graph) -> dict[str, Shape]:
    """Shape of every activation tensor, by name. Raises GraphError where a node cannot run on what it is given."""
    found: dict[str, Shape] = {graph.topology.input: tuple(graph.topology.input_shape)}
    for node in graph.nodes:
        missing = [name for name in node.inputs if name not in found]
        if missing:
            raise GraphError(f"{where(node)}: reads '{missing[0]}', which nothing before it makes")
        found[node.output] = output_shape(graph, node, tuple(found[name] for name in node.inputs))
    return found


def multiplications(node: AnyNode, known: dict[str, Shape]) -> int:
    """Multiply-accumulates of `node` on one example (0 for all but products)."""
    if not isinstance(node, (Conv, Dense)):
        return 0
    return prod(known[node.output]) * depth(node, known[node.input])
