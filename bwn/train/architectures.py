"""The built-in networks, built from their Architecture."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import nn

from bwn.errors import ArgumentError
from bwn.train.convnet import convnet
from bwn.train.networks import NETWORKS, NetworkName
from bwn.train.parts import Parts, sequential
from bwn.train.residual import resnet18, resnet20
from bwn.train.settings import Architecture


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
    name, smallest = architecture.name, NETWORKS[architecture.name].smallest
    height, width = architecture.input_shape[1:]
    if min(height, width) < smallest:
        raise ArgumentError(
            f"{name} needs images of at least {smallest} x {smallest} pixels, "
            f"these are {height} x {width}"
        )
    return _BUILDERS[name](Parts(architecture))


def build_seeded(architecture: Architecture, seed: int) -> nn.Sequential:
    """`build` with weights drawn from a seed; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(architecture)


def _mlp(parts: Parts) -> nn.Sequential:
    """Three hidden layers: BinaryConnect's MNIST network (there with 1024 units each)."""
    inputs, width = prod(parts.shape), parts.width
    hidden = (
        parts.dense(inputs, width, first=True)
        + parts.dense(width, width)
        + parts.dense(width, width)
    )
    return sequential(nn.Flatten(), *hidden, *parts.head(width))


def _lenet(parts: Parts) -> nn.Sequential:
    """32C5-MP2-64C5-MP2-512FC, after LeNet-5 (LeCun et al. 1998)."""
    channels, height, width = parts.shape
    first, second = parts.width, 2 * parts.width
    return sequential(
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


def _vgg(parts: Parts) -> nn.Sequential:
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
    return sequential(*layers, nn.Flatten(), *dense, *parts.head(wide))


_BUILDERS: dict[NetworkName, Callable[[Parts], nn.Sequential]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "convnet": convnet,
    "vgg": _vgg,
    "resnet18": resnet18,
    "resnet20": resnet20,
}
