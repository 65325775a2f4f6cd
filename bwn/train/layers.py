"""Layers whose weights are binarized, for the built-in networks and for your own torch modules.

They are torch's Conv1d, Conv2d and Linear with a scheme: `weight` holds the real weights that the
optimizer moves, `binarized()` the ones that are used. `bwn.train.binarize` turns torch's layers
into them. Call `clip_weights(module)` after each optimizer step, or let `bwn.train.margin` do it;
`bwn.train.fit` clips by itself.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bwn.ir.node import Pair
from bwn.train.schemes import Scheme, deterministic, find_scheme, is_autocast

_FIRST_CHECK = 64
"""Training passes before the first check that weights are clipped. The next checks come after
twice as many each, because a check makes the host wait for the device."""


class BinaryLayer(nn.Module):
    """What the layers with a scheme share; each also inherits from the torch layer that it is."""

    weight: Tensor
    scheme: Scheme
    _passes: int

    def _set_scheme(self, scheme: str | Scheme) -> None:
        """Start as a fresh layer with a scheme, or its name."""
        self.scheme = find_scheme(scheme)
        self._passes = 0
        if self.scheme.clip:
            # BinaryConnect starts uniform within the clip; the learning-rate scale makes up for it.
            nn.init.uniform_(self.weight, -1, 1)

    @classmethod
    def adopt(cls, layer: nn.Module, scheme: Scheme) -> None:
        """Give a torch layer, of exactly the class that this one extends, a scheme in place.

        The object stays the same, with its parameters, hooks and settings: nothing that refers to
        it, such as an optimizer or a tied weight, needs to know.
        """
        layer.__class__ = cls
        layer.scheme, layer._passes = scheme, 0  # type: ignore[assignment]  # not parameters

    def release(self) -> None:
        """Become torch's own layer again, in place, with the real weights."""
        del self.scheme, self._passes
        self.__class__ = FLOAT_CLASSES[type(self)]  # type: ignore[assignment]  # a wider type

    def deployed(self) -> nn.Module:
        """Torch's own layer with the deployed weights, which have no gradient."""
        layer = copy.copy(self)
        tensors = {"weight": self.scheme.deploy(self.weight), "bias": self._parameters["bias"]}
        layer._parameters = {  # of its own: the copy shares everything else
            name: None if x is None else nn.Parameter(x.detach().clone(), requires_grad=False)
            for name, x in tensors.items()
        }
        layer.release()
        return layer

    def binarized(self) -> Tensor:
        """The weights in use: (out, ...), of the training quantizer, or deployed in evaluation."""
        if self.training:
            self._warn_unclipped()
            return self.scheme.quantize(self.weight)
        return self.scheme.deploy(self.weight)

    @property
    def learning_rate_scale(self) -> float:
        """Factor of this layer's learning rate.

        1 / sqrt(1.5 / (fan_in + fan_out)), or 1 where nothing is clipped. Real weights fill [-1, 1]
        in a layer of any size; this gives them the steps that weights of Glorot size would have.
        Source: BinaryConnect's own code (W_LR_scale = "Glorot").
        """
        if not self.scheme.clip:
            return 1.0
        taps = math.prod(self.weight.shape[2:])
        return 1 / math.sqrt(1.5 / ((self.weight.shape[0] + self.weight.shape[1]) * taps))

    def _warn_unclipped(self) -> None:
        if torch.compiler.is_compiling():
            return  # the count would compile the network again in each pass
        self._passes += 1
        due = self.scheme.clip and self._passes >= _FIRST_CHECK and self._passes.bit_count() == 1
        if due and bool((self.weight.detach().abs() > 1).any()):
            warnings.warn(
                "real weights lie beyond +-1, where no gradient reaches them: "
                "call bwn.train.clip_weights(module) after each optimizer step, or train with "
                "bwn.train.margin",
                stacklevel=4,
            )


class BinaryConv1d(BinaryLayer, nn.Conv1d):
    """1-D convolution with binarized weights.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Length of the kernel.
        stride: In samples.
        padding: In samples on each side, or `same` or `valid`.
        dilation: In samples.
        groups: Groups of channels that are convolved apart.
        bias: Whether a bias is added; not by default, as batch norm follows.
        scheme: A Scheme or its name.
        padding_mode: What is padded: `zeros`, `reflect`, `replicate` or `circular`.

    Raises:
        BwnError: There is no scheme of that name.

    Example:
        >>> import torch
        >>> from bwn.train import BinaryConv1d
        >>> BinaryConv1d(1, 8, 3, padding=1)(torch.zeros(2, 1, 28)).shape
        torch.Size([2, 8, 28])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        scheme: str | Scheme = "deterministic",
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
    ) -> None:
        """Make the layer; the arguments are described at the class."""
        nn.Conv1d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode,
        )  # fmt: skip
        self._set_scheme(scheme)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, L) to (N, out, L')."""
        y: Tensor = self._conv_forward(x, self.binarized(), self.bias)
        return y


