"""Graphs in float16, bfloat16 or float64, converted to float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from bwn.errors import GraphError
from bwn.onnx.onnx_node import MICROSOFT, STANDARD
from bwn.onnx.protobuf import TYPE_ATTRIBUTES, to_array
from bwn.onnx.tensors import subgraphs, tensors_of

CONVERTED = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
"""The types that become float32, and what they are called."""


def to_float32(graph: onnx.GraphProto) -> list[str]:
    """Convert stored tensors, and the types of inputs, outputs and casts, to float32.

    Args:
        graph: Changed in place; its stored tensors are checked.

    Returns:
        The types that were there, by name.

    Raises:
        GraphError: A number is larger than float32 can hold.
    """
    types = retype(graph)
    for name, tensor in tensors_of(graph):
        if tensor.data_type in CONVERTED:
            types.add(tensor.data_type)
            convert(name, tensor)
    return [name for kind, name in CONVERTED.items() if kind in types]


def retype(graph: onnx.GraphProto) -> set[int]:
    """Convert the types of inputs, outputs and casts; returns those that were there."""
    types: set[int] = set()
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in CONVERTED:
            types.add(value.type.tensor_type.elem_type)
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            named = attribute.name in (*TYPE_ATTRIBUTES, "stash_type", "precision")
            if named and attribute.i in CONVERTED and node.domain in (*STANDARD, MICROSOFT):
                types.add(attribute.i)
                attribute.i = TensorProto.FLOAT
            for subgraph in subgraphs(attribute):
                types |= retype(subgraph)
    return types


def convert(name: str, tensor: onnx.TensorProto) -> None:
    """Convert a stored tensor in place. Raises GraphError where a number becomes infinite."""
    wide = to_array(tensor).astype(np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    lost = np.isfinite(wide) & ~np.isfinite(narrow)
    if lost.any():
        raise GraphError(f"tensor '{name}' holds {wide[lost][0]:g}, which float32 cannot hold")
    tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
