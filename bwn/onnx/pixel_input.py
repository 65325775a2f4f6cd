"""Networks whose input is uint8: pixels from 0 to 255, cast and normalized by the graph itself.

The input becomes float32, which holds these numbers exactly, and the cast to it is removed; all
other arithmetic stays. So scores are the same, to the last bit.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto

from bwn.errors import GraphError
from bwn.ir.model_spec import Preprocess
from bwn.ir.node import Shape
from bwn.onnx.graph_order import refuse
from bwn.onnx.onnx_node import STANDARD

MOVES = (
    "Identity",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Split",
    "Concat",
)
"""Operations that give the same numbers for any type of their first input."""


def to_float_input(graph: onnx.GraphProto) -> bool:
    """Make a uint8 input float32, and remove the casts of it, moved or not.

    Args:
        graph: Changed in place. It has one input, and its nodes are in order.

    Returns:
        Whether the input was uint8.

    Raises:
        GraphError: Something computes with uint8 numbers.
    """
    value = graph.input[0]
    if value.type.tensor_type.elem_type != TensorProto.UINT8:
        return False
    value.type.tensor_type.elem_type = TensorProto.FLOAT
    pixels, floats = {value.name}, {}
    kept = []
    for node in graph.node:
        on_pixels = not pixels.isdisjoint(node.input)
        if on_pixels and is_float_cast(node) and node.output[0] != graph.output[0].name:
            floats[node.output[0]] = node.input[0]
            continue
        if on_pixels and is_float_cast(node):
            node.op_type = "Identity"
            del node.attribute[:]
        elif on_pixels:
            check_move(node, pixels)
            pixels.update(node.output)
        for index, name in enumerate(node.input):
            node.input[index] = floats.get(name, name)
        kept.append(node)
    if graph.output[0].name in pixels:
        raise GraphError("the output is the input as uint8; cast it to float32")
    del graph.node[:]
    graph.node.extend(kept)
    return True


def is_float_cast(node: onnx.NodeProto) -> bool:
    """Whether a node casts to float32."""
    to = [attribute.i for attribute in node.attribute if attribute.name == "to"]
    return node.op_type == "Cast" and to == [TensorProto.FLOAT]


def check_move(node: onnx.NodeProto, pixels: set[str]) -> None:
    """Raise GraphError where a node does more than to move pixels."""
    moved = node.input if node.op_type == "Concat" else node.input[:1]
    if node.op_type not in MOVES or node.domain not in STANDARD or not pixels.issuperset(moved):
        raise refuse(
            node,
            "reads the input as uint8; cast it to float32 first, or export the model with a "
            "float32 input",
        )


def pixel_rule(shape: Shape) -> Preprocess:
    """Preprocessing of a network that takes pixels from 0 to 255.

    Raises:
        GraphError: Inputs of `shape` are no images.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise GraphError(
            f"the input is uint8 of shape {shape}, expected images of 1 or 3 channels; export the "
            "model with a float32 input"
        )
    channels, height, width = shape
    return Preprocess(
        size=(height, width),
        color="L" if channels == 1 else "RGB",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        scale=1,
    )
