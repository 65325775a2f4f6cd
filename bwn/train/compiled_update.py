"""What a training step does to each weight, compiled for the CPU.

torch passes through memory once for every operation, and a step on 100 images has more weights than
activations: a step of the MLP spent three quarters of its time here. Each function below is one
pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bwn.kernels.target.jit import compiled

_NO_PENALTY, _MARGIN, _DOUBLE_WELL = 0, 1, 2
PENALTY_CODES = {None: _NO_PENALTY, "margin": _MARGIN, "double-well": _DOUBLE_WELL}
"""Number of each penalty in `adam`."""

_FLOATS = "float32[::1]"
_SIGNS = [f"{_FLOATS}, {kind}[::1], {kind}, {kind}" for kind in ("int16", "int32")]


@compiled(f"void({', '.join([_FLOATS] * 4)}, int64, {', '.join(['float32'] * 6)})")
def adam(
    w: Any,
    g: Any,
    m: Any,
    v: Any,
    penalty: int,
    pull: float,
    rate: float,
    decay: float,
    scale1: float,
    scale2: float,
    clip: float,
) -> None:
    """One step of Adam with penalty and weight decay, both decoupled, and the clip.

    m = 0.9 m + 0.1 g; v = 0.999 v + 0.001 g^2;
    w = clip(w - decay w - pull/2 dP/dw - rate scale1 m / (scale2 sqrt(v) + 1e-8)).
    Sources: Kingma and Ba, arXiv:1412.6980, algorithm 1; Loshchilov and Hutter, arXiv:1711.05101,
    algorithm 2.

    Args:
        w: (n,) float32, the weights; updated in place.
        g: (n,) float32, the gradient of the loss.
        m: (n,) float32, its first moment; updated in place.
        v: (n,) float32, its second moment; updated in place.
        penalty: One of PENALTY_CODES: which P.
        pull: Factor of the penalty in this step.
        rate: Learning rate.
        decay: Fraction of a weight that weight decay takes.
        scale1: Bias correction of m: 1 / (1 - 0.9^steps).
        scale2: Bias correction of sqrt(v): 1 / sqrt(1 - 0.999^steps).
        clip: Largest |w|.
    """
    one, eps = np.float32(1), np.float32(1e-8)
    b1, b2, a1, a2 = np.float32(0.9), np.float32(0.999), np.float32(0.1), np.float32(0.001)
    for i in range(w.size):
        x, slope = w[i], g[i]
        m[i] = b1 * m[i] + a1 * slope
        v[i] = b2 * v[i] + a2 * (slope * slope)
        step = decay * x + rate * scale1 * m[i] / (scale2 * np.sqrt(v[i]) + eps)
        if penalty == _MARGIN:
            step += pull * (x - (one if x >= 0 else -one))
        elif penalty == _DOUBLE_WELL:
            step -= pull * np.float32(2) * x * (one - x * x)
        x -= step
        x = clip if x > clip else x
        w[i] = -clip if x < -clip else x


@compiled(*(f"void({types})" for types in _SIGNS))
def _signs(x: Any, out: Any, plus: Any, minus: Any) -> None:
    for i in range(x.size):
        out[i] = plus if x[i] >= 0 else minus


@compiled(*(f"void({types}, uint64)" for types in _SIGNS))
def _random_signs(x: Any, out: Any, plus: Any, minus: Any, seed: Any) -> None:
    for i in range(x.size):
        z = seed + np.uint64(i) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        u = np.float32(np.int32(z >> np.uint64(40))) * np.float32(2**-23) - np.float32(1)
        out[i] = plus if x[i] > u else minus


_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def supported(x: Tensor) -> bool:
    """Whether the functions here take this tensor; others need torch's own operations."""
    if is_traced():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous()


def is_traced() -> bool:
    """Whether torch records operations now, to compile or to export them, instead of values."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def signs(x: Tensor, dtype: torch.dtype) -> Tensor:
    """+1 where x >= 0, else -1.

    Args:
        x: `supported`, any shape.
        dtype: float32 or bfloat16.

    Returns:
        The shape of x, `dtype`.
    """
    return _filled_by(_signs, x, dtype)


def random_signs(x: Tensor, dtype: torch.dtype, seed: int) -> Tensor:
    """+1 with probability clip((x + 1) / 2, 0, 1), else -1.

    The i-th sign is +1 where x[i] > u[i], u in [-1, 1) a hash of seed and i.
    Source: Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17
    (SplitMix64), its upper 24 bits.

    Args:
        x: `supported`, any shape.
        dtype: float32 or bfloat16.
        seed: In 0 to 2^64 - 1.

    Returns:
        The shape of x, `dtype`.
    """
    return _filled_by(_random_signs, x, dtype, np.uint64(seed))


def _filled_by(draw: Callable[..., None], x: Tensor, dtype: torch.dtype, *more: Any) -> Tensor:
    """A tensor of +-1, handed to `draw` as integers of the same bits: numpy has no bfloat16."""
    out = torch.empty(x.shape, dtype=dtype)
    plus, minus = torch.tensor([1.0, -1.0], dtype=dtype).view(_BITS[dtype]).numpy()
    draw(flat(x), flat(out.view(_BITS[dtype])), plus, minus, *more)
    return out


def flat(x: Tensor) -> Any:
    """The elements of a contiguous tensor, as a 1-D numpy array that shares its memory."""
    return x.detach().view(-1).numpy()
