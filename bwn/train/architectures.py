"""The built-in networks, built from their Architecture."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from bwn.errors import ArgumentError
from bwn.ops.weighted import UINT8_MAX_DEPTH
from bwn.train.fake_quant import RoundActivation
from bwn.train.layers import BinaryConv2d, BinaryLayer, BinaryLinear, SignActivation
from bwn.train.settings import Architecture, NetworkName

WIDTHS: dict[NetworkName, int] = {
    "mlp": 1024,
    "lenet": 32,
    "vgg": 128,
    "resnet18": 64,
    "resnet20": 16,
}
"""Width of the first hidden layer, which the others follow."""

_SMALLEST: dict[NetworkName, int] = {"mlp": 1, "lenet": 4, "vgg": 8, "resnet18": 1, "resnet20": 1}
_EPSILON = 1e-4
"""Batch norm's epsilon, BinaryConnect's."""


def build(architecture: Architecture) -> nn.Sequential:
    """Build a network with fresh weights, drawn from torch's global generator.

    Args:
        architecture: Which network, and of which size.

    Returns:
        The network in training mode: (N, C, H, W) float32 to scores (N, classes).

    Raises:
        BwnError: The images are too small for it, or no layer has one-bit weights that could read
            its 8-bit activations.

    Example:
        >>> import torch
        >>> from bwn.train import Architecture, build
        >>> network = Architecture(name="mlp", input_shape=(1, 8, 8), classes=3, width=16)
        >>> build(network)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3])
    """
    if architecture.activations == "int8" and architecture.scheme == "float":
        raise ArgumentError(
            "activations 'int8' need layers with one-bit weights; scheme 'float' has none"
        )
    smallest = _SMALLEST[architecture.name]
    height, width = architecture.input_shape[1:]
    if min(height, width) < smallest:
        raise ArgumentError(
            f"{architecture.name} needs images of at least {smallest} x {smallest} pixels, "
            f"these are {height} x {width}"
        )
    return _BUILDERS[architecture.name](_Parts(architecture))


def build_seeded(architecture: Architecture, seed: int) -> nn.Sequential:
    """`build` with weights drawn from a seed; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(architecture)


