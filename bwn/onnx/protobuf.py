"""ONNX's protobuf messages as plain Python values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bwn._text import brief, one_line
from bwn.errors import GraphError
from bwn.ir.node import Array
from bwn.onnx.onnx_node import OnnxNode

TYPE_ATTRIBUTES = ("to", "output_dtype", "dtype")
"""Attributes that name an element type."""


def plain_node(proto: onnx.NodeProto) -> OnnxNode:
    """The node with plain Python values. Raises GraphError where it has a subgraph."""
    node = OnnxNode(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), {}, proto)
    for attribute in proto.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise node.refuse("has a subgraph; control flow is not supported")
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = to_array(value)
        elif attribute.name in TYPE_ATTRIBUTES:
            value = plain_type(value)
        node.attrs[attribute.name] = value
    return node


def plain_type(number: int) -> np.dtype[Any] | None:
    """The numpy type of an ONNX element type; None for 0, unknown ones and those numpy lacks."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError, ValueError):
        return None


def to_array(tensor: onnx.TensorProto) -> Array:
    """The value of a tensor whose data are in it: onnx would read any file. Raises GraphError."""
    name = one_line(tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise GraphError(f"tensor '{name}': its data are in another file")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(f"tensor '{name}': cannot be read: {brief(error, 200)}") from None
