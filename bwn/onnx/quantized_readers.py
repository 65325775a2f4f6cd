"""Reading of quantized networks: QuantizeLinear and DequantizeLinear, and QONNX's operations.

Integers of activations exist only between QuantizeLinear and DequantizeLinear. The graph holds the
numbers that they stand for, made by one `Quantize`.
"""

from __future__ import annotations

from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from bwn.ir.node import Array
from bwn.ir.quantization import Quantization
from bwn.onnx.constant_folding import broadcast, folds
from bwn.onnx.views import View
from bwn.ops.onnx_reading import READERS, Pending, reads
from bwn.ops.quantize import LIMIT, ROUND, Quantize, Rounding
from bwn.ops.sign import Sign

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

MOVES = frozenset(
    ["DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice",
     "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze"]
)  # fmt: skip
"""Operations that integers pass through."""
WHOLE = ("int8", "uint8", "int16", "uint16")
DOMAINS = ("qonnx.", "finn.", "onnx.brevitas", "brevitas")
"""How the domains begin in which QONNX's operations are found."""
QONNX = frozenset(["BipolarQuant", "IntQuant", "Quant", "Trunc"])
MAX_BITS = 16
ROUNDINGS: dict[str, Rounding] = {
    "ROUND": "round", "HALF_EVEN": "round", "FLOOR": "floor", "CEIL": "ceil",
}  # fmt: skip


def is_qonnx(node: OnnxNode, domain: str) -> bool:
    """Whether a node is one of QONNX's, in any domain in use."""
    return node.op_type in QONNX and domain.startswith(DOMAINS)


# QuantizeLinear, Clip, DequantizeLinear


def begin(state: ImportState, node: OnnxNode) -> Quantization | None:
    """Before a node is read: its quantization, where it moves integers of an activation.

    Raises:
        GraphError: It reads such integers and is no operation that they pass through.
    """
    if node.op_type in ("Clip", "DequantizeLinear"):
        return None
    for name in node.inputs:
        half = state.pending.get(name)
        if half is not None and half.quantization is not None and node.op_type in MOVES:
            state.views[name] = rounded(state, half, f"{name}.rounded")
            state.integers[name] = half.quantization
            del state.pending[name]
    kinds = [state.integers[name] for name in node.inputs if name in state.integers]
    if kinds and node.op_type not in MOVES:
        raise node.refuse("reads integers of a quantized activation; put DequantizeLinear first")
    return kinds[0] if kinds else None


@reads("QuantizeLinear")
def read_quantize(state: ImportState, node: OnnxNode) -> None:
    """Of an activation; DequantizeLinear completes it."""
    view = state.whole(node)
    default = np.zeros((), node.attrs.get("output_dtype") or np.uint8)
    zero = state.constant(node, 2) if node.has(2) else default
    if zero.dtype.name not in WHOLE:
        raise node.refuse(f"quantizes to {zero.dtype}, expected {' or '.join(WHOLE)}")
    limits = np.iinfo(zero.dtype)
    quantization = Quantization(scale_of(state, node), whole(node, zero), limits.min, limits.max)
    state.pending[node.output] = Pending("quantized", view, quantization=quantization)


def clip_quantized(state: ImportState, node: OnnxNode) -> bool:
    """Take a Clip of quantized integers.

    Returns:
        Whether the node is one.
    """
    half = state.pending.get(node.inputs[0])
    if half is None or half.quantization is None:
        return False
    known = half.quantization
    low, high = (
        whole(node, state.constant(node, index)) if node.has(index) else bound
        for index, bound in ((1, known.low), (2, known.high))
    )
    known = replace(known, low=max(low, known.low), high=min(high, known.high))
    if known.low > known.high:
        raise node.refuse(f"clips integers to {low} to {high}, which leaves none")
    state.pending[node.output] = replace(half, quantization=known)
    return True


