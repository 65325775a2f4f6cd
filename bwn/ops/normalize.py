"""Normalization by the mean and variance of an example's numbers, and of neighboring channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from bwn.ir.node import (
    Elementwise,
    Floats,
    Reals,
    Shape,
    Tensors,
    check_vector,
    is_float32,
    largest,
)
from bwn.ops.window import MAX_ATTRIBUTE

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Over = Literal["channels", "group"]


class Normalize(Elementwise, frozen=True, kw_only=True, tag="normalize"):
    """y[c] = scale[c] * (x[c] - mean) / sqrt(variance + epsilon) + bias[c].

    Attributes:
        over: What mean and variance are computed over: the channels at each position (layer
            normalization), or all numbers in a group of channels of one example.
        groups: Number of groups of channels; one per channel is instance normalization.
        scale: Name of a (C,) float32 vector; None for 1.
        bias: Name of a (C,) float32 vector; None for 0.
        epsilon: Added to the variance.
    """

    since = 4

    over: Over
    groups: int = 1
    scale: str | None = None
    bias: str | None = None
    epsilon: float = 1e-5

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the stored tensors that it reads."""
        return tuple(name for name in (self.scale, self.bias) if name is not None)

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Vectors have one number per channel; groups divide the channels; epsilon is above 0."""
        channels = inputs[0][0]
        for name in self.constants:
            check_vector(self, name, tensors[name], channels)
        if self.groups < 1 or channels % self.groups:
            raise self.refuse(f"{self.groups} groups do not divide {channels} channels")
        if self.groups > 1 and self.over == "channels":
            raise self.refuse(f"has {self.groups} groups, expected 1 over the channels")
        if len(inputs[0]) == 1 and self.over == "group":
            raise self.refuse("a vector is normalized over its channels")
        if not (is_float32(self.epsilon) and np.float32(self.epsilon) > 0):
            raise self.refuse(f"epsilon is {self.epsilon}, expected a finite number above 0")

    def _normalized(self, x: Reals) -> tuple[Floats, Floats]:
        """x minus its mean, and its divisor, as (N, groups, ...) or (N, C, ...)."""
        wide = x.astype(np.float64)
        if self.over == "group":
            wide = wide.reshape(len(x), self.groups, -1)
            axis = 2
        else:
            axis = 1
        less = wide - wide.mean(axis, keepdims=True)
        variance = (less * less).mean(axis, keepdims=True)
        return less, np.asarray(np.sqrt(variance + np.float64(np.float32(self.epsilon))))

    def _vector(self, name: str | None, fill: float, x: Reals, tensors: Tensors) -> Floats:
        values = np.full(x.shape[1], fill) if name is None else tensors[name].astype(np.float64)
        return values.reshape(-1, *[1] * (x.ndim - 2))

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        x = inputs[0]
        with np.errstate(all="ignore"):
            less, deviation = self._normalized(x)
            y = (less / deviation).reshape(x.shape)
            return np.asarray(
                y * self._vector(self.scale, 1, x, tensors) + self._vector(self.bias, 0, x, tensors)
            )

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """The numbers that a mean sums."""
        return shape[0] if self.over == "channels" else prod(shape) // self.groups

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The input divided by the smallest deviation, scaled, plus the bias."""
        x = inputs[0]
        _, deviation = self._normalized(x)
        scale = largest(self._vector(self.scale, 1, x, tensors))
        shift = largest(self._vector(self.bias, 0, x, tensors))
        return (1 + 2 * largest(x) / float(deviation.min())) * scale + shift

    def lower(self, plan: PlanBuilder) -> None:
        """One step."""
        plan.normalize(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """LayerNormalization with channels last, or InstanceNormalization of the groups."""
        shape = graph.shapes[self.input]
        x = np.empty((1, shape[0]))
        scale, bias = (
            graph.constant(
                name or f"{self.output}.{kind}",
                self._vector(name, fill, x, graph.tensors).astype(np.float32),
            )
            for kind, name, fill in (("scale", self.scale, 1), ("bias", self.bias, 0))
        )
        name = self.output
        if self.over == "channels" and len(shape) == 1:
            graph.emit("LayerNormalization", [self.input, scale, bias], name, epsilon=self.epsilon)
        elif self.over == "channels":
            last, norm = graph.inner(f"{name}.last"), graph.inner(f"{name}.norm")
            graph.emit("Transpose", [self.input], last, perm=(0, 2, 3, 1))
            inputs = [last, scale, bias]
            graph.emit("LayerNormalization", inputs, norm, epsilon=self.epsilon)
            graph.emit("Transpose", [norm], name, perm=(0, 3, 1, 2))
        elif self.groups == shape[0]:
            inputs = [self.input, scale, bias]
            graph.emit("InstanceNormalization", inputs, name, epsilon=self.epsilon)
        else:
            self._groups_to_onnx(graph, scale, bias, shape)

    def _groups_to_onnx(self, graph: OnnxGraph, scale: str, bias: str, shape: Shape) -> None:
        """InstanceNormalization of the groups as channels, then scale and bias of each channel."""
        name, channels = self.output, shape[0]
        ones = graph.constant(f"ones.{self.groups}", np.ones(self.groups, np.float32))
        zeros = graph.constant(f"zeros.{self.groups}", np.zeros(self.groups, np.float32))
        grouped = graph.constant(f"{name}.groups", np.array([0, self.groups, -1], np.int64))
        whole = graph.constant(f"{name}.shape", np.array([-1, *shape], np.int64))
        names = [graph.inner(f"{name}.{part}") for part in ("grouped", "norm", "whole")]
        graph.emit("Reshape", [self.input, grouped], names[0])
        graph.emit("InstanceNormalization", [names[0], ones, zeros], names[1], epsilon=self.epsilon)
        graph.emit("Reshape", [names[1], whole], names[2])
        mean = graph.constant(f"zeros.{channels}", np.zeros(channels, np.float32))
        variance = graph.constant(f"ones.{channels}", np.ones(channels, np.float32))
        inputs = [names[2], scale, bias, mean, variance]
        graph.emit("BatchNormalization", inputs, name, epsilon=0.0)


class LocalResponse(Elementwise, frozen=True, kw_only=True, tag="local_response"):
    """y[c] = x[c] / (k + alpha / size * sum of x[d]**2) ** beta over neighbors d of c.

    (Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS
    2012, section 3.3.)

    Attributes:
        size: Neighbors: from c - (size - 1) // 2 to c + size // 2.
        alpha: Factor of the sum.
        beta: Exponent.
        k: Offset.
    """

    since = 4

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """The input is an image, the size at least 1, and the offset above 0."""
        if len(inputs[0]) != 3:
            raise self.refuse(f"input has shape {inputs[0]}, expected (channels, height, width)")
        if not 1 <= self.size <= MAX_ATTRIBUTE:
            raise self.refuse(f"size is {self.size}, expected 1 to {MAX_ATTRIBUTE}")
        finite = all(map(is_float32, (self.alpha, self.beta, self.k)))
        if not finite or self.alpha < 0 or np.float32(self.k) <= 0:
            raise self.refuse(
                f"alpha is {self.alpha}, beta {self.beta}, k {self.k}: expected finite numbers, "
                "alpha at least 0, k above 0"
            )

    @property
    def neighbors(self) -> tuple[int, int]:
        """Number of neighbors before and after each channel."""
        return (self.size - 1) // 2, self.size // 2

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        x = inputs[0].astype(np.float64)
        before, after = self.neighbors
        channels = x.shape[1]
        with np.errstate(all="ignore"):
            squares = np.stack(
                [
                    (x[:, max(0, c - before) : c + after + 1] ** 2).sum(axis=1)
                    for c in range(channels)
                ],
                axis=1,
            )
            return np.asarray(x / (self.k + self.alpha / self.size * squares) ** self.beta)

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If the input is not negative."""
        return self.input in nonnegative

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """The sum of squares."""
        return min(self.size, shape[0])

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The output; a large exponent magnifies the rounding errors of the sum."""
        return largest(self.reference(inputs, tensors)) * max(1, abs(self.beta))

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """The squares of each number."""
        return prod(output) * min(self.size, output[0])

    def lower(self, plan: PlanBuilder) -> None:
        """One step."""
        plan.local_response(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """LRN."""
        values = {"alpha": self.alpha, "beta": self.beta, "bias": self.k, "size": self.size}
        graph.emit("LRN", [self.input], self.output, **values)
