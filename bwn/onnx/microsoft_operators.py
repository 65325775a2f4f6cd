"""ONNX Runtime's own operations, as its optimizer writes them, as operations of ONNX.

FusedConv, FusedGemm     the product, a sum and the activation after it
FusedMatMul              MatMul of operands of which the last two axes may be swapped, times alpha
BiasGelu, FastGelu       Gelu of a sum
SkipLayerNormalization   LayerNormalization of a sum, which may be an output too
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from bwn.errors import GraphError
from bwn.ir.node import Array
from bwn.onnx.constant_folding import as_many, folds
from bwn.onnx.graph_order import refuse
from bwn.onnx.onnx_node import MICROSOFT, OWN, OnnxNode, RefusingMalformed
from bwn.ops.formulas import FUNCTIONS
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState

SWAP = "bwn.SwapAxes"
PARAMETERS = {
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
    **{known.onnx_op: tuple(known.attributes) for known in FUNCTIONS.values() if known.onnx_op},
}
"""Attributes of an activation, in the order in which a fused layer lists them."""
Nodes = list[onnx.NodeProto]


def standard_nodes(node: onnx.NodeProto) -> Nodes:
    """The nodes of ONNX that compute the same as one of Microsoft's; any other as it is."""
    write = FORMS.get(node.op_type)
    if write is None or node.domain != MICROSOFT:
        return [node]
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    writer = Writer(node)
    with RefusingMalformed(writer.refuse):
        write(writer, list(node.input), attributes)
    return writer.nodes


class Writer:
    """Collects the nodes that replace one.

    Args:
        node: The one.
    """

    def __init__(self, node: onnx.NodeProto) -> None:
        self.node, self.base = node, node.output[0]
        self.nodes: Nodes = []

    def add(
        self, op_type: str, inputs: Sequence[str], output: str | None = None, **attributes: Any
    ) -> str:
        """Add a node. Returns its output, without `output` a new name."""
        name = output or f"{self.base}.{op_type}{len(self.nodes)}"
        domain = OWN if op_type == SWAP else ""
        self.nodes.append(
            helper.make_node(op_type, inputs, [name], name=name, domain=domain, **attributes)
        )
        return name

    def refuse(self, why: str) -> GraphError:
        """An error that names the node."""
        return refuse(self.node, why)


def fused_layer(writer: Writer, inputs: list[str], attributes: dict[str, Any]) -> None:
    """FusedConv: x, w, bias, what is added. FusedGemm: a, b, c."""
    conv = writer.node.op_type == "FusedConv"
    kind = attributes.pop("activation", b"").decode("ascii", "replace")
    numbers = list(attributes.pop("activation_params", ()))
    for name in ("activation_alpha", "activation_beta", "activation_gamma"):
        numbers += [attributes.pop(name)] if name in attributes else []
    if numbers and len(numbers) != len(PARAMETERS.get(kind, ())):
        raise writer.refuse(f"activation '{kind}' with {len(numbers)} parameters is not supported")
    output = writer.add("Conv" if conv else "Gemm", inputs[:3], **attributes)
    if len(inputs) > 3:
        output = writer.add("Add", [output, inputs[3]])
    named = zip(PARAMETERS.get(kind, ()), numbers, strict=False)
    writer.add(kind or "Identity", [output], writer.base, **dict(named))


def fused_matmul(writer: Writer, inputs: list[str], attributes: dict[str, Any]) -> None:
    """alpha * A @ B."""
    if len(inputs) != 2:
        raise writer.refuse(f"has {len(inputs)} inputs, expected 2")
    if attributes.get("transBatchA") or attributes.get("transBatchB"):
        raise writer.refuse("transposed batches are not supported")
    operands = [
        writer.add(SWAP, [name]) if attributes.get(f"trans{side}") else name
        for side, name in zip("AB", inputs, strict=True)
    ]
    alpha = writer.add("Constant", [], value_float=attributes.get("alpha", 1.0))
    writer.add("Mul", [writer.add("MatMul", operands), alpha], writer.base)


def gelu(writer: Writer, inputs: list[str], attributes: dict[str, Any]) -> None:
    """Of x, or of x + bias."""
    x = writer.add("Add", inputs) if len(inputs) > 1 and inputs[1] else inputs[0]
    approximate = "tanh" if writer.node.op_type == "FastGelu" else "none"
    writer.add("Gelu", [x], writer.base, approximate=approximate)


def quick_gelu(writer: Writer, inputs: list[str], attributes: dict[str, Any]) -> None:
    """x * sigmoid(alpha x)."""
    writer.add("Swish", inputs, writer.base, alpha=attributes.get("alpha", 1.702))


def skip_layer_norm(writer: Writer, inputs: list[str], attributes: dict[str, Any]) -> None:
    """x, skip, gamma, beta, bias: of x + skip + bias, which is the last output."""
    x, skip, gamma, beta, bias = [*inputs, "", ""][:5]
    sums = [*writer.node.output, "", "", ""][3]
    terms = [x, writer.add("Add", [bias, skip]) if bias else skip]
    total = writer.add("Add", terms, sums or None)
    epsilon = attributes.get("epsilon", 1e-12)
    norm = [total, gamma, beta] if beta else [total, gamma]
    writer.add("LayerNormalization", norm, writer.base, axis=-1, epsilon=epsilon)


FORMS: dict[str, Callable[[Writer, list[str], dict[str, Any]], None]] = {
    "BiasGelu": gelu,
    "FastGelu": gelu,
    "FusedConv": fused_layer,
    "FusedGemm": fused_layer,
    "FusedMatMul": fused_matmul,
    "Gelu": gelu,
    "QuickGelu": quick_gelu,
    "SkipLayerNormalization": skip_layer_norm,
}


@folds(SWAP, as_many)
def swap(node: OnnxNode, data: Array) -> Array:
    """The last two axes in the other order."""
    return np.swapaxes(data, -1, -2)


@reads(SWAP)
def read_swap(state: ImportState, node: OnnxNode) -> None:
    """The last two axes in the other order."""
    view = state.movable(node)
    order = [*range(view.rank)]
    order[-2:] = order[:-3:-1]
    state.set_view(node, state.legal(node, lambda: view.transpose(order)))
