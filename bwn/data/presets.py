"""Preprocessing that many networks were trained with, by name."""

from __future__ import annotations

from typing import Any

from bwn.errors import ArgumentError
from bwn.ir.node import Pair

PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "scale": 255},
    "half": {"mean": (0.5,), "std": (0.5,), "scale": 255},
    "caffe": {"mean": (123.68, 116.779, 103.939), "std": (1.0,), "scale": 1},
    "raw": {"mean": (0.0,), "std": (1.0,), "scale": 1},
}
"""Numbers of each preset, in the order red, green, blue, or one for every channel.

`imagenet` is that of torchvision and timm; `half` is Keras's `tf` and timm's `inception`; `caffe`
is Keras's of that name, for networks that read BGR; `raw` leaves pixels from 0 to 255.
"""
COLORS = {"imagenet": "RGB", "caffe": "BGR"}
"""Presets for color images only, and the order of their channels."""
ALIASES = {"0.5": "half", "inception": "half", "tf": "half", "torchvision": "imagenet"}
SIZE = (224, 224)
"""(H, W) of images under a preset, where neither the network nor the caller says it."""
KEPT = 0.875
"""Share of the shorter side that `imagenet` keeps: 224 of 256."""


def preset_fields(name: object, color: str | None, channels: int, size: Pair) -> dict[str, Any]:
    """Fields of preprocessing that a preset says.

    Args:
        name: Of PRESETS or ALIASES.
        color: What the caller says of the order of the channels.
        channels: Of the network's input.
        size: (H, W) of the images.

    Raises:
        ArgumentError: There is no such preset, or it is for color images and the input is gray.
    """
    preset = ALIASES.get(str(name), str(name))
    if preset not in PRESETS:
        raise ArgumentError(f"no preset '{name}'; presets: {', '.join((*PRESETS, *ALIASES))}")
    if preset in COLORS and channels != 3:
        raise ArgumentError(f"preset '{name}' is for 3 channels, the input has {channels}")
    color = color or COLORS.get(preset)
    fields = dict(PRESETS[preset])
    for key in ("mean", "std"):
        numbers = fields[key] if len(fields[key]) == channels else fields[key] * channels
        fields[key] = numbers[::-1] if color == "BGR" else numbers
    if color is not None:
        fields["color"] = color
    if preset == "imagenet":
        fields["resize"] = int(max(size) / KEPT)
    return fields
