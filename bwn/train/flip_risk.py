"""Real weights near 0: how many there are, and a network in which their signs have changed."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor, nn

from bwn.train.layers import binary_layers


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
