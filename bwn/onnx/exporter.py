"""Graph to ONNX: what a good float export of the same network would be.

ModelSpec words become +-scale weights of a Conv or Gemm, biases stay biases, bounds become Relu or Clip, int8 activations
the float function that they approximate. Tensors keep their names.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from bwn._files import write_beside
from bwn.ir.graph import (
    Add,
    Affine,
    AnyNode,
    Array,
    Clamp,
    Conv,
    Dense,
    Flatten,
    Graph,
    ModelSpec,
    Pool,
    Shape,
    Sign,
    Softmax,
)
from bwn.ir.shapes import depth, shapes
from bwn.kernels import bits

OPSET = 17
IR_VERSION = 8


class Exporter:
    """Collects the nodes and initializers of the ONNX graph being made."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes = shapes(graph)
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

    def emit(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Append a node, named after the tensor that it makes."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))


def save_onnx(spec: ModelSpec, path: str | os.PathLike[str]) -> None:
    """Write `packed` as an ONNX file, beside `path` first and then renamed. Raises FileError."""
    write_beside(path, to_onnx_bytes(spec))


def to_onnx_bytes(spec: ModelSpec) -> bytes:
    """`packed` as the bytes of an ONNX file: input (N, *input_shape) float32, opset 17."""
    graph, state = spec.graph, Exporter(spec.graph)
    for node in graph.nodes:
        export(state, node)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *state.shapes[name]])
        for name in (graph.topology.input, graph.topology.output)
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in state.constants.items()]
    made = helper.make_graph(state.nodes, "bwn", ends[:1], ends[1:], initializers)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="bwn"
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, metadata(spec))
    return bytes(model.SerializeToString(deterministic=True))


def metadata(spec: ModelSpec) -> dict[str, str]:
    """Preprocessing and class names as `load_onnx` reads them."""
    found: dict[str, Any] = {"bwn.preprocess": spec.preprocess, "bwn.classes": spec.classes}
    return {
        key: msgspec.json.encode(value).decode()
        for key, value in found.items()
        if value is not None
    }


def float_weights(graph: Graph, node: Conv | Dense, shape: Shape) -> Array:
    """scale * w of a product, (out, C / groups, KH, KW) or (out, K) float32; `shape` is that of its input."""
    weight = graph.tensors[node.weight]
    if weight.dtype == np.uint64:
        weight = bits.unpack(weight.astype(np.uint64, copy=False), depth(node, shape))
        if isinstance(node, Conv):
            rows, channels = weight.shape[0], shape[0] // node.groups
            weight = weight.reshape(rows, *node.kernel, channels).transpose(
                0, 3, 1, 2
            )  # (out, C / groups, KH, KW)
    floats = weight.astype(np.float32)
    if node.scale is not None:
        scale = graph.tensors[node.scale].astype(np.float32)
        floats = floats * scale.reshape(-1, *[1] * (floats.ndim - 1))
    return np.ascontiguousarray(floats)


def export(state: Exporter, node: AnyNode) -> None:
    """Append what one node of the Graph is in ONNX."""
    if isinstance(node, (Conv, Dense)):
        product(state, node)
    elif isinstance(node, Affine):
        affine(state, node)
    elif isinstance(node, Clamp):
        clamp(state, node.input, node)
    elif isinstance(node, Sign):
        zero, one, minus = (state.constant(f"{n:g}", np.asarray(n, np.float32)) for n in (0, 1, -1))
        state.emit("GreaterOrEqual", [node.input, zero], f"{node.output}.positive")
        state.emit("Where", [f"{node.output}.positive", one, minus], node.output)
    elif isinstance(node, Add):
        state.emit("Add", [node.input, node.other], node.output)
    elif isinstance(node, Pool):
        window = {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.pads}
        if node.kind == "max":
            state.emit("MaxPool", [node.input], node.output, **window)
        else:
            state.emit(
                "AveragePool",
                [node.input],
                node.output,
                **window,
                count_include_pad=int(node.count_pads),
            )
    elif isinstance(node, Flatten):
        state.emit("Flatten", [node.input], node.output, axis=1)
    elif isinstance(node, Softmax):
        state.emit("Softmax", [node.input], node.output, axis=-1)


def product(state: Exporter, node: Conv | Dense) -> None:
    """Conv or Gemm with the scale in its weights, then its clamp."""
    weights = float_weights(state.graph, node, state.shapes[node.input])
    inputs = [node.input, state.constant(node.weight, weights)]
    if node.bias is not None:
        inputs.append(state.constant(node.bias, state.graph.tensors[node.bias]))
    clamps = node.low is not None or node.high is not None
    output = f"{node.output}.sum" if clamps else node.output
    if isinstance(node, Conv):
        window = {
            "kernel_shape": node.kernel,
            "strides": node.stride,
            "pads": node.pads,
            "dilations": node.dilation,
        }
        state.emit("Conv", inputs, output, **window, group=node.groups)
    else:
        state.emit("Gemm", inputs, output, transB=1)
    if clamps:
        clamp(state, output, node)


def clamp(state: Exporter, source: str, node: Clamp | Conv | Dense) -> None:
    """Relu where that says it, else Clip."""
    if node.low == 0 and node.high is None:
        state.emit("Relu", [source], node.output)
        return
    bounds = [
        "" if bound is None else state.constant(f"{bound:g}", np.asarray(bound, np.float32))
        for bound in (node.low, node.high)
    ]
    state.emit("Clip", [source, *bounds], node.output)


def affine(state: Exporter, node: Affine) -> None:
    """A batch norm of mean 0 and variance 1, which runtimes know how to fold."""
    scale, bias = state.graph.tensors[node.scale], state.graph.tensors[node.bias]
    zeros = state.constant(f"zeros.{scale.size}", np.zeros(scale.shape, np.float32))
    ones = state.constant(f"ones.{scale.size}", np.ones(scale.shape, np.float32))
    inputs = [
        node.input,
        state.constant(node.scale, scale),
        state.constant(node.bias, bias),
        zeros,
        ones,
    ]
    state.emit("BatchNormalization", inputs, node.output, epsilon=0.0)