@reads("DequantizeLinear")
def read_dequantize(state: ImportState, node: OnnxNode) -> None:
    """Of what QuantizeLinear made, perhaps with another scale or zero point."""
    name = node.inputs[0]
    half, known = state.pending.get(name), state.integers.get(name)
    if half is not None and half.quantization is not None:
        known = half.quantization
    if known is None:
        raise node.refuse("reads activations that no QuantizeLinear has quantized")
    scale = scale_of(state, node)
    zero = whole(node, state.constant(node, 2)) if node.has(2) else 0
    same = (scale, zero) == (known.scale, known.zero)
    output = node.output if same else f"{node.output}.rounded"
    view = state.views[name] if half is None else rounded(state, half, output)
    if same:
        state.views[node.output] = view
        return
    middle = f"{node.output}.quantized"
    state.views[middle] = view
    state.constants |= {
        f"{middle}.scale": np.asarray(scale / known.scale, np.float32),
        f"{middle}.shift": np.asarray(scale * (known.zero - zero), np.float32),
    }
    call(state, node, "Mul", (middle, f"{middle}.scale"), f"{middle}.scaled")
    call(state, node, "Add", (f"{middle}.scaled", f"{middle}.shift"), node.output)


def rounded(state: ImportState, half: Pending, output: str) -> View:
    """What quantized integers stand for, as a view of the tensor of a `Quantize`."""
    known = half.quantization
    assert known is not None
    low, high = (float(bound - known.zero) for bound in (known.low, known.high))
    return quantized(state, half.view, output, scale=known.scale, low=low, high=high)


def quantized(state: ImportState, view: View, output: str, **fields: Any) -> View:
    """A view of the tensor of a `Quantize` with these fields, which is emitted once."""
    key = (view, *fields.items())
    if key not in state.rounded:
        node = Quantize(input=view.source, output=output, **fields)
        state.emit(node, like=view)
        state.rounded[key] = state.views[output]
    return state.rounded[key]


def scale_of(state: ImportState, node: OnnxNode) -> float:
    """The one scale of a tensor, a finite float32 above 0."""
    array = state.weights(node, 1)
    if array.size != 1:
        raise node.refuse(f"has {array.size} scales; activations need one scale a tensor")
    scale = float(array.reshape(-1)[0])
    if not (np.isfinite(scale) and scale > 0):
        raise node.refuse(f"has the scale {scale}, expected a finite number above 0")
    return scale


def whole(node: OnnxNode, array: Array) -> int:
    """A constant that is one whole number."""
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise node.refuse(f"a bound is {array.dtype} {array.shape}, expected one integer")
    value = float(array.astype(np.float64).reshape(-1)[0])
    if not abs(value) <= LIMIT or value != int(value):
        raise node.refuse(f"has {value}, expected a whole number up to {LIMIT:,}")
    return int(value)


def call(
    state: ImportState, node: OnnxNode, op_type: str, inputs: tuple[str, ...], output: str
) -> None:
    """Read an ONNX operation that is a part of a node."""
    part = changed(node, op_type=op_type, inputs=inputs, outputs=(output,), attrs={}, proto=None)
    READERS[op_type](state, part)


# DynamicQuantizeLinear and what follows it are one node here: see quantized_operators


@reads("bwn.DynamicQuantize")
def read_dynamic(state: ImportState, node: OnnxNode) -> None:
    """Quantization with a scale for each image."""
    state.note(
        "activations are quantized with a scale for each image; ONNX Runtime has one for the "
        "batch, so they agree on batches of one"
    )
    state.views[node.output] = quantized(state, state.whole(node), node.output)


# QONNX


@reads("BipolarQuant")
def read_bipolar(state: ImportState, node: OnnxNode) -> None:
    """scale * sign(x)."""
    sign_and_scale(state, node)


@reads("Quant", "IntQuant")
def read_quant(state: ImportState, node: OnnxNode) -> None:
    """scale * (clip(round(x / scale + zero)) - zero), of up to 16 bits."""
    low, high = limits(node, state.constant(node, 3))
    zero, bits = state.constant(node, 2), whole(node, state.constant(node, 3))
    if bits == 1 and node.attrs.get("signed", 1):
        if zero.any():
            raise node.refuse("has one bit and a zero point, which is not supported")
        sign_and_scale(state, node)
        return
    if zero.size != 1:
        raise node.refuse(f"has {zero.size} zero points; activations need one a tensor")
    fields = {
        "low": float(low), "high": float(high), "zero": float(zero.reshape(-1)[0]),
        "rounding": rounding_of(node),
    }  # fmt: skip
    if state.weights(node, 1).size == 1:
        view = state.whole(node)
        state.views[node.output] = quantized(
            state, view, node.output, scale=scale_of(state, node), **fields
        )
        return
    parts = [f"{node.output}.{part}" for part in ("scaled", "whole")]
    call(state, node, "Div", node.inputs[:2], parts[0])
    view = state.whole(changed(node, inputs=(parts[0],)))
    state.views[parts[1]] = quantized(state, view, parts[1], scale=1.0, **fields)
    call(state, node, "Mul", (parts[1], node.inputs[1]), node.output)


