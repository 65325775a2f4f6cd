"""Activations rounded to 8 bits in training, by the very function that a packed network computes.

    y = step * clip(rint(x / step), least, most)

in float32, halves to even, with the ranges of `bwn.ir.graph.QUANT_RANGES`: 0..254 where x cannot be negative, else -127..127.
The gradient passes straight through where least * step <= x <= most * step, and is 0 beyond. In an ONNX file this is
QuantizeLinear, Clip, DequantizeLinear, which `bwn pack` reads back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bwn.errors import BwnError
from bwn.ir.quantization import QUANT_RANGES
from bwn.train import distributed

MOMENTUM = 0.1
"""Weight of the newest batch in the running mean of the largest activation."""


@torch.library.custom_op("bwn::rounded", mutates_args=())
def rounded(x: Tensor, step: Tensor, least: int, most: int) -> Tensor:
    """step * clip(rint(x / step), least, most). x: any shape, float32. step: () float32."""
    # Not torch's fake_quantize, which multiplies by 1 / step: some numbers near a half then round the other way.
    return (x / step).round_().clamp_(least, most).mul_(step)


@rounded.register_fake
def _(x: Tensor, step: Tensor, least: int, most: int) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, step, least, most = inputs
    ctx.save_for_backward((x >= least * step) & (x <= most * step))


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    (inside,) = ctx.saved_tensors
    return gradient * inside, None, None, None


rounded.register_autograd(_backward, setup_context=_keep)


class RoundActivation(nn.Module):
    """Rounds what a layer with one-bit weights reads; stands right before that layer.

    signed: whether activations may be negative; behind a ReLU they are not, and steps are half as long.
    step: () float32: running mean over training batches of max|x| / most; 0 before the first batch.
    """

    step: Tensor

    def __init__(self, *, signed: bool) -> None:
        super().__init__()
        self.kind = "int8" if signed else "uint8"
        self.register_buffer("step", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape. Returns float32. Raises BwnError in evaluation before any training batch."""
        x = x.float()  # also within autocast: the packed network rounds in float32
        least, most = QUANT_RANGES[self.kind]
        if self.training:
            self._measure(x, most)
        elif not bool(self.step > 0):
            raise BwnError(
                "8-bit activations have no step yet: pass a batch in training mode first"
            )
        y: Tensor = rounded(x, self.step, least, most)
        return y

    def _measure(self, x: Tensor, most: int) -> None:
        """Move the step towards this batch's. A batch of zeros has none."""
        with torch.no_grad():
            found = distributed.largest(x.detach().abs().amax()) / most
            found = torch.where(found > 0, found, torch.where(self.step > 0, self.step, 1.0))
            self.step.copy_(torch.where(self.step > 0, self.step.lerp(found, MOMENTUM), found))

    def plain(self) -> nn.Module:
        """The same function with its step for good, in an operation that `export_onnx` writes."""
        if not bool(self.step > 0):
            raise BwnError(
                "8-bit activations have no step yet: pass a batch in training mode first"
            )
        return PlainRound(self.step.detach().clone(), self.kind)


class PlainRound(nn.Module):
    """Rounding with a fixed step. kind: `int8` or `uint8`."""

    step: Tensor

    def __init__(self, step: Tensor, kind: str) -> None:
        super().__init__()
        self.register_buffer("step", step)
        self.least, self.most = QUANT_RANGES[kind]

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape, float32."""
        y: Tensor = rounded(x, self.step, self.least, self.most)
        return y


def translations() -> dict[Any, Callable[..., Any]]:
    """How `torch.onnx.export` writes the operation above: its `custom_translation_table`."""
    import numpy as np
    import onnx_ir
    import onnxscript

    op: Any = onnxscript.opset18

    def quantized(x: Any, step: Any, least: int, most: int) -> Any:
        # ONNX saturates at -128 or 255; Clip leaves the 255 values that bwn's kernels have.
        kind = np.int8 if least < 0 else np.uint8
        zero, low, high = (
            op.Constant(value=onnx_ir.tensor(np.array(n, kind))) for n in (0, least, most)
        )
        q = op.Clip(op.QuantizeLinear(x, step, zero), low, high)
        return op.DequantizeLinear(q, step, zero)

    return {torch.ops.bwn.rounded.default: quantized}
