"""The one list of kernels: planner, equality test and benchmark loop over it. What is not here is not shipped.

A faster product joins as a row of PRODUCTS; `select` then has one more to choose from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bwn.kernels import layout, lookup, maps, multiply, pooling, single
from bwn.kernels.compiler import Entry, compile_entry
from bwn.kernels.finish import ProductFields

Element = Literal["f32", "i8", "s1"]
"""f32: float32. i8: 8-bit integers within +-127. s1: int8 that is +-1, or 0 in padding."""


@dataclass(frozen=True)
class Kernel:
    """An entry and its fields, a NamedTuple."""

    function: Callable[..., None]
    fields: Any

    @property
    def name(self) -> str:
        """Name of the kernel; `bwn.kernels` deciphers it."""
        return self.function.__name__

    def entry(self) -> Entry:
        """The compiled kernel."""
        return compile_entry(self.function)

    def block(self, **values: int) -> npt.NDArray[np.int64]:
        """The parameter block of a call. values: one for each field, no other."""
        return np.array(self.fields(**values), np.int64)


@dataclass(frozen=True)
class Product(Kernel):
    """A kernel of sums of products over planes; all have ProductFields.

    activations, weights: what it reads (`b1`: one bit each). lanes: positions of a block, where a unit of work is a
    block of positions of one group of one image; 0 where a unit is an output channel. most_depth: largest K whose
    sums cannot overflow. scratch: (outputs of a group, K) to bytes of scratch a part needs. exact: integer sums.
    """

    activations: Element
    weights: Literal["b1", "f32"]
    lanes: int
    most_depth: int
    scratch: Callable[[int, int], int]
    exact: bool


ANY_DEPTH = 2**31


def _lookup(function: Callable[..., None], activations: Element, lanes: int, most_depth: int) -> Product:
    return Product(
        function, ProductFields, activations, "b1", lanes, most_depth, lookup.scratch_bytes, activations != "f32"
    )


def _single(function: Callable[..., None], activations: Element, weights: Literal["b1", "f32"]) -> Product:
    # The total of 8-bit activations must fit an int32: 127 * 2**24 does.
    depth = 2**24 if activations == "i8" else ANY_DEPTH
    exact = activations != "f32"
    return Product(function, ProductFields, activations, weights, 0, depth, single.scratch_bytes, exact)


PRODUCTS: tuple[Product, ...] = (
    _lookup(lookup.f32_b1_f32_planes_lookup, "f32", 16, ANY_DEPTH),
    _lookup(lookup.i8_b1_f32_planes_lookup, "i8", 32, 2**24),
    _lookup(lookup.s1_b1_f32_planes_lookup, "s1", 64, 2**15 - 1),
    _single(single.f32_b1_f32_planes_single, "f32", "b1"),
    _single(single.i8_b1_f32_planes_single, "i8", "b1"),
    _single(single.s1_b1_f32_planes_xnor, "s1", "b1"),
    Product(
        multiply.f32_f32_f32_planes_multiply,
        ProductFields,
        "f32",
        "f32",
        16,
        ANY_DEPTH,
        multiply.scratch_bytes,
        False,
    ),
    _single(single.f32_f32_f32_planes_single, "f32", "f32"),
)

AFFINE = Kernel(maps.f32_f32_affine, maps.MapFields)
ADD = Kernel(maps.f32_f32_add, maps.MapFields)
SIGN = Kernel(maps.f32_s1_sign, maps.MapFields)
FLOAT = Kernel(maps.i8_f32_float, maps.MapFields)
STEPS = Kernel(maps.f32_f32_steps, maps.MapFields)
STEPS_LANES = Kernel(maps.f32_f32_steps_lanes, maps.MapFields)
QUANTIZE = Kernel(maps.f32_i8_quantize, maps.MapFields)
SOFTMAX = Kernel(maps.f32_f32_softmax, maps.MapFields)
COPY_F32 = Kernel(layout.f32_f32_copy, layout.CopyFields)
COPY_I8 = Kernel(layout.i8_i8_copy, layout.CopyFields)
CLEAR = Kernel(layout.clear, layout.ClearFields)
MAX_F32 = Kernel(pooling.f32_f32_max_pool, pooling.PoolFields)
MAX_I8 = Kernel(pooling.i8_i8_max_pool, pooling.PoolFields)
AVERAGE = Kernel(pooling.f32_f32_average_pool, pooling.PoolFields)

OTHERS: tuple[Kernel, ...] = (
    AFFINE, ADD, SIGN, FLOAT, STEPS, STEPS_LANES, QUANTIZE, SOFTMAX, COPY_F32, COPY_I8, CLEAR, MAX_F32, MAX_I8, AVERAGE,
)  # fmt: skip

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*PRODUCTS, *OTHERS)}


def fitting(activations: Element, weights: str, depth: int) -> list[Product]:
    """The products that compute this exactly, in the order of the list."""
    return [
        row for row in PRODUCTS if row.activations == activations and row.weights == weights and depth <= row.most_depth
    ]


FEW = {"f32": 4, "i8": 4, "s1": 4}
"""Positions of one image below which lanes along k beat lanes along positions."""


def select(activations: Element, weights: str, depth: int, positions: int) -> tuple[Product, str]:
    """The product for `positions` positions an image, and why it was chosen."""
    rows = fitting(activations, weights, depth)
    blocks = [row for row in rows if row.lanes]
    if not blocks:
        return rows[0], f"K = {depth} would overflow the lanes of the others"
    if positions < FEW[activations]:
        return next(row for row in rows if not row.lanes), f"too few positions for the lanes: {positions}"
    return blocks[0], f"{positions} positions for {blocks[0].lanes} lanes"
