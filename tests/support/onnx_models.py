"""ONNX models of a few nodes, for the tests of reading them."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = (4, 7, 6)
FLAT = (6,)


def rand(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def f32(*values):
    return np.asarray(values[0] if len(values) == 1 else values, np.float32)


def i64(*values):
    return np.asarray(values, np.int64)


def op(kind, inputs, output="y", domain="", **attributes):
    return helper.make_node(
        kind,
        inputs.split(" "),
        output.split(" "),
        name=f"{kind} of {output}",
        domain=domain,
        **attributes,
    )


def model(
    *nodes,
    shape=IMAGE,
    opset=17,
    batch="N",
    output="y",
    kind=TensorProto.FLOAT,
    notes=None,
    **stored,
) -> bytes:
    """A model from x: (batch, *shape) to `output`; `stored` are its initializers."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    start = helper.make_tensor_value_info("x", kind, [batch, *shape])
    end = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "test", [start], [end], tensors)
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("other", 1)]
    )
    made.ir_version = 8
    helper.set_model_props(made, notes or {})
    with contextlib.suppress(
        Exception
    ):  # the illegal ones among the models below have no output shape to infer
        made = onnx.shape_inference.infer_shapes(made)
    made.graph.output[
        0
    ].type.tensor_type.shape.SetInParent()  # the checker wants one, if only an empty one
    return made.SerializeToString()


BN = {
    "g": rand(4, seed=1),
    "b": rand(4, seed=2),
    "m": rand(4, seed=3),
    "v": np.abs(rand(4, seed=4)) + f32(0.1),
}
ONE, MINUS, ZERO = f32(1.0), f32(-1.0), f32(0.0)
SIGN = {"z": ZERO, "p": ONE, "n": MINUS}
