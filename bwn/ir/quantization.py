"""8-bit activations: x ~ scale * q with q between qmin and qmax."""

from __future__ import annotations

from typing import Literal

import msgspec

Activations = Literal["float32", "int8", "uint8", "binary"]
"""How a weighted node reads its input: as it is; as signed or unsigned 8 bits; as signs +-1."""

QUANT_RANGES: dict[str, tuple[int, int]] = {"int8": (-127, 127), "uint8": (0, 254)}
"""qmin and qmax. Both have 255 values; uint8 values lie half as far apart."""


class Quantization(msgspec.Struct, frozen=True):
    """How integers stand for numbers: x ~ scale * (q - zero), low <= q <= high."""

    scale: float
    zero: int
    low: int
    high: int