class BinaryConv2d(BinaryLayer, nn.Conv2d):
    """2-D convolution with binarized weights.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel, or one number for both.
        stride: Likewise, in pixels.
        padding: Likewise, in pixels on each side, or `same` or `valid`.
        dilation: Likewise, in pixels.
        groups: Groups of channels that are convolved apart.
        bias: Whether a bias is added; not by default, as batch norm follows.
        scheme: A Scheme or its name.
        padding_mode: What is padded: `zeros`, `reflect`, `replicate` or `circular`.

    Raises:
        BwnError: There is no scheme of that name.

    Example:
        >>> import torch
        >>> from bwn.train import BinaryConv2d
        >>> layer = BinaryConv2d(1, 8, 3, padding=1, scheme="margin")
        >>> layer(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 8, 28, 28])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        scheme: str | Scheme = "deterministic",
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
    ) -> None:
        """Make the layer; the arguments are described at the class."""
        nn.Conv2d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode,
        )  # fmt: skip
        self._set_scheme(scheme)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, H', W')."""
        weight = self.binarized()
        if is_autocast(x) and self.stride[1] > x.shape[3]:
            # torch 2.13 leaves bfloat16 gradients of taps that read only padding uninitialized.
            with torch.autocast(x.device.type, enabled=False):
                y: Tensor = self._conv_forward(x.float(), weight.float(), self.bias)
        else:
            y = self._conv_forward(x, weight, self.bias)
        return y


class BinaryLinear(BinaryLayer, nn.Linear):
    """Fully connected layer with binarized weights.

    Args:
        in_features: Inputs per image.
        out_features: Outputs per image.
        bias: Whether a bias is added; not by default, as batch norm follows.
        scheme: A Scheme or its name.

    Raises:
        BwnError: There is no scheme of that name.

    Example:
        >>> import torch
        >>> from bwn.train import BinaryLinear
        >>> layer = BinaryLinear(4, 3).eval()
        >>> layer.binarized().abs().unique().tolist()
        [1.0]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        scheme: str | Scheme = "deterministic",
    ) -> None:
        """Make the layer; the arguments are described at the class."""
        nn.Linear.__init__(self, in_features, out_features, bias)
        self._set_scheme(scheme)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in) to (N, out)."""
        return F.linear(x, self.binarized(), self.bias)


class SignActivation(nn.Module):
    """y = +1 where x >= 0, else -1; dy/dx = 1 where |x| <= 1, else 0.

    The next binary layer then reads one bit per activation.
    Source: Hubara et al., arXiv:1602.02830, equation 4.

    Example:
        >>> import torch
        >>> from bwn.train import SignActivation
        >>> SignActivation()(torch.tensor([-0.5, 0.0, 2.0])).tolist()
        [-1.0, 1.0, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, float, to the same shape."""
        return deterministic(x.clamp(-1, 1))  # whose gradient is 0 beyond

    def deployed(self) -> nn.Module:
        """The same function without a gradient of its own."""
        return DeployedSign()


class DeployedSign(nn.Module):
    """y = +1 where x >= 0, else -1, in operations that every exporter knows."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, float, to the same shape."""
        return torch.where(x >= 0, 1.0, -1.0)


FLOAT_CLASSES: dict[type[BinaryLayer], type[nn.Module]] = {
    BinaryConv1d: nn.Conv1d,
    BinaryConv2d: nn.Conv2d,
    BinaryLinear: nn.Linear,
}
"""The torch layer that each layer here extends."""


def scheme_layers(module: nn.Module) -> dict[str, BinaryLayer]:
    """The layers of `module` that have a scheme, float ones included, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, BinaryLayer)}


def binary_layers(module: nn.Module) -> dict[str, BinaryLayer]:
    """The layers whose deployed weights are one bit.

    Args:
        module: Any module.

    Returns:
        The layers by their names in `module`, in its order.

    Example:
        >>> from torch import nn
        >>> from bwn.train import BinaryLinear, binary_layers
        >>> net = nn.Sequential(BinaryLinear(4, 4), nn.ReLU(), BinaryLinear(4, 2, scheme="float"))
        >>> list(binary_layers(net))
        ['0']
    """
    return {name: layer for name, layer in scheme_layers(module).items() if layer.scheme.binary}


def clip_weights(module: nn.Module) -> None:
    """Clip real weights to +-1, in each layer whose scheme asks for it.

    Call it after each optimizer step in a training loop of your own.

    Args:
        module: Any module; its weights are changed in place.

    Example:
        >>> import torch
        >>> from bwn.train import BinaryLinear, clip_weights
        >>> layer = BinaryLinear(2, 2)
        >>> _ = torch.nn.init.constant_(layer.weight, 1.5)
        >>> clip_weights(layer)
        >>> layer.weight.max().item()
        1.0
    """
    with torch.no_grad():
        for layer in binary_layers(module).values():
            if layer.scheme.clip:
                layer.weight.clamp_(-1, 1)
