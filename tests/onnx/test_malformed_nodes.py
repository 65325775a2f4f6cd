"""Nodes that pass ONNX's checker and still make no sense: one clear error each, without delay."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats
from onnx import AttributeProto, helper
from onnx_models import FLAT, f32, i64, model, op

from bwn.errors import GraphError
from bwn.onnx.importer import from_bytes

SURROUNDED = op("Pad", "x p v", "q")
AROUND = {"p": i64(0, 0, 1, 1, 0, 0, 1, 1), "v": f32(-np.inf)}
WINDOWS = {"v": floats(2, 4, 1, 3, 3), "a": i64(2)}
QUANT = "qonnx.custom_op.general"
HALVES = {"s": f32(0.5), "z": f32(0.0), "b": f32(4.0)}
SCALED = {"s": f32(0.5), "z": np.uint8(0)}


def resize(**stored):
    """A Resize to the scales, or sizes, s."""
    inputs = ["x", "", "s"] if stored["s"].dtype == np.float32 else ["x", "", "", "s"]
    return model(helper.make_node("Resize", inputs, ["y"], mode="linear"), batch=1, **stored)


def transposed(**attributes):
    node = op("ConvTranspose", "x w")
    for name, numbers in attributes.items():
        node.attribute.append(helper.make_attribute(name, numbers, attr_type=AttributeProto.INTS))
    return model(node, w=floats(4, 2, 3, 3))


MALFORMED = {
    "slice of fewer ends": (
        model(op("Slice", "x s e"), s=i64(0, 0), e=i64(1)),
        "has 2 starts, 1 ends, 2 axes and 2 steps, expected as many of each",
    ),
    "slice from fractions": (
        model(op("Slice", "x s e"), s=f32(0.5), e=f32(1.5)),
        "'s' is float32, expected integers",
    ),
    "pad of no value": (
        model(op("Pad", "x p v"), p=i64(0, 0, 1, 1, 0, 0, 1, 1), v=np.zeros(0, np.float32)),
        "its value has shape (0,), expected one number",
    ),
    "pad by infinity": (
        model(op("Pad", "x p"), p=np.full(8, np.inf, np.float32)),
        "'p' is float32, expected integers",
    ),
    "pool with two pads after -inf": (
        model(SURROUNDED, op("MaxPool", "q", kernel_shape=[3, 3], pads=[1, 1]), **AROUND),
        "reads 'q': padding with -inf is read only by MaxPool of four explicit pads",
    ),
    "einsum of constants": (
        model(
            op("Einsum", "w w", "v", equation="ab,bc->ac"),
            op("Gemm", "x v"),
            shape=FLAT,
            w=floats(6, 6),
        ),
        "multiplies two constants",
    ),
    "transposed conv without pads": (transposed(pads=[]), "cannot be read"),
    "transposed conv that loses rows": (transposed(output_padding=[-1, -1]), "output_padding"),
    "transposed conv to no shape": (transposed(output_shape=[]), "cannot be read"),
    "conv of volumes with two dilations": (
        model(op("Unsqueeze", "x a", "u"), op("Conv", "u v", dilations=[1, 1]), **WINDOWS),
        "cannot be read",
    ),
    "quant of no bits": (
        model(
            helper.make_node("Quant", ["w", "s", "z", ""], ["v"], domain=QUANT),
            op("Gemm", "x v"),
            shape=FLAT,
            w=floats(6, 6),
            **HALVES,
        ),
        "cannot be computed",
    ),
    "trunc of no scale": (
        model(
            op("Trunc", "x e z b t b", domain=QUANT), e=np.zeros(0, np.float32), t=f32(2), **HALVES
        ),
        "cannot be read",
    ),
    "fused matmul of three": (
        model(op("FusedMatMul", "x w w", domain="com.microsoft"), shape=FLAT, w=floats(6, 6)),
        "FusedMatMul node 'FusedMatMul of y': has 3 inputs, expected 2",
    ),
    "fused conv of no text": (
        model(
            op("FusedConv", "x w", domain="com.microsoft", activation=b"\xff"), w=floats(2, 4, 1, 1)
        ),
        "is not supported",
    ),
    "addition of nothing": (
        model(
            helper.make_node(
                "QLinearAdd", ["", *"sz", *"wsz", *"sz"], ["o"], domain="com.microsoft"
            ),
            op("DequantizeLinear", "o s z"),
            w=np.uint8([1, 2]),
            **SCALED,
        ),
        "cannot be computed",
    ),
    "pool of huge windows": (
        model(op("AveragePool", "x", kernel_shape=[2**33, 1], dilations=[2, 1]), opset=19),
        "expected each at least 1, at most 1,048,576",
    ),
    "pool of many long windows": (
        model(
            op("AveragePool", "x", kernel_shape=[2**18], dilations=[2]),
            shape=(1, 2**20),
            opset=19,
        ),
        "makes a constant of",
    ),
    "resize to a huge size": (resize(s=i64(1, 4, 2**40, 6)), "expected 1 to 1,048,576"),
    "resize by a huge scale": (resize(s=f32(1, 1, 1e30, 1)), "expected 1 to 1,048,576"),
    "cubic resize to a large size": (
        model(
            helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic"),
            shape=(1, 1, 2**14),
            s=f32(1, 1, 1, 64),
        ),
        "makes a constant of",
    ),
    "expansion to nothing": (
        model(op("GlobalMaxPool", "x", "m"), op("Expand", "m s"), s=i64(1, 4, 0, 6)),
        "repeats axis 2 of (N, 4, 1, 1), of size 1, to 0",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_nodes_are_refused_by_name(name):
    data, message = MALFORMED[name]
    with pytest.raises(GraphError) as caught:
        from_bytes(data)
    assert " node '" in str(caught.value)
    assert message in str(caught.value)