@reads("Trunc")
def read_trunc(state: ImportState, node: OnnxNode) -> None:
    """Integers of a scale divided by a power of two and rounded; in whole numbers, so exact."""
    scale, (divisor, out_scale) = scale_of(state, node), truncation(state, node)
    if state.constant(node, 2).any():
        raise node.refuse("has a zero point, which is not supported")
    low, high = -LIMIT, LIMIT
    if node.has(5):
        low, high = limits(node, state.constant(node, 5))
    parts = [f"{node.output}.{part}" for part in ("q", "near", "whole", "part")]
    state.constants |= {
        f"{node.output}.unit": np.asarray(1 / scale, np.float32),
        f"{node.output}.scale": np.asarray(out_scale / divisor, np.float32),
    }
    state.views[parts[0]] = quantized(state, state.whole(node), parts[0], scale=scale)
    call(state, node, "Mul", (parts[0], f"{node.output}.unit"), parts[1])
    for source, output, fields in (
        (parts[1], parts[2], {"scale": 1.0}),
        (parts[2], parts[3], {"scale": divisor, "low": float(low), "high": float(high),
                              "rounding": rounding_of(node, "FLOOR")}),
    ):  # fmt: skip
        view = state.whole(changed(node, inputs=(source,)))
        state.views[output] = quantized(state, view, output, **fields)
    call(state, node, "Mul", (parts[3], f"{node.output}.scale"), node.output)


def truncation(state: ImportState, node: OnnxNode) -> tuple[float, float]:
    """What Trunc divides integers by, and the scale of its result."""
    before, scale = whole(node, state.constant(node, 3)), scale_of(state, node)
    if node.has(5):  # version 2 of the operation
        out_scale = scale_of(state, changed(node, inputs=("", node.inputs[4])))
        return float(2.0 ** np.round(np.log2(out_scale / scale))), out_scale
    return float(2.0 ** (before - whole(node, state.constant(node, 4)))), scale


def sign_and_scale(state: ImportState, node: OnnxNode) -> None:
    """Emit scale * sign(x), sign(0) = +1."""
    view, signs = state.whole(node), f"{node.output}.signs"
    ones = bool((state.weights(node, 1) == 1).all())
    state.emit(Sign(input=view.source, output=node.output if ones else signs), like=view)
    if not ones:
        call(state, node, "Mul", (signs, node.inputs[1]), node.output)


def limits(node: OnnxNode, bits: Array) -> tuple[int, int]:
    """Smallest and largest integer of so many bits, by the node's attributes."""
    width, signed = whole(node, bits), bool(node.attrs.get("signed", 1))
    narrow = bool(node.attrs.get("narrow", 0))
    if not 1 <= width <= MAX_BITS:
        raise node.refuse(f"has {width} bits, expected 1 to {MAX_BITS}")
    if signed:
        return -(2 ** (width - 1)) + narrow, 2 ** (width - 1) - 1
    return 0, 2**width - 1 - narrow


def rounding_of(node: OnnxNode, default: str = "ROUND") -> Rounding:
    """The node's rounding mode."""
    mode = str(node.attrs.get("rounding_mode", default)).upper()
    if mode not in ROUNDINGS:
        raise node.refuse(f"rounding_mode is {mode}; supported: {', '.join(ROUNDINGS)}")
    return ROUNDINGS[mode]


# QONNX of constants


@folds("BipolarQuant", broadcast)
def fold_bipolar(node: OnnxNode, x: Any, scale: Any) -> Array:
    """scale * sign(x)."""
    return np.asarray(np.where(x >= 0, np.float32(1), np.float32(-1)) * scale, np.float32)


@folds("IntQuant", broadcast)
@folds("Quant", broadcast)
def fold_quant(node: OnnxNode, x: Any, scale: Any, zero: Any, bits: Any) -> Array:
    """As `read_quant`; any number of scales."""
    (low, high), round_ = limits(node, bits), ROUND[rounding_of(node)]
    q = x / scale + zero
    if whole(node, bits) == 1 and node.attrs.get("signed", 1):
        q = np.where(q >= 0, np.float32(1), np.float32(-1))
    else:
        q = round_(np.clip(q, np.float32(low), np.float32(high)))
    return np.asarray((q - zero) * scale, np.float32)
