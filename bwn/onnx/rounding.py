"""Import of 8-bit rounding, written as QuantizeLinear, perhaps Clip, DequantizeLinear right before a product.

Read are one scale a tensor, zero point 0, int8 or uint8. ONNX has 256 values, bwn 255 (`bwn.ir.graph.QUANT_RANGES`): a Clip to
those makes the two equal, and is what `bwn export` writes.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx

from bwn.ir.graph import QUANT_RANGES, Array, Quantization
from bwn.onnx.import_state import Importer, Pending, refuse

KINDS = {onnx.TensorProto.INT8: np.int8, onnx.TensorProto.UINT8: np.uint8}


def quantize(state: Importer, node: onnx.NodeProto, attrs: dict[str, Any]) -> None:
    """QuantizeLinear of an activation; waits for DequantizeLinear."""
    source, _ = state.activation(node)
    zero = zero_point(state, node, np.zeros((), KINDS.get(attrs.get("output_dtype", 0), np.uint8)))
    kind = zero.dtype.name
    if kind not in QUANT_RANGES:
        raise refuse(node, f"rounds to {kind}; only int8 and uint8 are supported")
    rounding = Quantization(cast(Any, kind), scale_of(state, node), whole=True)
    state.pending[node.output[0]] = Pending("quantized", source, rounding=rounding)


def narrow(state: Importer, node: onnx.NodeProto, half: Pending) -> None:
    """Clip of quantized integers, to bwn's 255 values or to all."""
    assert half.rounding is not None
    limits = np.iinfo(half.rounding.activations)
    low, high = bound_of(state, node, 1, limits.min), bound_of(state, node, 2, limits.max)
    ours = QUANT_RANGES[half.rounding.activations]
    if (low, high) not in (ours, (limits.min, limits.max)):
        raise refuse(
            node, f"leaves {low} to {high} of 8 bits; only {ours[0]} to {ours[1]} are supported"
        )
    whole = (low, high) != ours
    state.pending[node.output[0]] = half._replace(rounding=half.rounding._replace(whole=whole))


def bound_of(state: Importer, node: onnx.NodeProto, index: int, missing: int) -> int:
    """One bound of a Clip of integers."""
    if index >= len(node.input) or not node.input[index]:
        return missing
    bound = state.constant(node, index)
    if bound.size != 1 or bound.dtype.kind not in "iu":
        raise refuse(node, f"a bound is {bound.dtype} {bound.shape}, expected one integer")
    return int(bound.reshape(-1)[0])


def dequantize(state: Importer, node: onnx.NodeProto, attrs: dict[str, Any]) -> None:
    """DequantizeLinear of what QuantizeLinear made, with the same scale."""
    half = state.pending.get(node.input[0])
    if half is None or half.rounding is None:
        raise refuse(node, "of activations is supported only after QuantizeLinear")
    zero_point(state, node, np.zeros(()))
    if scale_of(state, node) != half.rounding.step:
        raise refuse(node, "has another scale than its QuantizeLinear")
    state.aliases[node.output[0]] = half.source
    state.rounded[node.output[0]] = half.rounding


def scale_of(state: Importer, node: onnx.NodeProto) -> float:
    """The one scale of a tensor, a finite float32 above 0."""
    scale = state.weights(node, 1)
    if scale.size != 1:
        raise refuse(node, f"has {scale.size} scales; activations need one scale a tensor")
    step = float(scale.reshape(-1)[0])
    if not (np.isfinite(step) and step > 0):
        raise refuse(node, f"has the scale {step}, expected a finite number above 0")
    return step


def zero_point(state: Importer, node: onnx.NodeProto, missing: Array) -> Array:
    """The zero point, which must be 0; `missing` where it is not given."""
    zero = state.constant(node, 2) if len(node.input) > 2 and node.input[2] else missing
    if zero.any():
        raise refuse(
            node,
            f"has the zero point {zero.reshape(-1)[0]}; only 0 is supported: quantize symmetrically",
        )
    return zero


ROUNDING = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}
