"""The network for small color images."""

from __future__ import annotations

from torch import Tensor, nn

from bwn.train.layers import SignActivation
from bwn.train.parts import Parts, sequential
from bwn.train.whitening import WhiteningConv2d


class SignStage(nn.Module):
    """y = bn(pool(conv(sign(x)))), then y + bn(conv(sign(y))): real values bypass the second sign.

    Source of the bypass: Liu et al., Bi-Real Net, arXiv:1808.00278, section 3.2.
    """

    def __init__(self, parts: Parts, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = sequential(SignActivation(), *_pooled(parts, inputs, outputs))
        self.second = sequential(SignActivation(), *parts.conv(outputs, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, H // 2, W // 2)."""
        x = self.first(x)
        y: Tensor = x + self.second(x)
        return y


def convnet(parts: Parts) -> nn.Sequential:
    """Three stages of two 3 x 3 convolutions; the first of each halves the size. Maximum, head.

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
    if not parts.sign:
        layers.append(nn.ReLU())
    for outputs in (parts.width, 4 * parts.width, 4 * parts.width):
        if parts.sign:
            layers.append(SignStage(parts, channels, outputs))
        else:
            layers += [*_pooled(parts, channels, outputs), nn.ReLU()]
            layers += [*parts.conv(outputs, outputs, 3), nn.ReLU()]
        channels = outputs
    pool = nn.MaxPool2d((height // 8, width // 8))
    return sequential(*layers, pool, nn.Flatten(), *parts.head(channels))


def _pooled(parts: Parts, inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution, maximum pooling and batch norm: a quarter of the work for the norm."""
    *layers, norm = parts.conv(inputs, outputs, 3)
    return [*layers, nn.MaxPool2d(2), norm]
