"""The built-in networks by name: what they take, and what they use where the user chooses nothing.

`bwn/train/architectures.py` builds them. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

NetworkName = Literal["mlp", "lenet", "convnet", "vgg", "resnet18", "resnet20"]
NETWORK_NAMES: tuple[NetworkName, ...] = get_args(NetworkName)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A built-in network.

    Attributes:
        width: Channels or units of the first hidden layer, which the others follow.
        photo_size: Side that photos are brought to where no size is chosen, in pixels.
        smallest: Side of the smallest images that it reads, in pixels.
        float_ends: Whether the first and the last layer keep float weights.
        settings: Fields of `Settings` whose defaults it changes.
    """

    width: int
    photo_size: int
    smallest: int
    float_ends: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


_RESIDUAL = {"epochs": 60, "loss": "cross-entropy", "augment": "flip"}

NETWORKS: dict[NetworkName, Network] = {
    "mlp": Network(
        width=1024, photo_size=32, smallest=1, settings={"epochs": 30, "batch_size": 50}
    ),
    "lenet": Network(
        width=32, photo_size=64, smallest=4, settings={"epochs": 30, "batch_size": 50}
    ),
    "convnet": Network(
        width=64,
        photo_size=64,
        smallest=9,
        float_ends=True,
        settings={
            "epochs": 30,
            "batch_size": 250,
            "learning_rate": 2.5e-3,
            "loss": "cross-entropy",
            "label_smoothing": 0.2,
            "augment": "alternating",
            "ramp": 12.0,
        },
    ),
    "vgg": Network(
        width=128, photo_size=64, smallest=8, settings={"epochs": 60, "learning_rate": 3e-3}
    ),
    "resnet18": Network(width=64, photo_size=128, smallest=1, float_ends=True, settings=_RESIDUAL),
    "resnet20": Network(width=16, photo_size=32, smallest=1, float_ends=True, settings=_RESIDUAL),
}


def default_network(shape: tuple[int, int, int]) -> NetworkName:
    """The network for images of a shape (C, H, W) where the user chooses none."""
    channels, *size = shape
    mlp, convnet = NETWORKS["mlp"], NETWORKS["convnet"]
    if max(size) > convnet.photo_size:
        return "resnet18"
    small = min(size) < convnet.smallest or (channels == 1 and max(size) <= mlp.photo_size)
    return "mlp" if small else "convnet"
