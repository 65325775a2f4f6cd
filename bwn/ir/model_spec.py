"""All that a .bwn file says: the graph, how images are prepared, and the names of the classes."""

from __future__ import annotations

from typing import Literal

import msgspec

from bwn.ir.graph import Graph
from bwn.ir.node import Pair


class Preprocess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an image becomes the network's input: x = (pixel / 255 - mean) / std, channels first.

    Attributes:
        size: Height and width in pixels.
        resize: `stretch` to the size, or `crop`: scale the shorter side to the size, then crop the
            center.
        color: `L` (one channel) or `RGB`.
        mean: One number a channel.
        std: One number a channel, above 0.
    """

    size: Pair
    resize: Literal["stretch", "crop"] = "stretch"
    color: Literal["L", "RGB"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        color = "grayscale" if self.color == "L" else "RGB"
        how = "stretched" if self.resize == "stretch" else "cropped"
        mean, std = (", ".join(f"{n:g}" for n in numbers) for numbers in (self.mean, self.std))
        return (
            f"{color}, {how} to {self.size[0]} x {self.size[1]}, then "
            f"(pixel / 255 - [{mean}]) / [{std}]"
        )


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A network and what is needed to use it.

    Attributes:
        graph: What it computes.
        preprocess: How images are prepared; None where the producer did not say.
        classes: Names of the classes; None where the producer did not say.
        producer: Program and version that made it, e.g. `bwn 0.1.0`.
    """

    graph: Graph
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    producer: str = ""
