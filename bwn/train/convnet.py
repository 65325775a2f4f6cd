"""The network for small color images."""

from __future__ import annotations

from torch import Tensor, nn

from bwn.train.layers import SignActivation
from bwn.train.parts import Parts, sequential
from bwn.train.residual import ReluBlock, SignBlock
from bwn.train.whitening import WhiteningConv2d


class SignConv(nn.Module):
    """y = bn(conv(sign(x))) + x: real values bypass the sign.

    Source: Liu et al., Bi-Real Net, arXiv:1808.00278, section 3.2.
    """

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__()
        self.body = sequential(SignActivation(), *parts.conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y: Tensor = self.body(x) + x
        return y


def convnet(parts: Parts) -> nn.Sequential:
    """Whitening-[w C3-MP2-w C3]-[4w C3-MP2-4w C3]-[4w C3-MP2-residual block]-maximum-head.

    The first layer is a fixed whitening convolution, or with one-bit ends a 3 x 3 one.
    Source: Jordan, arXiv:2404.00498, section 3 (there with float weights and GELU).
    """
    channels, height, width = parts.shape
    if parts.float_ends:
        layers: list[nn.Module] = [WhiteningConv2d(channels)]
        channels, height, width = 8 * channels, height - 1, width - 1
    else:
        layers = parts.conv(channels, parts.width, 3, first=True)
        channels = parts.width
    layers += _activation(parts)
    for outputs in (parts.width, 4 * parts.width):
        layers += _halving(parts, channels, outputs)
        if parts.sign:
            layers.append(SignConv(parts, outputs))
        else:
            layers += [*parts.conv(outputs, outputs, 3), nn.ReLU()]
        channels = outputs
    layers += _halving(parts, channels, channels)
    layers.append((SignBlock if parts.sign else ReluBlock)(parts, channels, channels, 1))
    pool = nn.MaxPool2d((height // 8, width // 8))
    return sequential(*layers, pool, nn.Flatten(), *parts.head(channels))


def _halving(parts: Parts, inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution, halved before its norm, which then has a quarter of the work."""
    *layers, norm = parts.conv(inputs, outputs, 3)
    signs = [SignActivation()] if parts.sign else []
    return [*signs, *layers, nn.MaxPool2d(2), norm, *_activation(parts)]


def _activation(parts: Parts) -> list[nn.Module]:
    """What follows a norm; a sign comes before its convolution instead."""
    return [] if parts.sign else [nn.ReLU()]
