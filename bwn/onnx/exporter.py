"""Graph to ONNX: what a good float export of the same network would be.

Packed words become +-scale weights of a Conv or Gemm, biases stay biases, and bounds become Relu or
Clip. 8-bit activations become the float function that they approximate. Tensors keep their names.

The QONNX form has BipolarQuant for packed words and for signs, and Quant for rounded activations.
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
QONNX_DOMAIN = "qonnx.custom_op.general"


class OnnxGraph:
    """Collects the nodes and initializers of an ONNX graph.

    Args:
        graph: The bwn graph.
        qonnx: Whether QONNX's operations may be used.

    Attributes:
        qonnx: As above.
        tensors: The stored tensors of the bwn graph.
        shapes: The shapes of its activations.
        nodes: The ONNX nodes so far.
        constants: The initializers so far.
    """

    def __init__(self, graph: Graph, *, qonnx: bool = False) -> None:
        self.qonnx, self.tensors, self.shapes = qonnx, graph.tensors, graph.shapes
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self._inner: set[str] = set()
        self._bipolar: dict[tuple[str, str], str] = {}

    def constant(self, name: str, array: Array) -> str:
        """Keep an initializer under `name`, or `name` with marks added where that is taken."""
        while (
            name in self.shapes
            or name in self._inner
            or (name in self.constants and not np.array_equal(self.constants[name], array))
        ):
            name += "'"
        self.constants[name] = array
        return name

    def inner(self, name: str) -> str:
        """`name`, or `name` with marks added where that is taken, for a tensor that bwn has not."""
        while name in self.shapes or name in self._inner or name in self.constants:
            name += "'"
        self._inner.add(name)
        return name

    def number(self, value: float) -> str:
        """Name of an initializer that holds one float32 number."""
        return self.constant(f"{value:g}", np.asarray(value, np.float32))

    def emit(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Append a node, named after the tensor that it makes."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))

    def emit_qonnx(
        self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any
    ) -> None:
        """As `emit`, of an operation of QONNX."""
        self.emit(op_type, inputs, output, domain=QONNX_DOMAIN, **attributes)

    def bipolar(self, name: str, weights: Array) -> str:
        """Name of weights +-alpha[n], (outputs, ...) float32, as BipolarQuant of their signs.

        The name is `name`, or `name` with marks added where that is taken.
        """
        alpha = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
        signs = np.where(np.signbit(weights), np.float32(-1), np.float32(1))
        inputs = (self.constant(f"{name}.signs", signs), self.constant(f"{name}.scale", alpha))
        if inputs not in self._bipolar:
            self._bipolar[inputs] = self.inner(name)
            self.emit_qonnx("BipolarQuant", inputs, self._bipolar[inputs])
        return self._bipolar[inputs]


def to_onnx_bytes(spec: ModelSpec, *, qonnx: bool = False) -> bytes:
    """The bytes of an ONNX file of opset 17, whose input is (N, *input_shape) float32.

    Args:
        spec: The network.
        qonnx: Whether to use QONNX's operations.
    """
    graph, onnx_graph = spec.graph, OnnxGraph(spec.graph, qonnx=qonnx)
    for node in graph.nodes:
        node.to_onnx(onnx_graph)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *graph.shapes[name]])
        for name in (graph.topology.input, graph.topology.output)
    ]
    initializers = [
        numpy_helper.from_array(array, name) for name, array in onnx_graph.constants.items()
    ]
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain for node in onnx_graph.nodes):
        opsets.append(helper.make_opsetid(QONNX_DOMAIN, 1))
    model = helper.make_model(
        helper.make_graph(onnx_graph.nodes, "bwn", ends[:1], ends[1:], initializers),
        opset_imports=opsets,
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
