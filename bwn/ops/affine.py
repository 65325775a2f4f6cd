"""Affine map of each channel: batch normalization at inference, and arithmetic with constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Elementwise, Reals, Shape, Tensors, check_vector, largest
from bwn.kernels import reference as plain
from bwn.ops.onnx_reading import parameter, reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.plan.builder import PlanBuilder


class Affine(Elementwise, frozen=True, kw_only=True, tag="affine"):
    """y[c] = scale[c] * x[c] + bias[c]. scale, bias: names of (C,) float32 vectors."""

    scale: str
    bias: str

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the stored tensors that it reads."""
        return (self.scale, self.bias)

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Scale and bias have one number per channel."""
        for name in self.constants:
            check_vector(self, name, tensors[name], inputs[0][0])

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        return plain.affine(inputs[0], tensors[self.scale], tensors[self.bias])

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If neither the input nor a scale or bias is negative."""
        vectors = (tensors[name].astype(np.float32) for name in self.constants)
        return self.input in nonnegative and all(bool((vector >= 0).all()) for vector in vectors)

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The scaled input and the bias."""
        scale = tensors[self.scale].astype(np.float64)
        scaled = inputs[0] * scale.reshape(-1, *[1] * (inputs[0].ndim - 2))
        return largest(scaled, tensors[self.bias])

    def lower(self, plan: PlanBuilder) -> None:
        """One affine step."""
        plan.affine(self, scale=self.scale, bias=self.bias)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """A batch norm of mean 0 and variance 1, which runtimes know how to fold."""
        scale, bias = graph.tensors[self.scale], graph.tensors[self.bias]
        zeros = graph.constant(f"zeros.{scale.size}", np.zeros(scale.shape, np.float32))
        ones = graph.constant(f"ones.{scale.size}", np.ones(scale.shape, np.float32))
        vectors = [graph.constant(self.scale, scale), graph.constant(self.bias, bias)]
        graph.emit(
            "BatchNormalization", [self.input, *vectors, zeros, ones], self.output, epsilon=0.0
        )


@reads("BatchNormalization")
def read_batch_norm(state: ImportState, node: OnnxNode) -> None:
    """gamma * (x - mean) / sqrt(var + epsilon) + beta."""
    if node.attrs.get("training_mode", 0) or any(node.outputs[1:]):
        raise node.refuse("is in training mode; export the model for inference")
    view = state.channels_last(node, axis=1 if state.view(node).rank > 1 else 0)
    gamma, beta, mean, var = (
        parameter(state, node, index, view.shape[0]).astype(np.float64) for index in range(1, 5)
    )
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        bias = beta - mean * scale
    with state.keeping(view):
        emit_affine(state, view.source, scale, bias, node.output)


def emit_affine(
    state: ImportState,
    source: str,
    scale: npt.ArrayLike,
    bias: npt.ArrayLike,
    output: str,
) -> None:
    """Emit output = scale * source + bias; each is one number, or one per channel."""
    channels = state.shapes[source][0]
    state.allowance.check(None, 8 * channels)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        names = [
            state.store(f"{output}.{kind}", np.broadcast_to(np.asarray(numbers), (channels,)))
            for kind, numbers in (("scale", scale), ("bias", bias))
        ]
    state.emit(Affine(input=source, output=output, scale=names[0], bias=names[1]))
