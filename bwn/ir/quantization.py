"""8-bit activations: x ~ scale * q with q between qmin and qmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Activations = Literal["float32", "int8", "uint8", "binary"]
"""How a weighted node reads its input: as it is; as signed or unsigned 8 bits; as signs +-1."""

QUANT_RANGES: dict[str, tuple[int, int]] = {"int8": (-127, 127), "uint8": (0, 254)}
"""qmin and qmax. Both have 255 values; uint8 values lie half as far apart."""


class Quantization(msgspec.Struct, frozen=True):
    """How a network's source says that a weighted node quantizes its input.

    Attributes:
        activations: Type of q.
        scale: x ~ scale * q.
        whole: Whether the source has a 256th value (-128 or 255), which is read as its neighbor.
    """

    activations: Literal["int8", "uint8"]
    scale: float
    whole: bool = False


Quantizations = Mapping[tuple[str, str], Quantization]
"""By the names of the tensor that a node reads and of its weights, which no pass changes."""
