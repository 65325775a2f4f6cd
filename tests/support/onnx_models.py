"""ONNX models of a few nodes, for tests of the importer."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
from graphs import floats
from onnx import TensorProto, helper, numpy_helper

IMAGE = (4, 7, 6)
FLAT = (6,)


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
    """An ONNX file of a model from x, (batch, *shape), to `output`; `stored`: its initializers."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    start = helper.make_tensor_value_info("x", kind, [batch, *shape])
    end = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "test", [start], [end], tensors)
    domains = {"other", *(node.domain for node in nodes)} - {""}
    opsets = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(domain, 1) for domain in sorted(domains)),
    ]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(proto, notes or {})
    with contextlib.suppress(Exception):  # illegal models have no output shape to infer
        proto = onnx.shape_inference.infer_shapes(proto)
    proto.graph.output[0].type.tensor_type.shape.SetInParent()  # the checker wants any shape
    return proto.SerializeToString()


def changed(data, change):
    proto = onnx.load_model_from_string(data)
    change(proto)
    return proto.SerializeToString()


def one_function_each(*bodies, domain="f"):
    """Functions f0, f1, ... of one input a and one output b, and a model that calls the last."""

    def change(proto):
        proto.opset_import.append(helper.make_opsetid(domain, 1))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
        proto.functions.extend(
            helper.make_function(domain, f"f{index}", ["a"], ["b"], body, opsets)
            for index, body in enumerate(bodies)
        )

    return changed(model(op(f"f{len(bodies) - 1}", "x", domain=domain), shape=FLAT), change)


BN = {
    "g": floats(4, seed=1),
    "b": floats(4, seed=2),
    "m": floats(4, seed=3),
    "v": np.abs(floats(4, seed=4)) + f32(0.1),
}
SIGN = {"z": f32(0.0), "p": f32(1.0), "n": f32(-1.0)}
