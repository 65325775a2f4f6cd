"""Small sets and networks that the training tests share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bwn.data.datasets import Dataset
from bwn.train import BinaryConv2d, BinaryLinear, SignActivation


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shapes_set():
    """Noisy 8 x 8 images of three classes: a bright left half, top half, or corner."""

    def make(count: int = 120, seed: int = 0) -> Dataset:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 120, (count, 8, 8), np.uint8)
        labels = np.arange(count, dtype=np.int64) % 3
        images[labels == 0, :, :4] += 130
        images[labels == 1, :4, :] += 130
        images[labels == 2, 4:, 4:] += 130
        return Dataset(images, labels, ("left", "top", "corner"))

    return make


class OwnModule(nn.Module):
    """What a user might write: convolution, sign activation, a skip, one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), SignActivation()
        )
        self.mix = BinaryConv2d(6, 6, 3, padding=1, scheme="scaled")
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Sequential(
            nn.MaxPool2d(2), nn.Flatten(), BinaryLinear(96, 3, bias=True), nn.BatchNorm1d(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.mix(self.norm(self.mix(x)) + x))


@pytest.fixture
def own_module():
    return OwnModule
