"""The layers that the built-in networks are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from bwn.kernels.gemm.depths import UINT8_MAX_DEPTH
from bwn.train.fake_quant import RoundActivation
from bwn.train.layers import BinaryConv2d, BinaryLayer, BinaryLinear, SignActivation
from bwn.train.networks import NETWORKS
from bwn.train.settings import Architecture

EPSILON = 1e-4
"""Batch norm's epsilon, BinaryConnect's."""


class Parts:
    """Makes the layers of a network; its first and last layer may have another scheme."""

    def __init__(self, architecture: Architecture) -> None:
        network, float_ends = NETWORKS[architecture.name], architecture.float_ends
        self.shape = architecture.input_shape
        self.width = architecture.width or network.width
        self.classes = architecture.classes
        self.scheme = architecture.scheme
        self.sign = architecture.activations == "sign"
        self.quantized = architecture.activations == "int8"
        self.float_ends = network.float_ends if float_ends is None else float_ends
        self.end_scheme = "float" if self.float_ends else architecture.scheme

    def activation(self) -> nn.Module:
        """What follows a batch norm."""
        return SignActivation() if self.sign else nn.ReLU()

    def conv(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, first: bool = False
    ) -> list[nn.Module]:
        """A convolution that keeps the size (or halves it), normed."""
        scheme = self.end_scheme if first else self.scheme
        layer = BinaryConv2d(inputs, outputs, kernel, stride, kernel // 2, scheme=scheme)
        return self._normed(layer, nn.BatchNorm2d, first)

    def dense(self, inputs: int, outputs: int, *, first: bool = False) -> list[nn.Module]:
        """A fully connected layer, normed, with its activation."""
        scheme = self.end_scheme if first else self.scheme
        layer = BinaryLinear(inputs, outputs, scheme=scheme)
        return [*self._normed(layer, nn.BatchNorm1d, first), self.activation()]

    def head(self, inputs: int) -> list[nn.Module]:
        """The last layer; its batch norm gives the scores a range that the losses can use."""
        layer = BinaryLinear(inputs, self.classes, scheme=self.end_scheme)
        return self._normed(layer, nn.BatchNorm1d)

    def _normed(
        self, layer: BinaryLayer, norm: Callable[..., nn.Module], first: bool = False
    ) -> list[nn.Module]:
        """What rounds a layer's input, the layer, batch norm; only an image can be negative."""
        signed = first or layer.weight[0].numel() > UINT8_MAX_DEPTH
        quantized = self.quantized and layer.scheme.binary
        rounding = [RoundActivation(signed=signed)] if quantized else []
        return [*rounding, layer, norm(len(layer.weight), eps=EPSILON)]


def sequential(*layers: nn.Module) -> nn.Sequential:
    """Layers, numbered as if none rounded: int8 activations leave the names of weights alone."""
    named: dict[str, nn.Module] = {}
    for layer in layers:
        number = sum(name.isdigit() for name in named)
        named[f"rounding{number}" if isinstance(layer, RoundActivation) else str(number)] = layer
    return nn.Sequential(OrderedDict(named))
