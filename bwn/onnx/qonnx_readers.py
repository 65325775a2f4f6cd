"""Reads QONNX's operations on activations and on constants."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bwn.ir.node import Array
from bwn.onnx.arithmetic_readers import of_example, operands, store
from bwn.onnx.constant_folding import broadcast, folds
from bwn.onnx.quantized_readers import integer_of, quantized, scale_of
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.onnx_reading import read_as, reads
from bwn.ops.quantize import LIMIT, ROUND, Rounding
from bwn.ops.sign import Sign

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

MAX_BITS = 16
MAX_CONSTANT_BITS = 32
"""Limit for constants such as biases, which stay float32."""


class Mode(NamedTuple):
    """A rounding mode, which may treat numbers above and below 0 in different ways.

    Attributes:
        above: How numbers above 0 are rounded.
        below: How numbers below 0 are rounded.
        away: Number added before rounding, away from 0.
    """

    above: Rounding
    below: Rounding
    away: float = 0.0


MODES = {
    "ROUND": Mode("round", "round"),
    "HALF_EVEN": Mode("round", "round"),
    "FLOOR": Mode("floor", "floor"),
    "CEIL": Mode("ceil", "ceil"),
    "UP": Mode("ceil", "floor"),
    "DOWN": Mode("floor", "ceil"),
    "ROUND_TO_ZERO": Mode("floor", "ceil"),
    "HALF_UP": Mode("floor", "ceil", 0.5),
    "HALF_DOWN": Mode("ceil", "floor", -0.5),
}


@reads("BipolarQuant")
def read_bipolar(state: ImportState, node: OnnxNode) -> None:
    """scale * sign(x)."""
    sign_and_scale(state, node)


@reads("Quant", "IntQuant")
def read_quant(state: ImportState, node: OnnxNode) -> None:
    """scale * (clip(round(x / scale + zero)) - zero), with up to 16 bits."""
    bounds, mode = limits(node, state.constant(node, 3)), mode_of(node)
    zero, bits = state.constant(node, 2), integer_of(node, state.constant(node, 3))
    if bits == 1 and node.attrs.get("signed", 1):
        if zero.any():
            raise node.refuse("has one bit and a zero point, which is not supported")
        sign_and_scale(state, node)
        return
    simple = mode.away == 0 and (mode.above == mode.below or bounds[0] == 0)
    if simple and zero.size == state.weights(node, 1).size == 1:
        low, high = map(float, bounds)
        fields = {"low": low, "high": high, "rounding": mode.above, "zero": float(zero.item(0))}
        view, scale = state.whole(node), scale_of(state, node)
        state.views[node.output] = quantized(state, view, node.output, scale=scale, **fields)
        return
    parts = [f"{node.output}.{part}" for part in ("units", "whole", "number")]
    divide(state, node, parts[0])
    if zero.any():
        parts.insert(1, f"{node.output}.moved")
        read_as(state, node, "Add", (parts[0], node.inputs[2]), parts[1])
    emit_rounding(state, node, parts[-3], parts[-2], mode, bounds)
    read_as(state, node, "Sub", (parts[-2], node.inputs[2]), parts[-1])
    read_as(state, node, "Mul", (parts[-1], node.inputs[1]), node.output)


@reads("Trunc")
def read_trunc(state: ImportState, node: OnnxNode) -> None:
    """Divides quantized integers by a power of two and rounds them, exactly."""
    (divisor, out_scale), bounds = truncation(state, node), (-LIMIT, LIMIT)
    if state.constant(node, 2).any():
        raise node.refuse("has a zero point, which is not supported")
    if node.has(5):
        bounds = limits(node, state.constant(node, 5))
    parts = [f"{node.output}.{part}" for part in ("units", "near", "part", "whole")]
    state.constants |= {
        f"{node.output}.factor": np.asarray(1 / divisor, np.float32),
        f"{node.output}.scale": np.asarray(out_scale, np.float32),
    }
    divide(state, node, parts[0])
    emit_rounding(state, node, parts[0], parts[1], MODES["ROUND"], (-LIMIT, LIMIT))
    read_as(state, node, "Mul", (parts[1], f"{node.output}.factor"), parts[2])
    emit_rounding(state, node, parts[2], parts[3], mode_of(node, "FLOOR"), bounds)
    read_as(state, node, "Mul", (parts[3], f"{node.output}.scale"), node.output)


@reads("FloatQuant")
def read_float_quant(state: ImportState, node: OnnxNode) -> None:
    """Constant inputs only."""
    raise node.refuse("rounds activations to small floats, which is not supported; Quant is")


def divide(state: ImportState, node: OnnxNode, output: str) -> None:
    """Emit x / scale before rounding; x * (1 / scale) would round differently at ties."""
    with operands(state, changed(node, inputs=node.inputs[:2])) as (x, scale):
        assert isinstance(x, str)
        constant = of_example(node, np.asarray(scale), state.shapes[x])
        if not np.greater(constant, 0).all():
            raise node.refuse(f"has the scale {constant.min()}, expected numbers above 0")
        store(state, Arithmetic(input=x, output=output, function="div"), constant)


def emit_rounding(
    state: ImportState,
    node: OnnxNode,
    source: str,
    output: str,
    mode: Mode,
    bounds: tuple[int, int],
) -> None:
    """Emit clip(round(x)): in one step, or as the sum of the sides above and below 0."""
    low, high = map(float, bounds)
    sides = [(mode.above, mode.away, 0.0, high), (mode.below, -mode.away, low, 0.0)]
    if mode.above == mode.below:
        sides = [(mode.above, 0.0, low, high)]
    elif low == 0:
        del sides[1]
    names = [output] if len(sides) == 1 else [f"{output}.above", f"{output}.below"]
    for name, (rounding, shift, least, most) in zip(names, sides, strict=True):
        moved = source
        if shift:
            moved = f"{name}.moved"
            state.constants[f"{name}.shift"] = np.asarray(shift, np.float32)
            read_as(state, node, "Add", (source, f"{name}.shift"), moved)
        view = state.whole(changed(node, inputs=(moved,)))
        fields = {"low": least, "high": most, "rounding": rounding}
        state.views[name] = quantized(state, view, name, scale=1.0, **fields)
    if len(names) == 2:
        read_as(state, node, "Add", (names[0], names[1]), output)


def truncation(state: ImportState, node: OnnxNode) -> tuple[float, Array]:
    """The divisor of Trunc and the scale of its result."""
    before, scale = integer_of(node, state.constant(node, 3)), state.weights(node, 1)
    if not node.has(5):  # version 1 of the operation
        return float(2.0 ** (before - integer_of(node, state.constant(node, 4)))), scale
    out_scale = state.weights(node, 4)
    with np.errstate(all="ignore"):
        powers = np.round(np.log2(out_scale / scale))
    if not (np.isfinite(powers).all() and (powers == powers.item(0)).all()):
        raise node.refuse("divides by several numbers; expected one power of two")
    return float(2.0 ** powers.item(0)), out_scale


def sign_and_scale(state: ImportState, node: OnnxNode) -> None:
    """Emit scale * sign(x), sign(0) = +1."""
    view, signs = state.whole(node), f"{node.output}.signs"
    ones = bool((state.weights(node, 1) == 1).all())
    state.emit(Sign(input=view.source, output=node.output if ones else signs), like=view)
    if not ones:
        read_as(state, node, "Mul", (signs, node.inputs[1]), node.output)


def limits(node: OnnxNode, bits: Array, most: int = MAX_BITS) -> tuple[int, int]:
    """Smallest and largest integer of a number of bits, by the node's attributes."""
    width, signed = integer_of(node, bits), bool(node.attrs.get("signed", 1))
    narrow = bool(node.attrs.get("narrow", 0))
    if not 1 <= width <= most:
        raise node.refuse(f"has {width} bits, expected 1 to {most}")
    if signed:
        return -(2 ** (width - 1)) + narrow, 2 ** (width - 1) - 1
    return 0, 2**width - 1 - narrow


