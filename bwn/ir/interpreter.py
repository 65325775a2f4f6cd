"""The plain truth of a graph: each node computed by `kernels/reference.py`, in float64 or exact integers.

`bwn verify` and the planner's tests hold the fast kernels against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bwn.ir.graph import (
    QUANT_RANGES,
    Add,
    Affine,
    AnyNode,
    Clamp,
    Conv,
    Dense,
    Flatten,
    Graph,
    Pool,
    Sign,
)
from bwn.kernels import reference as plain

Reals = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def evaluate(graph: Graph, x: Reals) -> dict[str, Floats]:
    """Every activation tensor of `graph` by name, computed from x: (N, *input_shape)."""
    made: dict[str, Floats] = {graph.topology.input: x.astype(np.float64)}
    for node in graph.nodes:
        made[node.output] = evaluate_node(graph, node, [made[name] for name in node.inputs])
    return made


def evaluate_node(graph: Graph, node: AnyNode, inputs: Sequence[Reals]) -> Floats:
    """The output of one node, float64, batch axis first, from its input tensors.

    inputs: the arrays of `node.inputs`, (N, ...), any real type; products of 8 bits round them to float32 first.
    """
    x = inputs[0]
    y: Reals
    if isinstance(node, (Conv, Dense)):
        acc, scale = accumulate(graph, node, x)
        bias = None if node.bias is None else graph.tensors[node.bias]
        y = plain.epilogue(acc, scale, bias, node.low, node.high)
    elif isinstance(node, Affine):
        y = plain.affine(x, graph.tensors[node.scale], graph.tensors[node.bias])
    elif isinstance(node, Clamp):
        y = plain.clamp(x, node.low, node.high)
    elif isinstance(node, Sign):
        y = plain.sign(x)
    elif isinstance(node, Add):
        y = x.astype(np.float64) + inputs[1]
    elif isinstance(node, Pool):
        y = plain.pool(
            x,
            node.kind,
            kernel=node.kernel,
            stride=node.stride,
            pads=node.pads,
            count_pads=node.count_pads,
        )
    elif isinstance(node, Flatten):
        y = x.reshape(len(x), -1)
    else:
        y = plain.softmax(x)
    return y.astype(np.float64)


def accumulate(graph: Graph, node: Conv | Dense, x: Reals) -> tuple[Reals, Reals | None]:
    """The sums of a product before its scale and bias, and the scale that they still need.

    Returns acc: (N, O, ...) float64, or int64 where it is read as 8 bits or signs; and the scale: (O,), or (N, O)
    with each image's step in it, or None for 1.
    """
    weights = _weights(graph, node, x.shape[1])
    scale: Reals | None = (
        None if node.scale is None else graph.tensors[node.scale].astype(np.float64)
    )
    if node.is_quantized:
        x, steps = plain.quantize(x.astype(np.float32), node.step, *QUANT_RANGES[node.activations])
        scale = steps.astype(np.float64)[:, None] * (
            np.ones(len(weights)) if scale is None else scale
        )  # (N, O)
    elif node.activations == "binary":
        x = plain.sign(x)
    if isinstance(node, Dense):
        return plain.dense(x, weights), scale
    return plain.conv(
        x, weights, stride=node.stride, pads=node.pads, dilation=node.dilation, groups=node.groups
    ), scale


def _weights(graph: Graph, node: Conv | Dense, channels: int) -> Reals:
    """Weights as stored, or the +-1 of packed words."""
    stored = graph.tensors[node.weight]
    if not graph.is_packed(node):
        return stored
    words = stored.astype(np.uint64, copy=False)
    if isinstance(node, Dense):
        return plain.dense_weights(words, channels)
    return plain.conv_weights(words, node.kernel, channels // node.groups)
