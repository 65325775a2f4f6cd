"""What a run keeps of each epoch: its numbers, and a histogram of each binary layer's weights.

The trainer's state holds it as JSON, a few KiB an epoch, so that it is never ahead of the weights.
Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

if TYPE_CHECKING:
    from torch import Tensor

    from bwn.train.layers import BinaryLayer

BINS = 40
"""Bins of a histogram of weights, of equal width over -1 to +1."""

Counts = Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=BINS, max_length=BINS)]


class LayerWeights(Struct, frozen=True):
    """The real weights of one binary layer.

    Attributes:
        name: Of the layer in its module.
        distance: Mean distance to the nearer of -1 and +1.
        histogram: (BINS,) how many weights lie in each equal part of [-1, 1].
    """

    name: str
    distance: float
    histogram: Counts


class Epoch(Struct, frozen=True, kw_only=True):
    """One epoch of a run.

    Attributes:
        epoch: From 1; 0 is before the first step, where only the weights are known.
        loss: Mean over the epoch's steps, without the penalty.
        accuracy: Fraction of the training images that were classified correctly, in 0 to 1.
        validation: The same of the held-out images, at the epoch's end; None without such images.
        flips: Share of the binary layers' weights whose sign changed in the epoch's last step.
        layers: The weights at the epoch's end.
    """

    epoch: Annotated[int, Meta(ge=0)]
    loss: float | None = None
    accuracy: float | None = None
    validation: float | None = None
    flips: float | None = None
    layers: tuple[LayerWeights, ...] = ()


def layer_weights(layers: Mapping[str, BinaryLayer]) -> tuple[LayerWeights, ...]:
    """Distances and histograms of binary layers as they are now; `layers` by name."""
    rows = []
    for name, layer in layers.items():
        weight = layer.weight.detach()
        distance = float((1 - weight.abs()).abs().mean())
        rows.append(LayerWeights(name, distance, histogram(weight)))
    return tuple(rows)


def histogram(weight: Tensor) -> tuple[int, ...]:
    """(BINS,) how many of a layer's weights lie in each equal part of [-1, 1]."""
    # In parts, as torch counts in float32, which holds every whole number up to 2^24.
    clipped = weight.detach().clamp(-1, 1).flatten()
    parts = clipped.split(2**24)  # type: ignore[no-untyped-call]  # untyped in torch
    counts = sum((part.histc(BINS, -1, 1).long() for part in parts), start=0)
    return tuple(counts.tolist())


def encode_history(history: Sequence[Epoch]) -> str:
    """The epochs as JSON."""
    return msgspec.json.encode(history).decode()


def decode_history(text: Any) -> list[Epoch]:
    """The epochs of `encode_history`. Raises ValueError for anything else."""
    try:
        return msgspec.json.decode(text, type=list[Epoch])
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise ValueError(f"its history is invalid: {error}") from error
