"""What a step does after its own computation: the epilogue, made of the nodes that follow it.

A GEMM kernel ends with

    y = clamp(scale * sum + bias)           its own node
    y = activation(y)                       one activation function
    y = clamp(y + added)                    a tensor that exists already, then bounds
    q = round(y / input_scale)              the quantization of the layer that reads it

and a step that adds or multiplies two tensors with bounds. A node joins the epilogue of the step
that makes its input if no other node reads that tensor and the kernel can do it next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from bwn.ops.weighted import Weighted


class Epilogue(msgspec.Struct, frozen=True):
    """What a step does besides its own node.

    Attributes:
        output: The tensor that the step makes.
        gemm: Whether a GEMM kernel does it; else a step of two tensors.
        nodes: Outputs of the nodes that it does too, in order.
        activation: Name of an activation function.
        added: Name of the tensor that is added.
        bounds: Lower and upper bound after that.
        quantized: The layer that alone reads the output, rounded with its fixed scale.
    """

    output: str
    gemm: bool = True
    nodes: tuple[str, ...] = ()
    activation: str | None = None
    added: str | None = None
    bounds: tuple[float | None, float | None] | None = None
    quantized: Weighted | None = None

    def activate(self, output: str, name: str) -> Epilogue | None:
        """With an activation function, which makes tensor `output`."""
        if not self.gemm or self.activation or self.added or self.bounds:
            return None
        return self._then(output, activation=name)

    def add(self, output: str, added: str) -> Epilogue | None:
        """With the addition of tensor `added`, which makes tensor `output`."""
        if not self.gemm or self.added or self.bounds:
            return None
        return self._then(output, added=added)

    def clamp(self, output: str, low: float | None, high: float | None) -> Epilogue | None:
        """With bounds, which make tensor `output`."""
        if self.bounds or (self.gemm and not self.added):
            return None
        return self._then(output, bounds=(low, high))

    def _then(self, output: str, **change: object) -> Epilogue:
        return replace(self, output=output, nodes=(*self.nodes, output), **change)

    @property
    def note(self) -> str:
        """What the step does besides, in words; empty where nothing."""
        parts = [f"does {', '.join(self.nodes)} too"] * bool(self.nodes)
        parts += ["rounds to 8 bits"] * (self.quantized is not None)
        return "; ".join(parts)
