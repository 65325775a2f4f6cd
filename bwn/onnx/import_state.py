"""The state of one import: what is known of each ONNX tensor while the nodes are walked in order.

An ONNX tensor is a constant (an array), an activation (a tensor of the Graph being made, with its shape), or pending:
half of a pattern, such as a comparison, that means something only to the node that reads it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from bwn.errors import GraphError
from bwn.ir.checker import check_node
from bwn.ir.graph import AnyNode, Array, Conv, Dense, Graph, Quantization, Shape, Topology


class Pending(NamedTuple):
    """Half of a pattern on the activation `source`.

    kind: `compare` (positive: true where source >= 0; negative: true where source < 0), `sign` (sign(source), with
    sign(0) = 0), `raised` (sign(source) + c, 0 < c < 1) or `quantized` (integers q of `rounding`).
    """

    kind: str
    source: str
    positive: bool = True
    rounding: Quantization | None = None


EXPLAINED = {
    "compare": "a comparison is read only as the condition of Where(x >= 0, 1, -1)",
    "sign": (
        "ONNX Sign gives 0 at 0, which one bit cannot hold; export Where(x >= 0, 1, -1) instead, so that sign(0) = +1"
    ),
    "raised": "Sign(x) + c is read only by another Sign",
    "quantized": "8-bit integers are read only by DequantizeLinear, or by a Clip before it",
}


ROUNDED_READERS = "which is rounded to 8 bits; only Conv, Gemm and MatMul read that: put QuantizeLinear right before them"


class Importer:
    """Collects the nodes and tensors of the Graph being made.

    single: whether the model was exported for a batch of 1, so that a size of 1 in front means the batch.
    """

    def __init__(self, graph_input: str, shape: Shape, opset: int, *, single: bool = False) -> None:
        self.opset, self.single = opset, single
        self.constants: dict[str, Array] = {}
        self.pending: dict[str, Pending] = {}
        self.aliases: dict[str, str] = {}
        self.rounded: dict[str, Quantization] = {}
        self.roundings: dict[tuple[str, str], Quantization | None] = {}
        self.shapes: dict[str, Shape] = {graph_input: shape}
        self.nodes: list[AnyNode] = []
        self.tensors: dict[str, Array] = {}
        self.topology = Topology(input=graph_input, input_shape=shape, output="", nodes=())

    def known(self, name: str) -> bool:
        """Whether `name` is an activation."""
        return self.aliases.get(name, name) in self.shapes

    def activation(
        self, node: onnx.NodeProto, index: int = 0, *, rounded: bool = False
    ) -> tuple[str, Shape]:
        """Name and shape of an input that must be an activation; `rounded`: also a rounded one. Raises GraphError."""
        name = self.input(node, index)
        if name in self.rounded and not rounded:
            raise refuse(node, f"reads '{name}', {ROUNDED_READERS}")
        name = self.aliases.get(name, name)
        if name in self.pending:
            raise refuse(node, f"reads '{name}': {EXPLAINED[self.pending[name].kind]}")
        if name not in self.shapes:
            raise refuse(
                node,
                f"input '{name}' is a constant, expected a tensor that depends on the network's input",
            )
        return name, self.shapes[name]

    def constant(self, node: onnx.NodeProto, index: int) -> Array:
        """Value of an input that must be a constant. Raises GraphError."""
        name = self.input(node, index)
        if name not in self.constants:
            raise refuse(
                node, f"input '{name}' is computed from the network's input, expected a constant"
            )
        return self.constants[name]

    def weights(self, node: onnx.NodeProto, index: int) -> npt.NDArray[np.float32]:
        """As `constant`, float32 numbers."""
        array = self.constant(node, index)
        if array.dtype != np.float32:
            raise refuse(
                node,
                f"'{node.input[index]}' is {array.dtype}, expected float32; export the model in float32",
            )
        return array.astype(np.float32, copy=False)

    def input(self, node: onnx.NodeProto, index: int) -> str:
        """Name of an input that must be there."""
        if index >= len(node.input) or not node.input[index]:
            raise refuse(node, f"has no input {index}")
        return str(node.input[index])

    def store(self, name: str, array: Array) -> str:
        """Keep `array` as a tensor of the Graph, under `name` where that is free or already means the same."""
        array = np.ascontiguousarray(array, np.float32)
        while name in self.shapes or (name in self.tensors and not same(self.tensors[name], array)):
            name += "'"
        self.tensors[name] = array
        return name

    def emit(self, node: AnyNode) -> None:
        """Append a node of the Graph, checked. Raises GraphError."""
        graph = Graph(topology=self.topology, tensors=self.tensors)
        self.shapes[node.output] = check_node(graph, node, self.shapes, set())
        self.nodes.append(node)

    def emit_product(self, node: onnx.NodeProto, made: Conv | Dense) -> None:
        """As `emit`; the node's input may be rounded to 8 bits, which is kept beside the Graph."""
        self.emit(made)
        rounding = self.rounded.get(node.input[0])
        if self.roundings.setdefault((made.input, made.weight), rounding) != rounding:
            raise refuse(
                node,
                f"reads '{made.input}' rounded in another way than a layer of the same weights does",
            )

    def alias(self, node: onnx.NodeProto) -> None:
        """The node changes nothing: its output is another name of its input."""
        self.aliases[node.output[0]] = self.activation(node)[0]


def same(one: Array, other: Array) -> bool:
    """Equal in shape and in every bit that counts."""
    return one.shape == other.shape and bool(np.array_equal(one, other))


def refuse(node: onnx.NodeProto, why: str) -> GraphError:
    """An error that names the operation and the node."""
    name = node.name or (node.output[0] if node.output else "")
    line = f"{node.op_type} node '{name}': {why}"
    return GraphError("".join(char if char.isprintable() else "?" for char in line))
