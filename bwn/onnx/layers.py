"""Import of the layers with weights and of the elementwise ops: one function an ONNX op, by its name in LAYERS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bwn.ir.graph import Add, Affine, Array, Clamp, Conv, Dense, Shape, Sign
from bwn.onnx.import_state import Importer, Pending, refuse
from bwn.onnx.padding import pair, window_pads
from bwn.onnx.rounding import narrow

Attributes = dict[str, Any]
Handler = Callable[[Importer, onnx.NodeProto, Attributes], None]

LARGEST = float(np.finfo(np.float32).max)


def conv(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Conv, 2-D."""
    source, shape = state.activation(node, rounded=True)
    weight = state.weights(node, 1)
    if weight.ndim == 3:
        raise refuse(
            node, "is a 1-D convolution; only 2-D is supported (reshape the signal to height 1)"
        )
    if weight.ndim != 4 or len(shape) != 3:
        raise refuse(
            node,
            f"weights have {weight.ndim} axes; only 2-D convolution of (N, C, H, W) is supported",
        )
    kernel = (weight.shape[2], weight.shape[3])
    if tuple(attrs.get("kernel_shape", kernel)) != kernel:
        raise refuse(node, f"kernel_shape is {attrs['kernel_shape']}, its weights say {kernel}")
    stride, dilation = pair(node, attrs, "strides"), pair(node, attrs, "dilations")
    made = Conv(
        input=source,
        output=node.output[0],
        weight=state.store(node.input[1], weight),
        bias=bias_of(state, node, weight.shape[0]),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pads=window_pads(node, attrs, (shape[1], shape[2]), kernel, stride, dilation),
        groups=attrs.get("group", 1),
    )
    state.emit_product(node, made)


def bias_of(state: Importer, node: onnx.NodeProto, count: int, factor: float = 1.0) -> str | None:
    """Stored name of the third input as a vector of `count` times `factor`; None where it is not given."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    bias = state.weights(node, 2)
    if bias.size not in (1, count) or bias.shape[-1:] not in ((), (1,), (count,)):
        raise refuse(node, f"'{node.input[2]}' has shape {bias.shape}, expected ({count},)")
    vector = np.broadcast_to(bias.reshape(-1), (count,))
    return state.store(node.input[2], vector if factor == 1 else vector * np.float32(factor))


def gemm(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Gemm with constant B: alpha * x @ B + beta * C."""
    source, _ = state.activation(node, rounded=True)
    if attrs.get("transA", 0):
        raise refuse(node, "transA = 1 is not supported")
    weight = state.weights(node, 1)
    if weight.ndim != 2:
        raise refuse(node, f"'{node.input[1]}' has shape {weight.shape}, expected two axes")
    if not attrs.get("transB", 0):
        weight = weight.T
    if attrs.get("alpha", 1.0) != 1:
        weight = weight * np.float32(attrs["alpha"])
    bias = bias_of(state, node, weight.shape[0], attrs.get("beta", 1.0))
    made = Dense(
        input=source, output=node.output[0], weight=state.store(node.input[1], weight), bias=bias
    )
    state.emit_product(node, made)


