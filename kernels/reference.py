"""The reference: every operation in numpy, float64 and exact integers, nothing optimized.

The kernels, the planner's tests and `bwn verify` are checked against this file. It is slow on
purpose and must stay obvious. Arrays carry the batch axis first. Bits and signs follow the rule in
`bits.py`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bwn.kernels import bits

Reals = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]

EXACT = 2**53
"""Below this float64 holds every integer, so sums of products taken in it are the integer sums."""


def matmul(a: Reals, b: Reals) -> Reals:
    """a @ b: float64 if either is floating, else exact int64."""
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return np.matmul(a.astype(np.float64), b.astype(np.float64))
    largest = [int(np.abs(m.astype(np.int64)).max(initial=0)) for m in (a, b)]
    if a.shape[-1] * largest[0] * largest[1] < EXACT:  # many times faster than int64
        return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)
    return np.matmul(a.astype(np.int64), b.astype(np.int64))


def conv(
    x: Reals,
    w: Reals,
    *,
    stride: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Reals:
    """2-D convolution with zero padding.

    y[n, o, i, j] = sum over c, u, v of w[o, c, u, v] * x[n, c, i * sy + u * dy - top, j * sx + ...]

    Args:
        x: (N, C, H, W).
        w: (O, C / groups, KH, KW).
        stride: sy, sx.
        pads: Top, left, bottom, right.
        dilation: dy, dx.
        groups: Groups of channels.

    Returns:
        (N, O, Ho, Wo): float64 if either is floating, else int64, exact.
    """
    outputs, channels, kh, kw = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    height = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    width = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y: Any = 0
    for u in range(kh):
        for v in range(kw):
            inputs = _tap(x, (u * dilation[0], v * dilation[1]), stride, (height, width))
            inputs = inputs.reshape(len(x), groups, channels, height * width)
            weights = w[:, :, u, v].reshape(groups, outputs // groups, channels)
            y = y + matmul(weights, inputs)  # (N, groups, O / groups, Ho * Wo)
    return np.asarray(y).reshape(len(x), outputs, height, width)


def dense(x: Reals, w: Reals) -> Reals:
    """y[n, o] = sum_k w[o, k] * x[n, k], as `matmul` does. x: (N, K). w: (O, K)."""
    return matmul(x, w.T)


def epilogue(
    sums: Reals,
    scale: Reals | None = None,
    bias: Reals | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Floats:
    """clamp(scale[o] * sums[n, o] + bias[o], low, high) in float64.

    Args:
        sums: (N, O, ...).
        scale: (O,), or (N, O) where each image has its own; None is 1.
        bias: (O,); None is 0.
        low: Lower bound, or None.
        high: Upper bound, or None.
    """
    y = sums.astype(np.float64)
    if scale is not None:
        y = y * _broadcast(scale, y)
    if bias is not None:
        y = y + _broadcast(bias, y)
    return clamp(y, low, high)


def affine(x: Reals, scale: Reals, bias: Reals) -> Floats:
    """scale[c] * x[n, c] + bias[c] in float64. x: (N, C, ...). scale, bias: (C,)."""
    return epilogue(x, scale, bias)


def clamp(x: Reals, low: float | None = None, high: float | None = None) -> Floats:
    """min(max(x, low), high) in float64; None is no bound."""
    y = x.astype(np.float64)
    if low is not None:
        y = np.maximum(y, low)
    return y if high is None else np.minimum(y, high)


def prelu(x: Reals, slope: Reals) -> Floats:
    """x where x >= 0, else slope * x, in float64."""
    return np.where(x < 0, x.astype(np.float64) * slope, x)


def sign(x: Reals) -> npt.NDArray[np.int8]:
    """+1 where x >= 0, else -1 (NaN too), as int8."""
    return np.where(x >= 0, 1, -1).astype(np.int8)


def pool(
    x: Reals,
    kind: Literal["max", "average"],
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    count_pads: bool = False,
) -> Floats:
    """Maximum or average over windows; padding never wins a maximum.

    Args:
        x: (N, C, H, W).
        kind: Of pooling.
        kernel: Height and width of the window.
        stride: From one window to the next.
        pads: Top, left, bottom, right.
        count_pads: Whether an average divides by the padding too, or by positions inside the image.

    Returns:
        (N, C, Ho, Wo) float64.
    """
    around = ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
    inside = np.pad(np.ones((1, 1, *x.shape[2:])), around, constant_values=float(count_pads))
    padded = np.pad(x.astype(np.float64), around, constant_values=-np.inf if kind == "max" else 0.0)
    size = (
        (padded.shape[2] - kernel[0]) // stride[0] + 1,
        (padded.shape[3] - kernel[1]) // stride[1] + 1,
    )
    taps = [(u, v) for u in range(kernel[0]) for v in range(kernel[1])]
    windows = [_tap(padded, tap, stride, size) for tap in taps]
    if kind == "max":
        return np.asarray(np.maximum.reduce(windows))
    return np.asarray(sum(windows) / sum(_tap(inside, tap, stride, size) for tap in taps))


def softmax(x: Reals) -> Floats:
    """exp(x - max x) / sum exp(x - max x) over the last axis of x: (N, K), in float64."""
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def quantize(
    x: Reals, scale: float | None = None, qmin: int = -127, qmax: int = 127
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    """Quantize images: q = clip(rint(x / scale), qmin, qmax), all in float32, halves to even.

    Args:
        x: (N, ...) float32, finite.
        scale: One for all, or None: max |x| / qmax of each image, 1 where that is 0.
        qmin: Smallest q.
        qmax: Largest q.

    Returns:
        q: (N, ...) int16.
        scales: (N,) float32, with x ~ scale * q.
    """
    x = x.astype(np.float32, copy=False)
    if scale is None:
        scales = np.abs(x).reshape(len(x), -1).max(axis=1) / np.float32(qmax)
        scales[scales == 0] = 1
    else:
        scales = np.full(len(x), scale, np.float32)
    q = np.rint(x / scales.reshape(-1, *[1] * (x.ndim - 1)))
    return np.clip(q, qmin, qmax).astype(np.int16), scales


def conv_weights(
    words: npt.NDArray[np.uint64], kernel: Pair, channels: int
) -> npt.NDArray[np.int8]:
    """Weights +-1 of packed rows, from the order k = (ky * KW + kx) * channels + c.

    Args:
        words: (O, ceil(KH * KW * channels / 64)) uint64.
        kernel: KH, KW.
        channels: Input channels of one group.

    Returns:
        (O, channels, KH, KW) int8.
    """
    rows = bits.unpack(words, kernel[0] * kernel[1] * channels)
    return np.ascontiguousarray(rows.reshape(-1, *kernel, channels).transpose(0, 3, 1, 2))


def _tap(x: Reals, start: Pair, stride: Pair, size: Pair) -> Reals:
    """Every position's element at offset `start` of its window: (N, C, *size)."""
    rows = slice(start[0], start[0] + (size[0] - 1) * stride[0] + 1, stride[0])
    columns = slice(start[1], start[1] + (size[1] - 1) * stride[1] + 1, stride[1])
    return x[:, :, rows, columns]


def _broadcast(values: Reals, y: Reals) -> Floats:
    """(O,) or (N, O) values shaped to multiply y: (N, O, ...)."""
    return values.astype(np.float64).reshape(*values.shape, *[1] * (y.ndim - 2))
