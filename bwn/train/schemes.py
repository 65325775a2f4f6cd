"""Quantizers: from real weights to signs, each with the gradient that training uses.

A sign has no useful derivative. All of these pass the gradient straight through; real weights are clipped to +-1
after each step, where they have nothing left to gain (Courbariaux et al., BinaryConnect, arXiv:1511.00363,
section 2.4). sign(0) = +1, as in `bwn/kernels/bits.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bwn.errors import BwnError
from bwn.train import compiled_update

Quantizer = Callable[[Tensor], Tensor]


class _Binarized(torch.autograd.Function):
    """Forward: `binarize(x, dtype)`, of +-1. Backward: the gradient itself."""

    @staticmethod
    def forward(
        _context: Any, x: Tensor, binarize: Callable[[Tensor, torch.dtype], Tensor]
    ) -> Tensor:
        # Signs are exact in bfloat16 too; made in it at once, mixed precision need not convert the weights.
        mixed = x.dtype == torch.float32 and torch.is_autocast_enabled(x.device.type)
        return binarize(x.detach(), torch.get_autocast_dtype(x.device.type) if mixed else x.dtype)

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def signs(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """+1 where x >= 0, else -1, as `dtype` (None: that of x). No gradient."""
    if compiled_update.fits(x):
        return compiled_update.signs(x, dtype or x.dtype)
    # torch.where(x >= 0, 1, -1) reads better, but takes 16 times as long.
    result = torch.empty_like(x)
    torch.ge(x.detach(), 0, out=result)
    return result.mul_(2).sub_(1).to(dtype or x.dtype)


def draws(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """+1 with probability clip((x + 1) / 2, 0, 1), else -1, by torch's global generator. No gradient."""
    if compiled_update.fits(x):
        return compiled_update.draws(x, dtype or x.dtype, int(torch.randint(2**62, ())))
    return signs(x.detach() - torch.rand_like(x) * 2 + 1, dtype)


def deterministic(x: Tensor) -> Tensor:
    """q(x) = sign(x), dq/dx = 1. BinaryConnect's deterministic scheme (arXiv:1511.00363, section 2.2)."""
    result: Tensor = _Binarized.apply(x, signs)  # type: ignore[no-untyped-call]
    return result


def stochastic(x: Tensor) -> Tensor:
    """q(x) = +1 with probability clip((x + 1) / 2, 0, 1), else -1; dq/dx = 1.

    BinaryConnect's stochastic scheme (arXiv:1511.00363, section 2.2); draws from torch's global generator.
    """
    result: Tensor = _Binarized.apply(x, draws)  # type: ignore[no-untyped-call]
    return result


def scaled(x: Tensor) -> Tensor:
    """q(x) = alpha * sign(x), alpha[n] = mean |x[n]| over the K weights of output channel n.

    dL/dx[n, k] = alpha[n] * g[n, k] + sign(x[n, k]) / K * sum_j g[n, j] * sign(x[n, j]).
    x: (out, ...). Rastegari et al., XNOR-Net, arXiv:1603.05279, section 3.1 (there with the sum's own term only).
    """
    alpha = x.abs().mean(dim=tuple(range(1, x.ndim)), keepdim=True)
    return alpha * deterministic(x)


def identity(x: Tensor) -> Tensor:
    """q(x) = x: a full-precision layer."""
    return x


@dataclass(frozen=True)
class Scheme:
    """How a layer's weights are binarized.

    quantize: in training. deploy: in evaluation and export. binary: whether the deployed weights are +-alpha.
    clip: whether real weights are kept within +-1 and their updates scaled per layer.
    penalty: name of the penalty that the scheme adds to the loss by default, or None.
    """

    name: str
    quantize: Quantizer
    deploy: Quantizer
    binary: bool = True
    clip: bool = True
    penalty: str | None = None


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("float", identity, identity, binary=False, clip=False),
        Scheme("deterministic", deterministic, deterministic),
        # One bit is deployed, so one bit is evaluated; BinaryConnect tested this scheme with the real weights.
        Scheme("stochastic", stochastic, deterministic),
        Scheme("scaled", scaled, scaled),
        Scheme("margin", deterministic, deterministic, penalty="margin"),
    )
}


def find_scheme(scheme: str | Scheme) -> Scheme:
    """The scheme of that name; a Scheme stands for itself. Raises BwnError for an unknown name."""
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise BwnError(f"unknown scheme '{scheme}'; valid schemes are {', '.join(SCHEMES)}")
    return SCHEMES[scheme]
