"""What it costs if the real weights near 0 change sign: how much of a network hangs on them."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bwn._types import Labels
from bwn.data.datasets import Dataset
from bwn.ir.model_spec import Preprocess
from bwn.train.layers import binary_layers
from bwn.train.preprocessing import predictions


def near_zero(weight: Tensor, delta: float) -> Tensor:
    """Which weights lie within delta of 0, bool of the weight's shape."""
    return weight.detach().abs() <= delta


def shares_near_zero(module: nn.Module, delta: float) -> dict[str, float]:
    """Share of the real weights within delta of 0, of each binary layer."""
    return {
        name: float(near_zero(layer.weight, delta).float().mean())
        for name, layer in binary_layers(module).items()
    }


def flipped(module: nn.Module, delta: float, layers: Collection[str] | None = None) -> nn.Module:
    """A copy in which the weights within delta of 0 have the other sign.

    Args:
        module: A network with binary layers.
        delta: Largest distance to 0.
        layers: Names of the layers to change; None: all binary ones.
    """
    other = copy.deepcopy(module)
    with torch.no_grad():
        for name, layer in binary_layers(other).items():
            if layers is None or name in layers:
                weight = layer.weight
                # A sign of 0 is +1, so that the other one needs a number below 0.
                tiny = torch.finfo(weight.dtype).tiny
                negated = torch.where(weight >= 0, -weight.clamp(min=tiny), -weight)
                weight.copy_(torch.where(near_zero(weight, delta), negated, weight))
    return other


@dataclass(frozen=True)
class FlippedAccuracy:
    """Accuracy on some images with the weights near 0 flipped, in 0 to 1.

    Attributes:
        all_layers: In all binary layers at once.
        by_layer: In one layer alone, by its name.
    """

    all_layers: float
    by_layer: dict[str, float]


def flipped_accuracy(
    module: nn.Module, data: Dataset, labels: Labels, preprocess: Preprocess, delta: float
) -> FlippedAccuracy:
    """Measure the accuracy with the weights within delta of 0 flipped.

    Args:
        module: A network with binary layers.
        data: The images.
        labels: (N,) int64, their classes as the network numbers them.
        preprocess: How they are prepared.
        delta: Largest distance to 0.
    """

    def measured(layers: Collection[str] | None = None) -> float:
        classes = predictions(flipped(module, delta, layers), data, preprocess)
        return float((classes == labels).mean())

    names = list(binary_layers(module))
    by_layer = {name: measured([name]) for name in names}
    return FlippedAccuracy(measured(), by_layer)
