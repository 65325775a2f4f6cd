"""8-bit quantization in ONNX: QuantizeLinear, perhaps Clip, then DequantizeLinear before a layer.

It makes no node: the layer with weights that reads the tensor takes it over. One scale a tensor,
zero point 0, int8 or uint8. ONNX has 256 values and bwn 255 (`bwn.ir.quantization.QUANT_RANGES`):
a Clip to those makes the two equal, and is what `bwn export` writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from msgspec.structs import replace

from bwn.ir.node import Array
from bwn.ir.quantization import QUANT_RANGES, Quantization
from bwn.ops.onnx_reading import Pending, reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("QuantizeLinear")
def read_quantize(state: ImportState, node: OnnxNode) -> None:
    """Of an activation; DequantizeLinear completes it."""
    view = state.view(node)
    default = np.zeros((), node.attrs.get("output_dtype") or np.uint8)
    kind = _zero_point(state, node, default).dtype.name
    if kind not in QUANT_RANGES:
        raise node.refuse(f"quantizes to {kind}, expected int8 or uint8")
    quantization = Quantization(cast(Any, kind), _scale(state, node), whole=True)
    state.pending[node.output] = Pending("quantized", view, quantization=quantization)


def clip_quantized(state: ImportState, node: OnnxNode) -> bool:
    """Take a Clip of quantized integers, to bwn's 255 values or to all.

    Returns:
        Whether the node is one.
    """
    half = state.pending.get(node.inputs[0])
    if half is None or half.quantization is None:
        return False
    quantization = half.quantization
    limits = np.iinfo(quantization.activations)
    low, high = _bound(state, node, 1, limits.min), _bound(state, node, 2, limits.max)
    ours = QUANT_RANGES[quantization.activations]
    if (low, high) not in (ours, (limits.min, limits.max)):
        raise node.refuse(
            f"clips 8-bit integers to {low} to {high}, expected {ours[0]} to {ours[1]}"
        )
    quantization = replace(quantization, whole=(low, high) != ours)
    state.pending[node.output] = replace(half, quantization=quantization)
    return True


@reads("DequantizeLinear")
def read_dequantize(state: ImportState, node: OnnxNode) -> None:
    """Of what QuantizeLinear made, with the same scale."""
    half = state.pending.get(node.inputs[0])
    if half is None or half.quantization is None:
        raise node.refuse("reads activations that no QuantizeLinear has quantized")
    _zero_point(state, node, np.zeros(()))
    if _scale(state, node) != half.quantization.scale:
        raise node.refuse("has another scale than its QuantizeLinear")
    state.views[node.output] = half.view
    state.quantized[node.output] = half.quantization


def _bound(state: ImportState, node: OnnxNode, index: int, missing: int) -> int:
    if not node.has(index):
        return missing
    bound = state.constant(node, index)
    if bound.size != 1 or bound.dtype.kind not in "iu":
        raise node.refuse(f"a bound is {bound.dtype} {bound.shape}, expected one integer")
    return int(bound.reshape(-1)[0])


def _scale(state: ImportState, node: OnnxNode) -> float:
    """The one scale of a tensor, a finite float32 above 0."""
    array = state.weights(node, 1)
    if array.size != 1:
        raise node.refuse(f"has {array.size} scales; activations need one scale a tensor")
    scale = float(array.reshape(-1)[0])
    if not (np.isfinite(scale) and scale > 0):
        raise node.refuse(f"has the scale {scale}, expected a finite number above 0")
    return scale


def _zero_point(state: ImportState, node: OnnxNode, missing: Array) -> Array:
    """The zero point, which must be 0; `missing` where there is none."""
    zero = state.constant(node, 2) if node.has(2) else missing
    if zero.any():
        raise node.refuse(
            f"has the zero point {zero.reshape(-1)[0]}; only 0 is supported: quantize symmetrically"
        )
    return zero
