"""Reads QuantizeLinear and DequantizeLinear; QONNX is in qonnx_readers.py.

Quantized activations are integers only between QuantizeLinear and DequantizeLinear. The graph holds
the numbers that they stand for, made by one `Quantize`.
"""

from __future__ import annotations

from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from bwn.ir.node import Array
from bwn.ir.quantization import Quantization
from bwn.onnx.views import View
from bwn.ops.onnx_reading import Pending, read_as, reads
from bwn.ops.quantize import LIMIT, Quantize

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

MOVES = frozenset(
    ["DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape",
     "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"]
)  # fmt: skip
"""Operations that integers pass through; Resize only in mode nearest."""
WHOLE = ("int8", "uint8", "int16", "uint16")
DOMAINS = ("qonnx.", "finn.", "onnx.brevitas", "brevitas")
"""Prefixes of the domains of QONNX's operations."""
QONNX = frozenset(["BipolarQuant", "FloatQuant", "IntQuant", "Quant", "Trunc"])


def is_qonnx(op_type: str, domain: str) -> bool:
    """Whether an operation is one of QONNX's, in any domain in use."""
    return op_type in QONNX and domain.startswith(DOMAINS)


# QuantizeLinear, Clip, DequantizeLinear


def begin(state: ImportState, node: OnnxNode) -> tuple[OnnxNode, Quantization | None]:
    """Prepare a node before it is read: the node for dequantized numbers, and their quantization.

    Raises:
        GraphError: It reads quantized integers and is not an operation that they pass through.
    """
    if node.op_type in ("Clip", "DequantizeLinear"):
        return node, None
    moves = node.op_type in MOVES and node.attrs.get("mode") not in ("linear", "cubic")
    for name in node.inputs:
        half = state.pending.get(name)
        if half is not None and half.quantization is not None and moves:
            state.views[name] = dequantized(state, half, f"{name}.rounded")
            state.integers[name] = half.quantization
            del state.pending[name]
    kinds = [state.integers[name] for name in node.inputs if name in state.integers]
    if not kinds:
        return node, None
    if not moves:
        raise node.refuse("reads integers of a quantized activation; put DequantizeLinear first")
    return (padding_numbers(state, node, kinds[0]) if node.op_type == "Pad" else node), kinds[0]


def padding_numbers(state: ImportState, node: OnnxNode, known: Quantization) -> OnnxNode:
    """A Pad of integers as a Pad of the numbers that they stand for."""
    value = integer_of(node, state.constant(node, 2)) if node.has(2) else 0
    name = f"{node.output}.value"
    state.constants[name] = np.asarray(known.scale * (value - known.zero), np.float32)
    return changed(node, inputs=(*node.inputs[:2], name, *node.inputs[3:]))


@reads("QuantizeLinear")
def read_quantize(state: ImportState, node: OnnxNode) -> None:
    """Needs a DequantizeLinear later; Clip, MaxPool, Reshape and the like may come between."""
    view = state.whole(node)
    default = np.zeros((), node.attrs.get("output_dtype") or np.uint8)
    zero = state.constant(node, 2) if node.has(2) else default
    if zero.dtype.name not in WHOLE:
        raise node.refuse(f"quantizes to {zero.dtype}, expected {' or '.join(WHOLE)}")
    limits = np.iinfo(zero.dtype)
    quantization = Quantization(
        scale_of(state, node), integer_of(node, zero), limits.min, limits.max
    )
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
        integer_of(node, state.constant(node, index)) if node.has(index) else bound
        for index, bound in ((1, known.low), (2, known.high))
    )
    known = replace(known, low=max(low, known.low), high=min(high, known.high))
    if known.low > known.high:
        raise node.refuse(f"clips integers to {low} to {high}, which leaves none")
    state.pending[node.output] = replace(half, quantization=known)
    return True


@reads("DequantizeLinear")
def read_dequantize(state: ImportState, node: OnnxNode) -> None:
    """Reads the output of QuantizeLinear; scale and zero point may differ."""
    name = node.inputs[0]
    half, known = state.pending.get(name), state.integers.get(name)
    if half is not None and half.quantization is not None:
        known = half.quantization
    if known is None:
        raise node.refuse("reads activations that no QuantizeLinear has quantized")
    scale = scale_of(state, node)
    zero = integer_of(node, state.constant(node, 2)) if node.has(2) else 0
    same = (scale, zero) == (known.scale, known.zero)
    output = node.output if same else f"{node.output}.rounded"
    view = state.views[name] if half is None else dequantized(state, half, output)
    if same:
        state.views[node.output] = view
        return
    middle = f"{node.output}.quantized"
    state.views[middle] = view
    state.constants |= {
        f"{middle}.scale": np.asarray(scale / known.scale, np.float32),
        f"{middle}.shift": np.asarray(scale * (known.zero - zero), np.float32),
    }
    read_as(state, node, "Mul", (middle, f"{middle}.scale"), f"{middle}.scaled")
    read_as(state, node, "Add", (f"{middle}.scaled", f"{middle}.shift"), node.output)


def dequantized(state: ImportState, half: Pending, output: str) -> View:
    """The numbers that quantized integers stand for: a view of the output of a `Quantize`."""
    known = half.quantization
    assert known is not None
    low, high = (float(bound - known.zero) for bound in (known.low, known.high))
    return quantized(state, half.view, output, scale=known.scale, low=low, high=high)


def quantized(state: ImportState, view: View, output: str, **fields: Any) -> View:
    """A view of the output of a `Quantize` with these fields, which is emitted only once."""
    key = (view, *fields.items())
    if key not in state.rounded:
        node = Quantize(input=view.source, output=output, **fields)
        state.emit(node, like=view)
        state.rounded[key] = state.views[output]
    return state.rounded[key]


def scale_of(state: ImportState, node: OnnxNode) -> float:
    """The scale of a tensor: one finite float32 above 0."""
    array = state.weights(node, 1)
    if array.size != 1:
        raise node.refuse(f"has {array.size} scales; activations need one scale a tensor")
    scale = float(array.reshape(-1)[0])
    if not (np.isfinite(scale) and scale > 0):
        raise node.refuse(f"has the scale {scale}, expected a finite number above 0")
    return scale


def integer_of(node: OnnxNode, array: Array) -> int:
    """A constant that is one whole number."""
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise node.refuse(
            f"a zero point, bound or width is {array.dtype} {array.shape}, expected one integer"
        )
    value = float(array.astype(np.float64).reshape(-1)[0])
    if not abs(value) <= LIMIT or value != int(value):
        raise node.refuse(f"has {value}, expected a whole number up to {LIMIT:,}")
    return int(value)


# DynamicQuantizeLinear and what follows it are one node here: see quantized_operators


@reads("bwn.DynamicQuantize")
def read_dynamic(state: ImportState, node: OnnxNode) -> None:
    """Quantization with a scale for each image."""
    state.note(
        "activations are quantized with a scale for each image; ONNX Runtime has one for the "
        "batch, so they agree on batches of one"
    )
    state.views[node.output] = quantized(state, state.whole(node), node.output)