def mode_of(node: OnnxNode, default: str = "ROUND") -> Mode:
    """The node's rounding mode."""
    mode = str(node.attrs.get("rounding_mode", default)).upper()
    if mode not in MODES:
        raise node.refuse(f"rounding_mode is {mode}; supported: {', '.join(MODES)}")
    return MODES[mode]


# Constants


@folds("BipolarQuant", broadcast)
def fold_bipolar(node: OnnxNode, x: Any, scale: Any) -> Array:
    """scale * sign(x)."""
    return np.asarray(np.where(x >= 0, np.float32(1), np.float32(-1)) * scale, np.float32)


@folds("IntQuant", broadcast)
@folds("Quant", broadcast)
def fold_quant(node: OnnxNode, x: Any, scale: Any, zero: Any, bits: Any) -> Array:
    """The formula of `read_quant`, with any number of scales."""
    (low, high), mode = limits(node, bits, MAX_CONSTANT_BITS), mode_of(node)
    q = x / scale + zero
    if integer_of(node, bits) == 1 and node.attrs.get("signed", 1):
        q = np.where(q >= 0, np.float32(1), np.float32(-1))
    else:
        q = round_by(mode, np.clip(q, np.float32(low), np.float32(high)))
    return np.asarray((q - zero) * scale, np.float32)


@folds("FloatQuant", broadcast)
def fold_float_quant(
    node: OnnxNode, x: Any, scale: Any, exponent: Any, mantissa: Any, bias: Any, limit: Any
) -> Array:
    """Numbers of few bits of exponent and mantissa, the largest of them at most `limit`."""
    q, one = np.asarray(x / scale, np.float32), np.float32(1)
    if not node.attrs.get("saturation", 1):
        raise node.refuse("has infinities or NaN beyond its range, which is not supported")
    powers = np.maximum(np.frexp(q)[1] - one, one - bias) - mantissa
    step = np.exp2(powers).astype(np.float32)
    largest = np.minimum((2 - np.exp2(-mantissa)) * np.exp2(np.exp2(exponent) - 1 - bias), limit)
    q = np.clip(round_by(mode_of(node), q / step) * step, -largest, largest)
    return np.asarray(q * scale, np.float32)


def round_by(mode: Mode, x: Any) -> Any:
    """x rounded, by one mode above 0 and one below."""
    away, zero = np.float32(mode.away), np.float32(0)
    if mode.above == mode.below:
        return ROUND[mode.above](x)
    above = ROUND[mode.above](np.maximum(x, zero) + away)
    return above + ROUND[mode.below](np.minimum(x, zero) - away)
