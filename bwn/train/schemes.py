"""Quantizers: from real weights to signs, each with the gradient that training uses.

A sign has no useful derivative. All of these pass the gradient straight through (a straight-through
estimator). Real weights are clipped to +-1 after each step: beyond that they have nothing to gain
(Courbariaux et al., BinaryConnect, arXiv:1511.00363, section 2.4). sign(0) = +1, as in
`bwn/kernels/bits.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bwn.errors import ArgumentError
from bwn.train import compiled_update

Quantizer = Callable[[Tensor], Tensor]


def is_autocast(x: Tensor) -> bool:
    """Whether products of x are made in a shorter type; never where only shapes are computed."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


class _StraightThrough(torch.autograd.Function):
    """Forward: `binarize(x, dtype)`, of +-1. Backward: the gradient itself."""

    @staticmethod
    def forward(
        _context: Any, x: Tensor, binarize: Callable[[Tensor, torch.dtype], Tensor]
    ) -> Tensor:
        # Signs are exact in bfloat16 too. Made in it, they spare autocast converting the weights.
        mixed = x.dtype == torch.float32 and is_autocast(x)
        return binarize(x.detach(), torch.get_autocast_dtype(x.device.type) if mixed else x.dtype)

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def signs(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """+1 where x >= 0, else -1, as `dtype` (None: that of x). No gradient."""
    if compiled_update.supported(x):
        return compiled_update.signs(x, dtype or x.dtype)
    if compiled_update.is_traced():
        return torch.where(x >= 0, 1.0, -1.0).to(dtype or x.dtype)
    # torch.where(x >= 0, 1, -1) reads better, but takes 16 times as long.
    result = torch.empty_like(x)
    torch.ge(x.detach(), 0, out=result)
    return result.mul_(2).sub_(1).to(dtype or x.dtype)


def random_signs(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """+1 with probability clip((x + 1) / 2, 0, 1), else -1, as `dtype` (None: that of x).

    Draws from torch's global generator. No gradient.
    """
    if compiled_update.supported(x):
        return compiled_update.random_signs(x, dtype or x.dtype, int(torch.randint(2**62, ())))
    return signs(x.detach() - torch.rand_like(x) * 2 + 1, dtype)


def deterministic(x: Tensor) -> Tensor:
    """q(x) = sign(x), dq/dx = 1.

    Source: BinaryConnect's deterministic scheme (arXiv:1511.00363, section 2.2).
    """
    if torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None:
        return signs(x)  # exporters know no gradients of our own
    result: Tensor = _StraightThrough.apply(x, signs)  # type: ignore[no-untyped-call]
    return result


def stochastic(x: Tensor) -> Tensor:
    """q(x) = +1 with probability clip((x + 1) / 2, 0, 1), else -1; dq/dx = 1.

    Draws from torch's global generator. Source: BinaryConnect's stochastic scheme
    (arXiv:1511.00363, section 2.2).
    """
    result: Tensor = _StraightThrough.apply(x, random_signs)  # type: ignore[no-untyped-call]
    return result


def scaled(x: Tensor) -> Tensor:
    """q(x) = alpha sign(x), alpha[n] = mean |x[n]| over the K weights of output channel n.

    dL/dx[n, k] = alpha[n] g[n, k] + sign(x[n, k]) / K sum_j g[n, j] sign(x[n, j]).
    Source: Rastegari et al., XNOR-Net, arXiv:1603.05279, section 3.1 (which keeps of the sum only
    the term j = k).

    Args:
        x: (out, ...) float.
    """
    alpha = x.abs().mean(dim=tuple(range(1, x.ndim)), keepdim=True)
    return alpha * deterministic(x)


def identity(x: Tensor) -> Tensor:
    """q(x) = x: a full-precision layer."""
    return x


@dataclass(frozen=True)
class Scheme:
    """How a layer's weights are binarized.

    Attributes:
        name: Name of the scheme.
        quantize: From real weights, (out, ...) float, to those that training uses; with a gradient.
        deploy: The same for evaluation and export.
        binary: Whether the deployed weights are +-alpha.
        clip: Whether real weights are kept within +-1, and their updates scaled per layer.
        penalty: Name of the penalty that training adds by default, or None.

    Example:
        >>> from dataclasses import replace
        >>> from bwn.train import SCHEMES, BinaryLinear
        >>> unclipped = replace(SCHEMES["deterministic"], name="unclipped", clip=False)
        >>> layer = BinaryLinear(784, 10, scheme=unclipped)
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
        # One bit is deployed, so one bit is evaluated; BinaryConnect tested with the real weights.
        Scheme("stochastic", stochastic, deterministic),
        Scheme("scaled", scaled, scaled),
        Scheme("margin", deterministic, deterministic, penalty="margin"),
    )
}
"""The built-in schemes by name: those of `bwn.train.settings.SCHEME_NAMES`.

Example:
    >>> from bwn.train import SCHEMES
    >>> SCHEMES["margin"].penalty
    'margin'
"""


def find_scheme(scheme: str | Scheme) -> Scheme:
    """The scheme of that name, or the Scheme itself. Raises BwnError for an unknown name."""
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise ArgumentError(f"unknown scheme '{scheme}'; valid schemes are {', '.join(SCHEMES)}")
    return SCHEMES[scheme]
