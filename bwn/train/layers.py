"""Layers whose weights are binarized, for the built-in networks and for a user's own torch modules.

They are torch's Conv2d and Linear with a scheme: `weight` holds the real weights that the optimizer moves,
`binarized()` the ones that are used. After each optimizer step call `clip_weights(module)`; `bwn.train.fit` does.
"""

from __future__ import annotations

import math
import warnings
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bwn.train.schemes import Scheme, deterministic, find_scheme

_FIRST_LOOK = 64
"""Training passes before the first look at whether weights are clipped; then at twice as many, and so on, for in a look
the host waits for the device."""


class _Binary:
    """What BinaryConv2d and BinaryLinear share. `scheme`: a Scheme or its name."""

    weight: Tensor
    training: bool
    scheme: Scheme
    _passes: int

    def _prepare(self, scheme: str | Scheme) -> None:
        self.scheme = find_scheme(scheme)
        self._passes = 0
        if self.scheme.clip:
            # BinaryConnect starts uniform within the clip; the learning-rate scale makes up for the size.
            nn.init.uniform_(self.weight, -1, 1)

    def binarized(self) -> Tensor:
        """The weights in use: the training quantizer's in training mode, the deployed ones in evaluation mode."""
        if self.training:
            self._warn_unclipped()
            return self.scheme.quantize(self.weight)
        return self.scheme.deploy(self.weight)

    @property
    def learning_rate_scale(self) -> float:
        """Factor on this layer's updates: 1 / sqrt(1.5 / (fan_in + fan_out)), or 1 where nothing is clipped.

        Real weights live in +-1 whatever the layer's size; this gives them the steps that weights of Glorot size
        would have. Source: BinaryConnect's own code (W_LR_scale = "Glorot").
        """
        if not self.scheme.clip:
            return 1.0
        field = math.prod(self.weight.shape[2:])
        return 1 / math.sqrt(1.5 / ((self.weight.shape[0] + self.weight.shape[1]) * field))

    def _warn_unclipped(self) -> None:
        self._passes += 1
        due = self.scheme.clip and self._passes >= _FIRST_LOOK and self._passes.bit_count() == 1
        if due and bool((self.weight.detach().abs() > 1).any()):
            warnings.warn(
                "real weights lie beyond +-1, where no gradient reaches them: "
                "call bwn.train.clip_weights(module) after each optimizer step",
                stacklevel=4,
            )


class BinaryConv2d(_Binary, nn.Conv2d):
    """2-D convolution with binarized weights and zero padding.

    Arguments are those of torch.nn.Conv2d, and `scheme`, a name or a Scheme. No bias by default: batch norm follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        scheme: str | Scheme = "deterministic",
    ) -> None:
        nn.Conv2d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self._prepare(scheme)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) to (N, out, H', W')."""
        return F.conv2d(
            x, self.binarized(), self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def plain(self) -> nn.Conv2d:
        """An ordinary convolution with the deployed weights."""
        kernel, stride = cast(tuple[int, int], self.kernel_size), cast(tuple[int, int], self.stride)
        padding, dilation = (
            cast(tuple[int, int], self.padding),
            cast(tuple[int, int], self.dilation),
        )
        bias = self.bias is not None
        layer = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            kernel,
            stride,
            padding,
            dilation,
            self.groups,
            bias,
            device="meta",
        )
        return _filled(layer, self.scheme.deploy(self.weight), self.bias)


class BinaryLinear(_Binary, nn.Linear):
    """Fully connected layer with binarized weights.

    Arguments are those of torch.nn.Linear, and `scheme`, a name or a Scheme. No bias by default: batch norm follows.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        scheme: str | Scheme = "deterministic",
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias)
        self._prepare(scheme)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in) to (N, out)."""
        return F.linear(x, self.binarized(), self.bias)

    def plain(self) -> nn.Linear:
        """An ordinary fully connected layer with the deployed weights."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        return _filled(layer, self.scheme.deploy(self.weight), self.bias)


class SignActivation(nn.Module):
    """y = +1 where x >= 0, else -1; gradient 1 where |x| <= 1, else 0 (Hubara et al., arXiv:1602.02830, eq. 4)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape."""
        return deterministic(x.clamp(-1, 1))  # whose gradient is 0 beyond

    def plain(self) -> nn.Module:
        """The same function without a gradient of its own."""
        return PlainSign()


class PlainSign(nn.Module):
    """y = +1 where x >= 0, else -1, in operations that every exporter knows."""

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape."""
        return torch.where(x >= 0, 1.0, -1.0)


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)
BinaryLayer = BinaryConv2d | BinaryLinear


def _filled(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def scheme_layers(module: nn.Module) -> dict[str, BinaryLayer]:
    """The layers of `module` that have a scheme, also those that it leaves float, by name."""
    return {
        name: m for name, m in module.named_modules() if isinstance(m, (BinaryConv2d, BinaryLinear))
    }


def binary_layers(module: nn.Module) -> dict[str, BinaryLayer]:
    """The layers of `module` whose deployed weights are one bit, by name."""
    return {name: layer for name, layer in scheme_layers(module).items() if layer.scheme.binary}


def clip_weights(module: nn.Module) -> None:
    """Clip the real weights of every layer whose scheme asks for it to +-1; call it after each optimizer step."""
    with torch.no_grad():
        for layer in binary_layers(module).values():
            if layer.scheme.clip:
                layer.weight.clamp_(-1, 1)
