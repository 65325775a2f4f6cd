"""The built-in networks. A network is rebuilt from its Architecture, which a checkpoint stores as JSON."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Annotated, Literal

import torch
from msgspec import Meta, Struct
from torch import Tensor, nn

from bwn.errors import BwnError
from bwn.ops.weighted import UINT8_MAX_DEPTH
from bwn.train.fake_quant import RoundActivation
from bwn.train.layers import BinaryConv2d, BinaryLinear, SignActivation

Name = Literal["mlp", "lenet", "vgg", "resnet18", "resnet20"]
Extent = Annotated[int, Meta(ge=1, le=4096)]

WIDTHS: dict[Name, int] = {"mlp": 1024, "lenet": 32, "vgg": 128, "resnet18": 64, "resnet20": 16}
"""Width of the first hidden layer, which the others follow."""

_SMALLEST: dict[Name, int] = {"mlp": 1, "lenet": 4, "vgg": 8, "resnet18": 1, "resnet20": 1}
_EPSILON = 1e-4
"""Batch norm's epsilon, BinaryConnect's."""


class Architecture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network, and of which size.

    input_shape: (C, H, W). width: of the first hidden layer; None: the network's own.
    scheme: name of the scheme of all layers; float_ends: whether the first and the last one stay float; None: in
        residual networks only, as is usual for them.
    activations: `relu`; `int8`: likewise, and what layers with one-bit weights read is rounded to 8 bits; or `sign`:
        the next layer then reads one bit per activation too.
    """

    name: Name
    input_shape: tuple[Extent, Extent, Extent]
    classes: Annotated[int, Meta(ge=2, le=65536)]
    scheme: Literal["float", "deterministic", "stochastic", "scaled", "margin"] = "margin"
    activations: Literal["relu", "int8", "sign"] = "relu"
    width: Annotated[int, Meta(ge=1, le=8192)] | None = None
    float_ends: bool | None = None


def build(architecture: Architecture) -> nn.Sequential:
    """The network with fresh weights, drawn from torch's global generator.

    Raises BwnError if the images are too small for it, or 8-bit activations would meet float weights alone.
    """
    if architecture.activations == "int8" and architecture.scheme == "float":
        raise BwnError(
            "activations 'int8' are read by layers with one-bit weights; scheme 'float' has none"
        )
    smallest = _SMALLEST[architecture.name]
    if min(architecture.input_shape[1:]) < smallest:
        size = f"{architecture.input_shape[1]} x {architecture.input_shape[2]}"
        raise BwnError(
            f"{architecture.name} needs images of at least {smallest} x {smallest} pixels, these are {size}"
        )
    return _BUILDERS[architecture.name](_Parts(architecture))


class _Parts:
    """Makes the layers of one architecture; the first and the last product know that they are."""

    def __init__(self, architecture: Architecture) -> None:
        self.shape = architecture.input_shape
        self.width = architecture.width or WIDTHS[architecture.name]
        self.classes = architecture.classes
        self.scheme = architecture.scheme
        self.sign, self.rounds = (architecture.activations == kind for kind in ("sign", "int8"))
        residual = architecture.name.startswith("resnet")
        float_ends = residual if architecture.float_ends is None else architecture.float_ends
        self.end_scheme = "float" if float_ends else architecture.scheme

    def activation(self) -> nn.Module:
        return SignActivation() if self.sign else nn.ReLU()

    def rounding(self, scheme: str, depth: int, first: bool) -> list[nn.Module]:
        """What rounds the input of a layer that sums `depth` products; only an image can be negative."""
        if not self.rounds or scheme == "float":
            return []
        return [RoundActivation(signed=first or depth > UINT8_MAX_DEPTH)]

    def conv(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, first: bool = False
    ) -> list[nn.Module]:
        """Convolution that keeps the size (or halves it) and batch norm, after the rounding of its input."""
        scheme = self.end_scheme if first else self.scheme
        layer = BinaryConv2d(inputs, outputs, kernel, stride, kernel // 2, scheme=scheme)
        before = self.rounding(scheme, inputs * kernel * kernel, first)
        return [*before, layer, nn.BatchNorm2d(outputs, eps=_EPSILON)]

    def dense(self, inputs: int, outputs: int, *, first: bool = False) -> list[nn.Module]:
        scheme = self.end_scheme if first else self.scheme
        layer = BinaryLinear(inputs, outputs, scheme=scheme)
        return [
            *self.rounding(scheme, inputs, first),
            layer,
            nn.BatchNorm1d(outputs, eps=_EPSILON),
            self.activation(),
        ]

    def head(self, inputs: int) -> list[nn.Module]:
        """Last layer; its batch norm gives the scores a range that the losses can use."""
        layer = BinaryLinear(inputs, self.classes, scheme=self.end_scheme)
        before = self.rounding(self.end_scheme, inputs, first=False)
        return [*before, layer, nn.BatchNorm1d(self.classes, eps=_EPSILON)]


def _in_turn(*layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, numbered as without rounding, so that weights keep their names where it is added."""
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
    return _in_turn(nn.Flatten(), *hidden, *parts.head(width))


def _lenet(parts: _Parts) -> nn.Sequential:
    """32C5-MP2-64C5-MP2-512FC, after LeNet-5 (LeCun et al. 1998)."""
    channels, height, width = parts.shape
    first, second = parts.width, 2 * parts.width
    return _in_turn(
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
    return _in_turn(*layers, nn.Flatten(), *dense, *parts.head(wide))


class ReluBlock(nn.Module):
    """y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)). He et al., arXiv:1512.03385, figure 2."""

    def __init__(self, parts: _Parts, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first, second = parts.conv(inputs, outputs, 3, stride), parts.conv(outputs, outputs, 3)
        self.body = _in_turn(*first, nn.ReLU(), *second)
        self.shortcut = _shortcut(parts, inputs, outputs, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        y: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return y


class SignBlock(nn.Module):
    """y = bn(conv(sign(x))) + shortcut(x), twice: real values pass by each sign.

    Source: Liu et al., Bi-Real Net, arXiv:1808.00278, section 3.2 (there a mean precedes the shortcut's convolution).
    """

    def __init__(self, parts: _Parts, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _in_turn(SignActivation(), *parts.conv(inputs, outputs, 3, stride))
        self.second = _in_turn(SignActivation(), *parts.conv(outputs, outputs, 3))
        self.shortcut = _shortcut(parts, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        x = self.first(x) + self.shortcut(x)
        y: Tensor = self.second(x) + x
        return y


def _shortcut(parts: _Parts, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return _in_turn(*parts.conv(inputs, outputs, 1, stride))


def _residual(
    parts: _Parts, stem: list[nn.Module], size: tuple[int, int], blocks: tuple[int, ...]
) -> nn.Sequential:
    """Stem, stages of blocks (each stage but the first halves the size and doubles the width), mean, head."""
    layers = stem
    inputs = parts.width
    for stage, count in enumerate(blocks):
        outputs = parts.width << stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            layers.append((SignBlock if parts.sign else ReluBlock)(parts, inputs, outputs, stride))
            inputs = outputs
    window = tuple(-(-extent // 2 ** (len(blocks) - 1)) for extent in size)
    return _in_turn(
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


_BUILDERS: dict[Name, Callable[[_Parts], nn.Sequential]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "vgg": _vgg,
    "resnet18": _resnet18,
    "resnet20": _resnet20,
}


def build_seeded(architecture: Architecture, seed: int) -> nn.Sequential:
    """The network with fresh weights drawn from a seed; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(architecture)
