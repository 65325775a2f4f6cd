"""ONNX operations on integers as operations on the numbers that the integers stand for.

    QLinearConv(x, w)            QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w)))
    DynamicQuantizeLinear(x) -> ConvInteger(w) -> Cast -> Mul by both scales
                                 Conv(DynamicQuantize(x), DequantizeLinear(w))

as ONNX Runtime's static quantizer ("QOperator") and its dynamic one write them. The integers of
both sides are the same, up to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import onnx
from onnx import helper

from bwn.onnx.graph_order import refuse
from bwn.onnx.onnx_node import MICROSOFT, OWN, STANDARD

DYNAMIC = "bwn.DynamicQuantize"
Nodes = list[onnx.NodeProto]


class Form(NamedTuple):
    """Where an operation on integers has its inputs.

    Attributes:
        op_type: The operation on numbers.
        parts: First of three inputs, integers with scale and zero point, of each operand.
        result: First of two inputs: scale and zero point of the result.
        axes: Axis of the scales of each operand, where it has several.
    """

    op_type: str
    parts: tuple[int, ...]
    result: int
    axes: tuple[int, ...] = ()


FORMS = {
    "QGemm": Form("Gemm", (0, 3), 7),
    "QLinearAdd": Form("Add", (0, 3), 6),
    "QLinearAveragePool": Form("AveragePool", (0,), 3),
    "QLinearConv": Form("Conv", (0, 3), 6, (0, 0)),
    "QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": Form("LeakyRelu", (0,), 3),
    "QLinearMatMul": Form("MatMul", (0, 3), 6, (0, -1)),
    "QLinearMul": Form("Mul", (0, 3), 6),
    "QLinearSigmoid": Form("Sigmoid", (0,), 3),
    "QLinearSoftmax": Form("Softmax", (0,), 3),
}
BIASES = {"QLinearConv": 8, "QGemm": 6}
"""The input of int32, whose scale is the product of the scales of x and w."""
LINEAR = ("QuantizeLinear", "DequantizeLinear")
"""Operations of ONNX that Microsoft has too."""
DROPPED = ("channels_last", "opset")
"""Attributes of Microsoft's operations that ONNX's have not."""


def float_nodes(graph: onnx.GraphProto) -> Nodes:
    """The nodes of a graph in order, those on integers replaced."""
    nodes = fused_dynamic(list(graph.node), [value.name for value in graph.output])
    return [new for node in nodes for new in (qlinear(node) if quantizes(node) else [node])]


def quantizes(node: onnx.NodeProto) -> bool:
    """Whether a node is one of FORMS, or Microsoft's version of what ONNX has too."""
    known = node.op_type in FORMS or node.op_type in ("QLinearConcat", *LINEAR)
    return known and node.domain in (*STANDARD, MICROSOFT)


def qlinear(node: onnx.NodeProto) -> Nodes:
    """The nodes that compute the same on numbers."""
    if node.op_type in LINEAR:
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.domain = ""
        return [plain]
    inputs, base = list(node.input), node.output[0]
    if attribute(node, "channels_last", 0):
        raise refuse(node, "channels_last is 1, which is not supported")
    concat = node.op_type == "QLinearConcat"
    form = Form("Concat", tuple(range(2, len(inputs), 3)), 0) if concat else FORMS[node.op_type]
    nodes: Nodes = []
    operands = []
    for number, start in enumerate(form.parts):
        axes = form.axes or (1,) * len(form.parts)
        axis = axes[number]
        if node.op_type == "QGemm" and number == 1:
            axis = 0 if attribute(node, "transB", 0) else 1
        operands.append(f"{base}.operand{number}")
        nodes.append(
            make_node("DequantizeLinear", inputs[start : start + 3], operands[-1], axis=axis)
        )
    at = BIASES.get(node.op_type, len(inputs))
    if at < len(inputs) and inputs[at]:
        nodes.append(make_node("Mul", [inputs[1], inputs[4]], f"{base}.unit"))
        nodes.append(
            make_node("DequantizeLinear", [inputs[at], f"{base}.unit"], f"{base}.bias", axis=0)
        )
        operands.append(f"{base}.bias")
    result = inputs[form.result : form.result + 2]
    output = f"{base}.number" if result and result[0] else base
    nodes.append(make_node(form.op_type, operands, output))
    nodes[-1].attribute.extend(item for item in node.attribute if item.name not in DROPPED)
    if output != base:
        nodes.append(make_node("QuantizeLinear", [output, *result], base))
    return nodes


def make_node(
    op_type: str, inputs: Sequence[str], output: str, **attributes: Any
) -> onnx.NodeProto:
    """A node of ONNX's own."""
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """A whole-number attribute."""
    return next((int(item.i) for item in node.attribute if item.name == name), default)


# Dynamic quantization


def fused_dynamic(nodes: Nodes, outputs: Iterable[str]) -> Nodes:
    """Nodes with each dynamically quantized product as one on numbers.

    Args:
        nodes: In order.
        outputs: Names of the tensors that are needed.
    """
    makers = {name: node for node in nodes for name in node.output if name}
    readers: dict[str, Nodes] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    replaced: dict[int, Nodes] = {}
    for node in nodes:
        if node.op_type in ("ConvInteger", "MatMulInteger") and node.domain in STANDARD:
            fuse(node, makers, readers, replaced)
    if not replaced:
        return nodes
    needed, kept = set(outputs), []
    for new in reversed([new for node in nodes for new in replaced.get(id(node), [node])]):
        if needed.intersection(new.output):
            needed.update(new.input)
            kept.append(new)
    return kept[::-1]


def fuse(
    node: onnx.NodeProto,
    makers: dict[str, onnx.NodeProto],
    readers: dict[str, Nodes],
    replaced: dict[int, Nodes],
) -> None:
    """Replace a product of integers and the scaling after it, where they have the usual form."""
    dynamic = makers.get(node.input[0])
    if dynamic is None or dynamic.op_type != "DynamicQuantizeLinear" or len(node.input) < 3:
        return
    quantized, scale, zero = dynamic.output
    cast = only(readers, node.output[0], "Cast")
    scaling = only(readers, cast.output[0], "Mul") if cast is not None else None
    if node.input[2] != zero or cast is None or scaling is None:
        return
    other = next(name for name in [*scaling.input, ""] if name != cast.output[0])
    unit = makers.get(other)
    weight_scale = [name for name in unit.input if name != scale] if unit is not None else []
    if unit is None or unit.op_type != "Mul" or scale not in unit.input or len(weight_scale) != 1:
        return
    numbers, weight = f"{quantized}.number", f"{node.output[0]}.weight"
    quantize = make_node(DYNAMIC, [dynamic.input[0]], numbers, domain=OWN)
    conv = node.op_type == "ConvInteger"
    weights = [node.input[1], weight_scale[0], *node.input[3:4]]
    product = make_node("Conv" if conv else "MatMul", [numbers, weight], scaling.output[0])
    product.attribute.extend(node.attribute)
    replaced[id(dynamic)] = [quantize, dynamic]
    replaced[id(scaling)] = [
        make_node("DequantizeLinear", weights, weight, axis=0 if conv else -1),
        product,
    ]


def only(readers: dict[str, Nodes], name: str, op_type: str) -> onnx.NodeProto | None:
    """The one reader of a tensor, where it is of that operation."""
    nodes = readers.get(name, [])
    return nodes[0] if len(nodes) == 1 and nodes[0].op_type == op_type else None
