"""Softmax over the classes, or over the channels at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Elementwise, Node, Reals, Shape, Tensors, largest
from bwn.kernels import reference as plain

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder


class Softmax(Node, frozen=True, kw_only=True, tag="softmax"):
    """y = exp(x - max x) / sum exp(x - max x) over the classes of (N, K)."""

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """(K,)."""
        if len(inputs[0]) != 1:
            raise self.refuse(f"input has shape {inputs[0]}, expected (features,)")
        return inputs[0]

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        return plain.softmax(inputs[0])

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """Always."""
        return True

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """K exponentials."""
        return shape[0]

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """exp(x) turns the rounding of x, eps * |x|, into a relative error."""
        return 1 + largest(inputs[0])

    def lower(self, plan: PlanBuilder) -> None:
        """One step over the batch."""
        plan.softmax(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Softmax."""
        graph.emit("Softmax", [self.input], self.output, axis=-1)


class ChannelSoftmax(Elementwise, frozen=True, kw_only=True, tag="channel_softmax"):
    """y = exp(x - max x) / sum exp(x - max x) over the channels at each position.

    Attributes:
        log: Whether y is the logarithm of the softmax.
    """

    since = 4

    log: bool = False

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        x = inputs[0].astype(np.float64)
        with np.errstate(all="ignore"):
            shifted = x - x.max(axis=1, keepdims=True)
            whole = np.exp(shifted).sum(axis=1, keepdims=True)
            return np.asarray(shifted - np.log(whole) if self.log else np.exp(shifted) / whole)

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If it is not a logarithm."""
        return not self.log

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """C exponentials."""
        return shape[0]

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """As for Softmax."""
        return 1 + largest(inputs[0])

    def lower(self, plan: PlanBuilder) -> None:
        """One step."""
        plan.softmax(self, log=self.log)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Softmax or LogSoftmax over axis 1."""
        name = "LogSoftmax" if self.log else "Softmax"
        graph.emit(name, [self.input], self.output, axis=1)
