"""Quantization-aware training: activations rounded to 8 bits exactly as in the packed network.

    y = scale * clip(rint(x / scale), qmin, qmax)

in float32, halves to even, with the ranges of `bwn.ir.quantization.QUANT_RANGES`: 0..254 where x
cannot be negative, else -127..127. The gradient passes straight through where
qmin * scale <= x <= qmax * scale, and is 0 beyond. In an ONNX file this is QuantizeLinear, Clip,
DequantizeLinear, which `bwn pack` reads back.
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
def rounded(x: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    """scale * clip(rint(x / scale), qmin, qmax).

    Args:
        x: Any shape, float32.
        scale: () float32, above 0.
        qmin: Smallest q.
        qmax: Largest q.

    Returns:
        The shape of x, float32.
    """
    # Not torch's fake_quantize, which multiplies by 1 / scale and so rounds some numbers near a
    # half the other way.
    return (x / scale).round_().clamp_(qmin, qmax).mul_(scale)


@rounded.register_fake
def _(x: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return torch.empty_like(x)


def _save_range(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, qmin, qmax = inputs
    ctx.save_for_backward((x >= qmin * scale) & (x <= qmax * scale))


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    (inside,) = ctx.saved_tensors
    return gradient * inside, None, None, None


rounded.register_autograd(_backward, setup_context=_save_range)


class RoundActivation(nn.Module):
    """Rounds the input of a layer with one-bit weights to 8 bits; put it right before that layer.

    y = step * clip(rint(x / step), qmin, qmax); the step is measured while training: the running
    mean over batches of max|x| / qmax.

    Args:
        signed: Whether x may be negative. After a ReLU it may not, and the step is half as long.

    Attributes:
        kind: `int8` if signed, else `uint8`.
        step: () float32, the scale of the rounding; 0 before the first training batch.

    Example:
        >>> import torch
        >>> from bwn.train import RoundActivation
        >>> layer = RoundActivation(signed=False)
        >>> layer(torch.tensor([0.0, 100.2, 254.0])).tolist()
        [0.0, 100.0, 254.0]
    """

    step: Tensor

    def __init__(self, *, signed: bool) -> None:
        """Make the layer; the arguments are described at the class."""
        super().__init__()
        self.kind = "int8" if signed else "uint8"
        self.register_buffer("step", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor.

        Args:
            x: Any shape, float.

        Returns:
            The same shape, float32.

        Raises:
            BwnError: In evaluation, before any training batch.
        """
        x = x.float()  # also within autocast: the packed network rounds in float32
        qmin, qmax = QUANT_RANGES[self.kind]
        if self.training:
            self._measure(x, qmax)
        else:
            self._require_step()
        y: Tensor = rounded(x, self.step, qmin, qmax)
        return y

    def _measure(self, x: Tensor, qmax: int) -> None:
        """Move the step toward this batch's. A batch of zeros has none."""
        with torch.no_grad():
            step = distributed.maximum(x.detach().abs().amax()) / qmax
            step = torch.where(step > 0, step, torch.where(self.step > 0, self.step, 1.0))
            self.step.copy_(torch.where(self.step > 0, self.step.lerp(step, MOMENTUM), step))

    def _require_step(self) -> None:
        if not bool(self.step > 0):
            raise BwnError(
                "8-bit activations have no scale yet: pass a batch in training mode first"
            )

    def deployed(self) -> nn.Module:
        """The same function with its step fixed, in an operation that `export_onnx` writes."""
        self._require_step()
        return DeployedRound(self.step.detach().clone(), self.kind)


class DeployedRound(nn.Module):
    """Rounding with a fixed step. kind: `int8` or `uint8`."""

    step: Tensor

    def __init__(self, step: Tensor, kind: str) -> None:
        super().__init__()
        self.register_buffer("step", step)
        self.qmin, self.qmax = QUANT_RANGES[kind]

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, float32, to the same shape."""
        y: Tensor = rounded(x, self.step, self.qmin, self.qmax)
        return y


def translations() -> dict[Any, Callable[..., Any]]:
    """How `torch.onnx.export` writes the operation above: its `custom_translation_table`."""
    import numpy as np
    import onnx_ir
    import onnxscript

    op: Any = onnxscript.opset18

    def quantized(x: Any, scale: Any, qmin: int, qmax: int) -> Any:
        # ONNX saturates at -128 or 255; Clip leaves the 255 values that bwn's kernels have.
        dtype = np.int8 if qmin < 0 else np.uint8
        zero, low, high = (
            op.Constant(value=onnx_ir.tensor(np.array(q, dtype))) for q in (0, qmin, qmax)
        )
        q = op.Clip(op.QuantizeLinear(x, scale, zero), low, high)
        return op.DequantizeLinear(q, scale, zero)

    return {torch.ops.bwn.rounded.default: quantized}
