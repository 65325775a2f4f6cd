"""A first layer that is measured instead of trained: it decorrelates the pixels of a patch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bwn.data.datasets import Dataset
from bwn.ir.model_spec import Preprocess
from bwn.train.preprocessing import as_input

_SIDE = 2
_FLOOR = 5e-4
"""Added to each variance, so that directions that are mostly noise are not blown up."""
_IMAGES = 5000
"""Images that are measured, at most."""
_BATCH = 250


class WhiteningConv2d(nn.Conv2d):
    """A convolution of 2 x 2 pixels whose outputs are uncorrelated and have variance 1.

    With the covariance V diag(e) V^T of the training images' patches, the weights are the rows of
    diag(e + 5e-4)^-1/2 V^T and their negatives, both for the ReLU that follows. They stay fixed;
    the bias is trained.
    Source: Jordan, arXiv:2404.00498, section 3.1.

    Args:
        channels: Channels of the images, C; there are 8 C outputs.

    Example:
        >>> from bwn.data.datasets import load_dataset
        >>> from bwn.train import measure
        >>> from bwn.train.whitening import WhiteningConv2d, measure_whitening
        >>> data, layer = load_dataset("mnist-sample"), WhiteningConv2d(1)
        >>> measure_whitening(layer, data, measure(data))
        >>> layer.weight.shape
        torch.Size([8, 1, 2, 2])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels * _SIDE**2, _SIDE)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.weight.requires_grad_(False)


def measure_whitening(module: nn.Module, data: Dataset, preprocess: Preprocess) -> None:
    """Give all WhiteningConv2d of a module, its first layers, their weights.

    Args:
        module: Changed in place.
        data: The training images, of which up to 5,000 evenly spaced ones are measured.
        preprocess: How they are prepared.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, WhiteningConv2d)]
    if layers:
        step = -(-len(data.images) // _IMAGES)
        images = torch.from_numpy(np.ascontiguousarray(data.images[::step]))
        covariance = sum(
            (_products(as_input(batch, preprocess)) for batch in torch.split(images, _BATCH)),
            start=torch.zeros((), dtype=torch.float64),
        )
        positions = len(images) * (images.shape[1] - _SIDE + 1) * (images.shape[2] - _SIDE + 1)
        for layer in layers:
            layer.weight.data.copy_(_rows(covariance / positions).reshape(layer.weight.shape))


def _products(x: Tensor) -> Tensor:
    """(4 C, 4 C) float64: the sum of p p^T over the patches p of images (N, C, H, W)."""
    patches = x.unfold(2, _SIDE, 1).unfold(3, _SIDE, 1).permute(0, 2, 3, 1, 4, 5)
    vectors = patches.reshape(-1, x.shape[1] * _SIDE**2).double()
    return vectors.T @ vectors


def _rows(covariance: Tensor) -> Tensor:
    """(8 C, 4 C) float64: what makes vectors of this covariance uncorrelated, and its negative."""
    variances, directions = torch.linalg.eigh(covariance)
    rows = (directions / (variances.clamp_min(0) + _FLOOR).sqrt()).T
    # An eigenvector's sign is arbitrary; this one does not depend on the library.
    rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
    return torch.cat([rows, -rows])