class _Parts:
    """Makes the layers of a network; its first and last layer may have another scheme."""

    def __init__(self, architecture: Architecture) -> None:
        self.shape = architecture.input_shape
        self.width = architecture.width or WIDTHS[architecture.name]
        self.classes = architecture.classes
        self.scheme = architecture.scheme
        self.sign = architecture.activations == "sign"
        self.quantized = architecture.activations == "int8"
        residual = architecture.name.startswith("resnet")
        float_ends = residual if architecture.float_ends is None else architecture.float_ends
        self.end_scheme = "float" if float_ends else architecture.scheme

    def activation(self) -> nn.Module:
        return SignActivation() if self.sign else nn.ReLU()

    def conv(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, first: bool = False
    ) -> list[nn.Module]:
        """A convolution that keeps the size (or halves it), normed."""
        scheme = self.end_scheme if first else self.scheme
        layer = BinaryConv2d(inputs, outputs, kernel, stride, kernel // 2, scheme=scheme)
        return self._normed(layer, nn.BatchNorm2d, first)

    def dense(self, inputs: int, outputs: int, *, first: bool = False) -> list[nn.Module]:
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
        return [*rounding, layer, norm(len(layer.weight), eps=_EPSILON)]


def _sequential(*layers: nn.Module) -> nn.Sequential:
    """Layers, numbered as if none rounded: int8 activations leave the names of weights alone."""
    named: dict[str, nn.Module] = {}
    for layer in layers:
        number = sum(name.isdigit() for name in named)
        named[f"rounding{number}" if isinstance(layer, RoundActivation) else str(number)] = layer
    return nn.Sequential(OrderedDict(named))


def _mlp(parts: _Parts) -> nn.Sequential:
    """Three hidden layers: BinaryConnect's MNIST network (there with 1024 units each)."""
    inputs, width = prod(parts.shape), parts.width
    hidden = (
        parts.dense(inputs, width, first=True)
        + parts.dense(width, width)
        + parts.dense(width, width)
    )
    return _sequential(nn.Flatten(), *hidden, *parts.head(width))


def _lenet(parts: _Parts) -> nn.Sequential:
    """32C5-MP2-64C5-MP2-512FC, after LeNet-5 (LeCun et al. 1998)."""
    channels, height, width = parts.shape
    first, second = parts.width, 2 * parts.width
    return _sequential(
        *parts.conv(channels, first, 5, first=True),
        parts.activation(),
        nn.MaxPool2d(2),
        *parts.conv(first, second, 5),
        parts.activation(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *parts.dense(second * (height // 4) * (width // 4), 16 * parts.width),
        *parts.head(16 * parts.width),
    )


def _vgg(parts: _Parts) -> nn.Sequential:
    """(2x128C3)-MP2-(2x256C3)-MP2-(2x512C3)-MP2-(2x1024FC): BinaryConnect's CIFAR-10 network."""
    channels, height, width = parts.shape
    layers: list[nn.Module] = []
    for outputs in (parts.width, 2 * parts.width, 4 * parts.width):
        for _ in range(2):
            layers += [*parts.conv(channels, outputs, 3, first=not layers), parts.activation()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    wide = 8 * parts.width
    dense = parts.dense(channels * (height // 8) * (width // 8), wide) + parts.dense(wide, wide)
    return _sequential(*layers, nn.Flatten(), *dense, *parts.head(wide))


class ReluBlock(nn.Module):
    """y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)).

    Source: He et al., arXiv:1512.03385, figure 2.
    """

    def __init__(self, parts: _Parts, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first, second = parts.conv(inputs, outputs, 3, stride), parts.conv(outputs, outputs, 3)
        self.body = _sequential(*first, nn.ReLU(), *second)
        self.shortcut = _shortcut(parts, inputs, outputs, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, H', W')."""
        y: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return y


class SignBlock(nn.Module):
    """y = bn(conv(sign(x))) + shortcut(x), twice: real values bypass each sign.

    Source: Liu et al., Bi-Real Net, arXiv:1808.00278, section 3.2 (where the shortcut's convolution
    follows an average).
    """

    def __init__(self, parts: _Parts, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _sequential(SignActivation(), *parts.conv(inputs, outputs, 3, stride))
        self.second = _sequential(SignActivation(), *parts.conv(outputs, outputs, 3))
        self.shortcut = _shortcut(parts, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, H', W')."""
        x = self.first(x) + self.shortcut(x)
        y: Tensor = self.second(x) + x
        return y


def _shortcut(parts: _Parts, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return _sequential(*parts.conv(inputs, outputs, 1, stride))


def _residual(
    parts: _Parts, stem: list[nn.Module], size: tuple[int, int], blocks: tuple[int, ...]
) -> nn.Sequential:
    """Stem, stages of blocks (all but the first halve the size, double the width), mean, head."""
    layers = stem
    inputs = parts.width
    for stage, count in enumerate(blocks):
        outputs = parts.width << stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            layers.append((SignBlock if parts.sign else ReluBlock)(parts, inputs, outputs, stride))
            inputs = outputs
    window = tuple(-(-extent // 2 ** (len(blocks) - 1)) for extent in size)
    return _sequential(
        *layers, nn.AvgPool2d((window[0], window[1])), nn.Flatten(), *parts.head(inputs)
    )


def _resnet18(parts: _Parts) -> nn.Sequential:
    """He et al., arXiv:1512.03385, table 1: for photographs of about 224 x 224."""
    channels, height, width = parts.shape
    stem = [*parts.conv(channels, parts.width, 7, 2, first=True), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return _residual(parts, stem, (-(-height // 4), -(-width // 4)), (2, 2, 2, 2))


def _resnet20(parts: _Parts) -> nn.Sequential:
    """He et al., arXiv:1512.03385, section 4.2 with n = 3: for small images, of about 32 x 32."""
    stem = [*parts.conv(parts.shape[0], parts.width, 3, first=True), nn.ReLU()]
    return _residual(parts, stem, parts.shape[1:], (3, 3, 3))


_BUILDERS: dict[NetworkName, Callable[[_Parts], nn.Sequential]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "vgg": _vgg,
    "resnet18": _resnet18,
    "resnet20": _resnet20,
}