def matmul(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """MatMul of (N, K) by a constant (K, out)."""
    source, _ = state.activation(node, rounded=True)
    weight = state.weights(node, 1)
    if weight.ndim != 2:
        raise refuse(node, f"'{node.input[1]}' has shape {weight.shape}, expected two axes")
    made = Dense(input=source, output=node.output[0], weight=state.store(node.input[1], weight.T))
    state.emit_product(node, made)


def batch_norm(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """BatchNormalization at inference: gamma * (x - mean) / sqrt(var + epsilon) + beta."""
    if attrs.get("training_mode", 0) or any(node.output[1:]):
        raise refuse(node, "is in training mode; export the model for inference")
    gamma, beta, mean, var = (
        state.weights(node, index).astype(np.float64) for index in range(1, 5)
    )
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + attrs.get("epsilon", 1e-5))
        affine(state, node, state.activation(node)[0], scale, beta - mean * scale)


def affine(
    state: Importer,
    node: onnx.NodeProto,
    source: str,
    scale: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
) -> None:
    """Emit scale * x + bias, each (C,) float64."""
    output = node.output[0]
    with np.errstate(over="ignore"):
        names = [
            state.store(f"{output}.{kind}", array)
            for kind, array in (("scale", scale), ("bias", bias))
        ]
    state.emit(Affine(input=source, output=output, scale=names[0], bias=names[1]))


def per_channel(node: onnx.NodeProto, value: Array, shape: Shape) -> npt.NDArray[np.float64]:
    """`value` as (C,) float64, where it is one number or one a channel of activations of `shape`; else GraphError."""
    axes = (1,) * (len(shape) + 1 - value.ndim) + value.shape
    if (
        len(axes) != len(shape) + 1
        or axes[0] != 1
        or any(size != 1 for size in axes[2:])
        or axes[1] not in (1, shape[0])
    ):
        raise refuse(
            node,
            f"a constant of shape {value.shape} on {shape}: expected one number, or one a channel",
        )
    return np.broadcast_to(value.astype(np.float64).reshape(-1), (shape[0],))


def arithmetic(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Add, Sub, Mul, Div with a constant, as an affine map; Add of two activations."""
    op = node.op_type
    constants = [index for index in (0, 1) if node.input[index] in state.constants]
    if not constants:
        add(state, node)
        return
    at = constants[0]
    if op == "Add" and raised(state, node, at):
        return
    source, shape = state.activation(node, 1 - at)
    value = per_channel(node, state.weights(node, at), shape)
    one, zero = np.ones(shape[0]), np.zeros(shape[0])
    if op == "Add":
        affine(state, node, source, one, value)
    elif op == "Mul":
        affine(state, node, source, value, zero)
    elif op == "Sub":
        affine(state, node, source, one if at == 1 else -one, -value if at == 1 else value)
    elif at == 1 and value.all():
        affine(state, node, source, 1 / value, zero)
    else:
        raise refuse(
            node,
            "divides by 0"
            if at == 1
            else "divides a constant by an activation, which is not supported",
        )


def add(state: Importer, node: onnx.NodeProto) -> None:
    """Add of two activations of equal shape."""
    if node.op_type != "Add":
        raise refuse(node, "of two activations is not supported; only Add is")
    state.emit(
        Add(
            input=state.activation(node)[0],
            other=state.activation(node, 1)[0],
            output=node.output[0],
        )
    )


def relu(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Relu."""
    state.emit(Clamp(input=state.activation(node)[0], output=node.output[0], low=0.0))


def clip(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Clip, bounds as inputs or as attributes; of 8-bit integers, a part of their rounding."""
    half = state.pending.get(node.input[0])
    if half is not None and half.kind == "quantized":
        narrow(state, node, half)
        return
    found: dict[str, float | None] = {}
    for index, name in ((1, "min"), (2, "max")):
        value = attrs.get(name)
        if len(node.input) > index and node.input[index]:
            bound = state.weights(node, index)
            if bound.size != 1:
                raise refuse(node, f"{name} has shape {bound.shape}, expected one number")
            value = float(bound.reshape(-1)[0])
        unlimited = value is not None and (value <= -LARGEST if name == "min" else value >= LARGEST)
        found[name] = None if value is None or unlimited else float(value)
    state.emit(
        Clamp(
            input=state.activation(node)[0],
            output=node.output[0],
            low=found["min"],
            high=found["max"],
        )
    )


def compare(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """A comparison of an activation with 0; only x >= 0 and x < 0 (and their mirror images) split where Sign does."""
    at = 1 if node.input[1] in state.constants else 0
    source, _ = state.activation(node, 1 - at)
    if state.weights(node, at).any():
        raise refuse(node, "compares with a number other than 0, which is not supported")
    op = node.op_type
    if at == 0:
        mirrored = {"Greater": "Less", "Less": "Greater", "GreaterOrEqual": "LessOrEqual"}
        op = mirrored.get(op, "GreaterOrEqual")
    if op not in ("GreaterOrEqual", "Less"):
        raise refuse(node, "puts 0 on the side of -1; bwn has sign(0) = +1: compare with x >= 0")
    state.pending[node.output[0]] = Pending("compare", source, op == "GreaterOrEqual")


def negation(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Not of a comparison: opset 11 has no GreaterOrEqual and writes Not(Less(x, 0))."""
    half = state.pending.get(node.input[0])
    if half is None or half.kind != "compare":
        raise refuse(node, "is supported only for a comparison with 0")
    state.pending[node.output[0]] = half._replace(positive=not half.positive)


def where(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Where(x >= 0, 1, -1), or Where(x < 0, -1, 1), as Sign."""
    half = state.pending.get(node.input[0])
    if half is None or half.kind != "compare":
        raise refuse(node, "is supported only as Where(x >= 0, 1, -1)")
    values = (state.weights(node, 1), state.weights(node, 2))
    expected = (1, -1) if half.positive else (-1, 1)
    if any(
        value.size != 1 or value.reshape(-1)[0] != wanted
        for value, wanted in zip(values, expected, strict=True)
    ):
        raise refuse(node, "is supported only with the values 1 where x >= 0 and -1 elsewhere")
    state.emit(Sign(input=half.source, output=node.output[0]))


def sign(state: Importer, node: onnx.NodeProto, attrs: Attributes) -> None:
    """Sign(Sign(x) + c), 0 < c < 1, as Sign; a plain Sign waits for that and is refused if it does not come."""
    half = state.pending.get(node.input[0])
    if half is not None and half.kind == "raised":
        state.emit(Sign(input=half.source, output=node.output[0]))
    else:
        state.pending[node.output[0]] = Pending("sign", state.activation(node)[0])


def raised(state: Importer, node: onnx.NodeProto, at: int) -> bool:
    """Whether `node` is Sign(x) + c with 0 < c < 1; then it waits for the outer Sign."""
    half = state.pending.get(node.input[1 - at])
    value = state.constants[node.input[at]]
    if half is None or half.kind != "sign" or value.size != 1 or not 0 < value.reshape(-1)[0] < 1:
        return False
    state.pending[node.output[0]] = Pending("raised", half.source)
    return True


LAYERS: dict[str, Handler] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
    "Relu": relu,
    "Clip": clip,
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), compare),
    "Not": negation,
    "Where": where,
    "Sign": sign,
}
