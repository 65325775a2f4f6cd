"""The state of an import: what is known about each ONNX tensor while the nodes are read in order.

An ONNX tensor is a constant (an array), an activation (a tensor of the graph, with its shape), or
pending: half of a pattern, such as a comparison, that only the node completing it can read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bwn._text import one_line
from bwn.errors import GraphError
from bwn.ir.checker import check_node
from bwn.ir.graph import Topology
from bwn.ir.node import Array, Node, Shape
from bwn.ir.quantization import Quantization
from bwn.ops.onnx_reading import Pending
from bwn.ops.weighted import Weighted

EXPLAINED = {
    "compare": "a comparison is read only as the condition of Where(x >= 0, 1, -1)",
    "sign": (
        "ONNX Sign gives 0 at 0, which one bit cannot hold; export Where(x >= 0, 1, -1) instead, "
        "so that sign(0) = +1"
    ),
    "raised": "Sign(x) + c is read only by another Sign",
    "quantized": "8-bit integers are read only by DequantizeLinear, or by a Clip before it",
}
QUANTIZED_READERS = (
    "which is quantized to 8 bits; only Conv, Gemm and MatMul can read that: "
    "put QuantizeLinear right before them"
)


@dataclass(frozen=True)
class OnnxNode:
    """An ONNX node with plain Python values: text, numpy types and numpy arrays."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0]

    def has(self, index: int) -> bool:
        """Whether the node has the optional input `index`."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def refuse(self, why: str) -> GraphError:
        """An error that names the operation and the node, on one line."""
        name = self.name or (self.outputs[0] if self.outputs else "")
        return GraphError(one_line(f"{self.op_type} node '{name}': {why}"))


class Allowance:
    """The bytes that an import may still allocate for constants.

    A file of 2 kB can ask for as much memory as there is: by constants that double, or by one
    number that becomes a vector for each of ten thousand nodes.

    Args:
        file: Bytes of the model.
    """

    BASE = 2**27
    PER_BYTE = 16
    """Times the file's size: weights of 1 byte become 4, and pass through a few nodes."""

    def __init__(self, file: int = 0) -> None:
        self.limit = self.left = self.BASE + self.PER_BYTE * file

    def check(self, node: OnnxNode | Node | None, size: int) -> None:
        """Raise GraphError where a node would allocate more bytes than are left."""
        if size > self.left:
            why = (
                f"makes a constant of {size:,} bytes; those that a model of this size computes may "
                f"take {self.limit:,} bytes together"
            )
            raise GraphError(why) if node is None else node.refuse(why)

    def take(self, node: OnnxNode | Node | None, size: int) -> None:
        """As `check`, and take the bytes off."""
        self.check(node, size)
        self.left -= size


class ImportState:
    """Collects the nodes and stored tensors of the graph.

    Attributes:
        opset: Version of ONNX's operations in the file.
        single: Whether the model was exported for a batch of 1, so that a leading 1 is the batch.
        constants: The known arrays.
        allowance: The bytes that constants may still take.
        pending: The halves of patterns.
        aliases: Further names of activations.
        quantized: Activations quantized to 8 bits, which only layers with weights can read.
        quantizations: How each of those layers quantizes its input.
        shapes: Shapes of the activations.
        nodes: The nodes so far.
        tensors: The stored tensors so far.
    """

    def __init__(
        self, graph_input: str, shape: Shape, opset: int, *, single: bool = False, file: int = 0
    ) -> None:
        self.opset, self.single = opset, single
        self.allowance = Allowance(file)
        self.constants: dict[str, Array] = {}
        self.pending: dict[str, Pending] = {}
        self.aliases: dict[str, str] = {}
        self.quantized: dict[str, Quantization] = {}
        self.quantizations: dict[tuple[str, str], Quantization | None] = {}
        self.shapes: dict[str, Shape] = {graph_input: shape}
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}
        self.topology = Topology(input=graph_input, input_shape=shape, output="", nodes=())

    def is_constant(self, node: OnnxNode, index: int) -> bool:
        """Whether an input of a node is a constant."""
        return node.has(index) and node.inputs[index] in self.constants

    def activation(
        self, node: OnnxNode, index: int = 0, *, quantized: bool = False
    ) -> tuple[str, Shape]:
        """Name and shape of an input that must be an activation.

        Args:
            node: The node that reads it.
            index: Which of the node's inputs.
            quantized: Whether it may be quantized to 8 bits.

        Raises:
            GraphError: It is not an activation, or is quantized.
        """
        name = self._input(node, index)
        if name in self.quantized and not quantized:
            raise node.refuse(f"reads '{name}', {QUANTIZED_READERS}")
        name = self.aliases.get(name, name)
        if name in self.pending:
            raise node.refuse(f"reads '{name}': {EXPLAINED[self.pending[name].kind]}")
        if name not in self.shapes:
            raise node.refuse(
                f"input '{name}' is a constant, expected a tensor that depends on the network's "
                "input"
            )
        return name, self.shapes[name]

    def constant(self, node: OnnxNode, index: int) -> Array:
        """Value of an input that must be a constant. Raises GraphError where it is not."""
        name = self._input(node, index)
        if name not in self.constants:
            raise node.refuse(
                f"input '{name}' is computed from the network's input, expected a constant"
            )
        return self.constants[name]

    def optional(self, node: OnnxNode, index: int) -> Array | None:
        """As `constant`; None where the node lacks that input."""
        return self.constant(node, index) if node.has(index) else None

    def weights(self, node: OnnxNode, index: int) -> npt.NDArray[np.float32]:
        """As `constant`, of float32 numbers."""
        array = self.constant(node, index)
        if array.dtype != np.float32:
            raise node.refuse(
                f"'{node.inputs[index]}' is {array.dtype}, expected float32; "
                "export the model in float32"
            )
        return array.astype(np.float32, copy=False)

    def store(self, name: str, array: Array) -> str:
        """Store a float32 tensor under `name`, with marks added where another tensor has it.

        Returns:
            The name under which it is stored.
        """
        self.allowance.take(None, array.size * 4)
        array = np.ascontiguousarray(array, np.float32)
        while name in self.shapes or (
            name in self.tensors and not np.array_equal(self.tensors[name], array)
        ):
            name += "'"
        self.tensors[name] = array
        return name

    def emit(self, node: Node) -> None:
        """Append a node of the graph. Raises GraphError where it is not legal."""
        self.shapes[node.output] = check_node(node, self.tensors, self.shapes, set())
        self.nodes.append(node)

    def emit_weighted(self, node: OnnxNode, layer: Weighted) -> None:
        """As `emit`, and note how the layer quantizes its input."""
        self.emit(layer)
        quantization = self.quantized.get(node.inputs[0])
        key = (layer.input, layer.weight)
        if self.quantizations.setdefault(key, quantization) != quantization:
            raise node.refuse(
                f"quantizes '{layer.input}' differently from another layer with the same weights"
            )

    def alias(self, node: OnnxNode) -> None:
        """Make the output of a node that changes nothing another name for its input."""
        self.aliases[node.output] = self.activation(node)[0]

    def _input(self, node: OnnxNode, index: int) -> str:
        if not node.has(index):
            raise node.refuse(f"has no input {index}")
        return node.inputs[index]
