"""All that a .bwn file says: the graph, how images are prepared, and the names of the classes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bwn.ir.graph import Graph
from bwn.ir.node import Pair

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
BLACK = (0, 0, 0)


class Preprocess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an image becomes the network's input: x = (pixel / scale - mean) / std, channels first.

    Attributes:
        size: Height and width in pixels.
        resize: `stretch` to the size; `crop`: scale the shorter side to the size, then crop the
            center; or a number: scale the shorter side to that many pixels, then crop the center,
            as torchvision's Resize and CenterCrop do.
        color: `L` (one channel), or the order of three: `RGB` or `BGR`.
        mean: One number a channel, in the order of `color`.
        std: One number a channel, above 0, likewise.
        interpolation: Pillow's name of the filter that resizes; all but `nearest` average where
            they shrink.
        background: Color under transparent pixels: red, green and blue, 0 to 255.
        scale: 255 for pixels from 0 to 1, 1 for pixels from 0 to 255.
    """

    size: Pair
    resize: Literal["stretch", "crop"] | int = "stretch"
    color: Literal["L", "RGB", "BGR"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    background: tuple[int, int, int] = BLACK
    scale: Literal[255, 1] = 255

    @property
    def stored(self) -> dict[str, Any]:
        """The fields as the .bwn file holds them: those of its version 4 only where they differ."""
        return {
            field.name: getattr(self, field.name)
            for field in msgspec.structs.fields(self)
            if field.name in FIRST_FIELDS or getattr(self, field.name) != field.default
        }

    @property
    def since(self) -> int:
        """First version of the .bwn file that can hold it."""
        new = isinstance(self.resize, int) or self.color == "BGR"
        return 4 if new or len(self.stored) > len(FIRST_FIELDS) else 1

    @property
    def takes_pixels(self) -> bool:
        """Whether the input is pixels from 0 to 255 as they are."""
        return self.scale == 1 and not any(self.mean) and {*self.std} == {1.0}

    @property
    def needed(self) -> Pair | None:
        """(H, W) that images are resized to, at least; None where every pixel may count."""
        if self.interpolation == "nearest":
            return None
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.size

    def __str__(self) -> str:
        color = "grayscale" if self.color == "L" else self.color
        how = {"stretch": "stretched", "crop": "cropped"}.get(
            str(self.resize), f"shorter side resized to {self.resize}, center cropped"
        )
        more = "" if self.interpolation == "bilinear" else f" ({self.interpolation})"
        if self.background != BLACK:
            more += ", transparency over #{:02x}{:02x}{:02x}".format(*self.background)
        mean, std = (", ".join(f"{n:g}" for n in numbers) for numbers in (self.mean, self.std))
        pixel = "pixel / 255" if self.scale == 255 else "pixel"
        then = "pixels 0 to 255" if self.takes_pixels else f"then ({pixel} - [{mean}]) / [{std}]"
        return f"{color}, {how} to {self.size[0]} x {self.size[1]}{more}, {then}"


FIRST_FIELDS = ("size", "resize", "color", "mean", "std")
"""The fields of version 1 of the .bwn file."""


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A network and what is needed to use it.

    Attributes:
        graph: What it computes.
        preprocess: How images are prepared; None where the producer did not say.
        classes: Names of the classes; None where the producer did not say.
        producer: Program and version that made it, e.g. `bwn 0.2.0`.
    """

    graph: Graph
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    producer: str = ""
