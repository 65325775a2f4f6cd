"""Parameter blocks of kernels: int64 fields in the order given.

`gemm/gemm_params.py` and `tensor/tensor_params.py` have the blocks, this file what they share. A
kernel gets the address of such a block; addresses in it point into the caller's buffers. Nothing
here knows how kernels are compiled.

A plane is one channel of one image: its positions row by row, padding before and after. Strides go
from one image, channel, row, position to the next. Sizes and strides count elements unless they say
bytes.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from bwn.kernels.lazy import lazy


class Activation(IntEnum):
    """Codes of the field `activation`; `simd/activations.py` has the formulas, by these names."""

    NONE = 0
    HARD_SWISH = 1
    SILU = 2
    SIGMOID = 3


class Params:
    """The fields of a parameter block. Called with a value for each, it gives them in order.

    Attributes:
        name: Name of the block.
        about: What kernels have it.
        descriptions: What each field is, in order.
    """

    def __init__(self, name: str, about: str, *parts: Mapping[str, str]) -> None:
        self.name, self.about = name, about
        self.descriptions = {field: text for part in parts for field, text in part.items()}
        self.fields = tuple(self.descriptions)

    def __call__(self, **values: int) -> tuple[int, ...]:
        """The values in order: one for each field, no other."""
        if values.keys() != self.descriptions.keys():
            wrong = sorted(values.keys() ^ self.descriptions.keys())
            raise TypeError(f"{self.name}: missing or unknown: {', '.join(wrong)}")
        return tuple([values[field] for field in self.fields])

    @lazy
    def struct(self) -> Any:
        """The fields as a NamedTuple, which compiled code has."""
        make: Any = namedtuple  # whose names mypy would have as literals
        return make(self.name, self.fields, module=__name__)


SCRATCH = {
    "scratch": "Address of memory to work in.",
    "scratch_part": "Bytes of it that each part has.",
}
PLANE_INPUT = {
    "x": "Address of the first element of the first plane, padding included.",
    "x_image": "Stride.",
    "x_plane": "Stride.",
    "x_lead": "Elements of a plane before position 0.",
}
PLANE_OUTPUT = {
    "out": "Address of the first element of the first plane, padding included.",
    "out_image": "Stride.",
    "out_plane": "Stride.",
    "out_lead": "Elements of a plane before position 0.",
}
BIT_OUTPUT = {
    "out": "Address of the corner of the zeros around image 0 of the bitpacked output.",
    "out_image": "Stride, bytes.",
    "out_row": "Stride, bytes.",
    "out_position": "Stride, bytes.",
    "top": "Rows of zeros above the image.",
    "left": "Columns of zeros before the image.",
    "rows": "Rows of the output with the zeros around.",
    "columns": "Columns of the output with the zeros around.",
    "height": "Rows of the image.",
    "width": "Columns of the image.",
}
