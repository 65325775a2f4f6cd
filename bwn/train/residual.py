"""The residual networks."""

from __future__ import annotations

from torch import Tensor, nn

from bwn.train.layers import SignActivation
from bwn.train.parts import Parts, sequential


class ReluBlock(nn.Module):
    """y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)).

    Source: He et al., arXiv:1512.03385, figure 2.
    """

    def __init__(self, parts: Parts, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first, second = parts.conv(inputs, outputs, 3, stride), parts.conv(outputs, outputs, 3)
        self.body = sequential(*first, nn.ReLU(), *second)
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

    def __init__(self, parts: Parts, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = sequential(SignActivation(), *parts.conv(inputs, outputs, 3, stride))
        self.second = sequential(SignActivation(), *parts.conv(outputs, outputs, 3))
        self.shortcut = _shortcut(parts, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, H', W')."""
        x = self.first(x) + self.shortcut(x)
        y: Tensor = self.second(x) + x
        return y


def _shortcut(parts: Parts, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return sequential(*parts.conv(inputs, outputs, 1, stride))


def _residual(
    parts: Parts, stem: list[nn.Module], size: tuple[int, int], blocks: tuple[int, ...]
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
    return sequential(
        *layers, nn.AvgPool2d((window[0], window[1])), nn.Flatten(), *parts.head(inputs)
    )


def resnet18(parts: Parts) -> nn.Sequential:
    """He et al., arXiv:1512.03385, table 1: for photographs of about 224 x 224."""
    channels, height, width = parts.shape
    stem = [*parts.conv(channels, parts.width, 7, 2, first=True), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return _residual(parts, stem, (-(-height // 4), -(-width // 4)), (2, 2, 2, 2))


def resnet20(parts: Parts) -> nn.Sequential:
    """He et al., arXiv:1512.03385, section 4.2 with n = 3: for small images, of about 32 x 32."""
    stem = [*parts.conv(parts.shape[0], parts.width, 3, first=True), nn.ReLU()]
    return _residual(parts, stem, parts.shape[1:], (3, 3, 3))
