"""Graph to ONNX: what a good float export of the same network would be.

Packed words become +-scale weights of a Conv or Gemm, biases stay biases, and bounds become Relu or
Clip. 8-bit activations become the float function that they approximate. Tensors keep their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Array

OPSET = 17
IR_VERSION = 8


class OnnxGraph:
    """Collects the nodes and initializers of an ONNX graph.

    Attributes:
        tensors: The stored tensors of the bwn graph.
        shapes: The shapes of its activations.
        nodes: The ONNX nodes so far.
        constants: The initializers so far.
    """

    def __init__(self, graph: Graph) -> None:
        self.tensors, self.shapes = graph.tensors, graph.shapes
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def constant(self, name: str, array: Array) -> str:
        """Keep an initializer under `name`, or `name` with marks added where that is taken."""
        while name in self.shapes or (
            name in self.constants and not np.array_equal(self.constants[name], array)
        ):
            name += "'"
        self.constants[name] = array
        return name

    def number(self, value: float) -> str:
        """Name of an initializer that holds one float32 number."""
        return self.constant(f"{value:g}", np.asarray(value, np.float32))

    def emit(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Append a node, named after the tensor that it makes."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))


def to_onnx_bytes(spec: ModelSpec) -> bytes:
    """The bytes of an ONNX file of opset 17, whose input is (N, *input_shape) float32."""
    graph, onnx_graph = spec.graph, OnnxGraph(spec.graph)
    for node in graph.nodes:
        node.to_onnx(onnx_graph)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *graph.shapes[name]])
        for name in (graph.topology.input, graph.topology.output)
    ]
    initializers = [
        numpy_helper.from_array(array, name) for name, array in onnx_graph.constants.items()
    ]
    model = helper.make_model(
        helper.make_graph(onnx_graph.nodes, "bwn", ends[:1], ends[1:], initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="bwn",
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, metadata(spec))
    return bytes(model.SerializeToString(deterministic=True))


def metadata(spec: ModelSpec) -> dict[str, str]:
    """Preprocessing and class names as the importer reads them."""
    values: dict[str, Any] = {"bwn.preprocess": spec.preprocess, "bwn.classes": spec.classes}
    return {
        key: msgspec.json.encode(value).decode()
        for key, value in values.items()
        if value is not None
    }
