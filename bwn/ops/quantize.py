"""Quantization followed by dequantization, as quantized networks have it before a layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Elementwise, Reals, Shape, Tensors, is_float32, largest

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Rounding = Literal["round", "floor", "ceil"]
ROUND: dict[Rounding, Any] = {"round": np.rint, "floor": np.floor, "ceil": np.ceil}
LIMIT = 2**24
"""float32 represents all integers up to here exactly."""


class Quantize(Elementwise, frozen=True, kw_only=True, tag="quantize"):
    """y = scale * (q - zero), q = clip(round(x / scale + zero), low, high), all in float32.

    Attributes:
        scale: Step from one number to the next. None: each image has its own, for 255 steps from
            its smallest number (or 0) to its largest (or 0), as in ONNX's DynamicQuantizeLinear; 1
            if all numbers are 0.
        low: Smallest q, an integer. Without a scale, `low` and `high` follow from the image.
        high: Largest q, an integer.
        zero: The q of 0.
        rounding: To the nearest integer with halves to even (round), down (floor) or up (ceil).
    """

    since = 4

    scale: float | None = None
    low: float = -LIMIT
    high: float = LIMIT
    zero: float = 0.0
    rounding: Rounding = "round"

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """The scale is above 0; the bounds are integers and in order."""
        if self.scale is not None and not (is_float32(self.scale) and np.float32(self.scale) > 0):
            raise self.refuse(f"the scale is {self.scale}, expected a finite number above 0")
        for name, bound in (("low", self.low), ("high", self.high)):
            if not (abs(bound) <= LIMIT and bound == int(bound)):
                raise self.refuse(f"{name} is {bound}, expected a whole number up to {LIMIT:,}")
        if self.low > self.high:
            raise self.refuse(f"low {self.low} is above high {self.high}")
        if not abs(self.zero) <= LIMIT:
            raise self.refuse(f"zero is {self.zero}, expected a number up to {LIMIT:,}")
        if self.scale is not None and not is_float32(
            self.scale * (max(abs(self.low), abs(self.high)) + abs(self.zero))
        ):
            raise self.refuse(f"the scale {self.scale:.3g} makes numbers that float32 cannot hold")
        if self.scale is None and self != Quantize(input=self.input, output=self.output):
            raise self.refuse("has no scale, so its bounds follow from each image: leave them out")

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula, each operation rounded to float32."""
        x = inputs[0].astype(np.float32)
        scale, low, high = self.scale_and_bounds(x)
        zero = np.float32(self.zero)
        with np.errstate(over="ignore"):  # an infinity is within bounds after clipping
            q = np.clip(ROUND[self.rounding](x / scale + zero), low, high)
        return np.asarray((q - zero) * scale, np.float64)

    def scale_and_bounds(self, x: npt.NDArray[np.float32]) -> tuple[Any, Any, Any]:
        """Scale, low and high: numbers, or one for each image of x."""
        if self.scale is not None:
            return np.float32(self.scale), np.float32(self.low), np.float32(self.high)
        images = x.reshape(len(x), -1)
        least, most = images.min(axis=1, initial=0), images.max(axis=1, initial=0)
        with np.errstate(invalid="ignore"):  # what is not finite makes all of its image NaN
            scale = (most - least) / np.float32(255) + (images * np.float32(0)).sum(axis=1)
        scale[scale == 0] = 1
        point = np.rint(np.clip(-least / scale, np.float32(0), np.float32(255)))
        ones = [1] * (x.ndim - 1)
        return tuple(array.reshape(-1, *ones) for array in (scale, -point, np.float32(255) - point))

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If low >= zero; or if the input is not negative, zero is an integer, and high >= zero."""
        if self.input in nonnegative and self.zero == int(self.zero):
            return self.high >= self.zero
        return self.low >= self.zero

    def float_terms(self, shape: Shape, *, floats: bool = False) -> None:
        """Exact: kernels round every operation as the formula does."""

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The input."""
        return largest(inputs[0])

    def lower(self, plan: PlanBuilder) -> None:
        """One elementwise step; without a scale, a step that measures each image before it."""
        plan.fake_quantize(self)

    @property
    def is_quantized(self) -> bool:
        """If it has no scale: ONNX measures a whole batch, so the export does not quantize."""
        return self.scale is None

    @property
    def rounds(self) -> bool:
        """Always."""
        return True

    def to_onnx(self, graph: OnnxGraph) -> None:
        """QuantizeLinear, Clip and DequantizeLinear if 8 bits suffice, else the formula.

        QONNX has Quant, if that has the same range.
        """
        if self.scale is None:
            graph.emit("Identity", [self.input], self.output)
            return
        scale = graph.number(self.scale)
        if graph.qonnx and (kind := self._integers()) is not None:
            inputs = [self.input, scale, graph.number(self.zero), graph.number(kind.pop("bits"))]
            graph.emit_qonnx(
                "Quant", inputs, self.output, rounding_mode=self.rounding.upper(), **kind
            )
            return
        point = self._zero_point()
        if point is None:
            self._spell_out(graph, scale)
            return
        zero, low, high = (
            graph.constant(f"{value:g}.{point.dtype}", value.astype(point.dtype))
            for value in (point, point + self.low, point + self.high)
        )
        whole, clipped = (graph.inner(f"{self.output}.{step}") for step in ("quantized", "clipped"))
        graph.emit("QuantizeLinear", [self.input, scale, zero], whole)
        graph.emit("Clip", [whole, low, high], clipped)
        graph.emit("DequantizeLinear", [clipped, scale, zero], self.output)

    def _integers(self) -> dict[str, int] | None:
        """QONNX's bits, signed and narrow for this range; None if it has no such range."""
        for bits, signed, narrow in product(range(1, 17), (0, 1), (0, 1)):
            half = 2 ** (bits - 1)
            bounds = (narrow - half, half - 1) if signed else (0, 2 * half - 1 - narrow)
            one_bit = signed and bits == 1  # stands for -1 and +1 there
            if bounds == (self.low, self.high) and not one_bit:
                return {"bits": bits, "signed": signed, "narrow": narrow}
        return None

    def _zero_point(self) -> Any:
        """Zero point, with its type, for QuantizeLinear; None if it cannot compute this node."""
        if self.rounding != "round" or self.zero or not -255 <= self.low <= 0:
            return None
        if self.low >= -128 and self.high <= 127:
            return np.asarray(0, np.int8)
        return np.asarray(-self.low, np.uint8) if self.high - self.low <= 255 else None

    def _spell_out(self, graph: OnnxGraph, scale: str) -> None:
        """Emit the formula as single operations."""
        zero, number = graph.number(self.zero), graph.number
        steps: list[tuple[str, tuple[str, ...]]] = [("Div", (scale,))]
        steps += [("Add", (zero,))] * bool(self.zero)
        steps += [(self.rounding.capitalize(), ())]
        steps += [("Clip", (number(self.low), number(self.high)))]
        steps += [("Sub", (zero,))] * bool(self.zero)
        steps += [("Mul", (scale,))]
        before = self.input
        for index, (op_type, operands) in enumerate(steps):
            last = index == len(steps) - 1
            output = self.output if last else graph.inner(f"{self.output}.{index}")
            graph.emit(op_type, [before, *operands], output)
            before = output
