"""QONNX's operations in ONNX's own, so that ONNX Runtime runs what it does not know.

Written from QONNX's definition (github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops), not
from bwn's readers, which are compared with it.
"""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx.parser
from onnx import helper

from bwn.onnx.functions import every_node
from bwn.onnx.opsets import opset_of
from bwn.onnx.quantized_readers import is_qonnx

DOMAIN = "bwn.qonnx"
ROUNDINGS = {
    "ROUND": "r = Round (q)",
    "CEIL": "r = Ceil (q)",
    "FLOOR": "r = Floor (q)",
    "UP": "s = Sign (q) a = Abs (q) b = Ceil (a) r = Mul (s, b)",
    "DOWN": "s = Sign (q) a = Abs (q) b = Floor (a) r = Mul (s, b)",
    "HALF_UP": "s = Sign (q) a = Abs (q) h = Add (a, half) b = Floor (h) r = Mul (s, b)",
    "HALF_DOWN": "s = Sign (q) a = Abs (q) h = Sub (a, half) b = Ceil (h) r = Mul (s, b)",
}
"""From q to r."""
ROUNDINGS |= {"HALF_EVEN": ROUNDINGS["ROUND"], "ROUND_TO_ZERO": ROUNDINGS["DOWN"]}
SIGNED = """
    less = Sub (bits, one) power = Pow (two, less) most = Sub (power, one)
    all = Neg (power) least = Add (all, narrow)"""
UNSIGNED = """
    power = Pow (two, bits) all = Sub (power, one)
    most = Sub (all, narrow) least = Sub (one, one)"""
CLIP = "floor = Max (wide, least) q = Min (floor, most)"
BODIES = {
    ("BipolarQuant", 2): (
        "x, scale",
        """zero = Sub (one, one) below = Less (x, zero) minus = Neg (one)
        sign = Where (below, minus, one) y = Mul (sign, scale)""",
    ),
    ("Quant", 4): (
        "x, scale, zero, bits",
        """{bounds} units = Div (x, scale) wide = Add (units, zero) {clip} {round}
        o = Sub (one, one) below = Less (wide, o) minus = Neg (one)
        sign = Where (below, minus, one) single = Equal (bits, one) wanted = Constant <value =
        bool {{{signed}}}> () bipolar = And (single, wanted) whole = Where (bipolar, sign, r)
        number = Sub (whole, zero) y = Mul (number, scale)""",
    ),
    ("Trunc", 5): (
        "x, scale, zero, bits, out_bits",
        """units = Div (x, scale) moved = Add (units, zero) near = Round (moved)
        cut = Sub (bits, out_bits) divisor = Pow (two, cut) q = Div (near, divisor) {round}
        number = Sub (r, zero) y = Mul (number, scale)""",
    ),
    ("Trunc", 6): (
        "x, scale, zero, in_bits, out_scale, bits",
        """{bounds} units = Div (x, scale) moved = Add (units, zero) near = Round (moved)
        ratio = Div (out_scale, scale) log = Log (ratio) unit = Log (two) exact = Div (log, unit)
        power_of = Round (exact) divisor = Pow (two, power_of) wide = Div (near, divisor) {clip}
        {round} out_zero = Div (zero, divisor) number = Sub (r, out_zero)
        y = Mul (number, out_scale)""",
    ),
    ("FloatQuant", 6): (
        "x, scale, exponent_bits, mantissa_bits, bias, limit",
        """units = Div (x, scale) size = Abs (units) tiny = Constant <value =
        float {{1.1754943508222875e-38}}> () positive = Add (size, tiny) log = Log (positive)
        unit = Log (two) exact = Div (log, unit) exponent = Floor (exact)
        normal = Sub (exponent, mantissa_bits) next = Sub (one, bias)
        lowest = Sub (next, mantissa_bits) chosen = Max (normal, lowest) step = Pow (two, chosen)
        q = Div (units, step) {round} fine = Mul (r, step)
        count = Pow (two, exponent_bits) last = Sub (count, one) top = Sub (last, bias)
        range = Pow (two, top) cut = Neg (mantissa_bits) part = Pow (two, cut)
        digits = Sub (two, part) largest = Mul (digits, range) most = Min (largest, limit)
        least = Neg (most) above = Max (fine, least) number = Min (above, most)
        y = Mul (number, scale)""",
    ),
}
"""Of each operation with so many inputs: their names, and what it computes."""
BODIES["IntQuant", 4] = BODIES["Quant", 4]
FUNCTION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
{name} ({inputs}) => (y) {{
    one = Constant <value = float {{1.0}}> () two = Add (one, one) half = Div (one, two)
    narrow = Constant <value = float {{{narrow}.0}}> () {body}
}}"""


def with_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with QONNX's operations spelled out; those of unknown form are left.

    Args:
        model: Not changed.
    """
    if not any(is_qonnx(node.op_type, node.domain) for node in every_node(model.graph.node)):
        return model
    result, functions = onnx.ModelProto(), dict[str, onnx.FunctionProto]()
    result.CopyFrom(model)
    for node in every_node(result.graph.node):
        if is_qonnx(node.op_type, node.domain) and (text := function_of(node, opset_of(model))):
            function = onnx.parser.parse_function(text)
            functions[function.name] = function
            node.op_type, node.domain = function.name, DOMAIN
            del node.attribute[:]
    result.functions.extend(functions.values())
    result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return onnx.inliner.inline_local_functions(result)


def function_of(node: onnx.NodeProto, opset: int) -> str | None:
    """ONNX's text of the function that a node calls; None for an unknown form."""
    fields = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    default = b"FLOOR" if node.op_type == "Trunc" else b"ROUND"
    mode = fields.get("rounding_mode", default).decode("utf-8", "replace").upper()
    signed, narrow = int(fields.get("signed", 1) != 0), int(fields.get("narrow", 0) != 0)
    form = BODIES.get((node.op_type, len(node.input)))
    if form is None or mode not in ROUNDINGS or not all(node.input):
        return None
    names, body = form
    bounds = SIGNED if signed else UNSIGNED
    body = body.format(bounds=bounds, clip=CLIP, round=ROUNDINGS[mode], signed=signed)
    name = f"{node.op_type}{len(node.input)}_{mode}_{signed}{narrow}"
    return FUNCTION.format(
        domain=DOMAIN, opset=opset, name=name, inputs=names, narrow=narrow, body=body
    )
