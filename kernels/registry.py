"""The one list of kernels: planner, equality test and benchmark loop over it. What is not here is not shipped.

A faster product joins as a row of PRODUCTS; `select` then has one more to choose from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bwn.kernels import layout, lookup, maps, multiply, multiply_signs, pairs, pooling, single, xnor
from bwn.kernels.compiler import Entry, compile_entry
from bwn.kernels.finish import ProductFields

Weights = Literal["b1", "f32"]
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
    block of positions of one group of one image; 0 where a unit is an output channel. least: positions of an image
    from which it is the faster choice. deepest: largest K whose sums cannot overflow. speed: multiply-accumulates a
    microsecond on one thread, roughly, to tell whether threads pay. scratch: (outputs of a group, K) to bytes a part
    needs.
    """

    activations: Element
    weights: Weights
    lanes: int
    least: int
    deepest: int
    speed: int
    scratch: Callable[[int, int], int]

    @property
    def exact(self) -> bool:
        """Whether sums are integers: equal inputs give bit-equal sums in every row and on every machine."""
        return self.activations != "f32"


ANY = 2**31
I8_DEEPEST = 2**24
"""127 * K fits an int32."""
S1_DEEPEST = 2**15 - 1
"""K fits an int16."""

_PRODUCTS: tuple[tuple[Any, ...], ...] = (
    # function, activations, weights, lanes, least, deepest, speed, scratch
    (lookup.f32_b1_f32_planes_lookup, "f32", "b1", 16, 2, ANY, 150_000, lookup.scratch_bytes),
    (lookup.i8_b1_f32_planes_lookup, "i8", "b1", 32, 4, I8_DEEPEST, 250_000, lookup.scratch_bytes),
    (lookup.s1_b1_f32_planes_lookup, "s1", "b1", 64, 8, S1_DEEPEST, 400_000, lookup.scratch_bytes),
    (multiply.f32_f32_f32_planes_multiply, "f32", "f32", 16, 4, ANY, 40_000, multiply.scratch_bytes),
    (single.f32_b1_f32_planes_single, "f32", "b1", 0, 1, ANY, 20_000, single.scratch_bytes),
    (single.i8_b1_f32_planes_single, "i8", "b1", 0, 1, I8_DEEPEST, 40_000, single.scratch_bytes),
    (single.s1_b1_f32_planes_xnor, "s1", "b1", 0, 1, ANY, 100_000, single.scratch_bytes),
    (single.f32_f32_f32_planes_single, "f32", "f32", 0, 1, ANY, 15_000, single.scratch_bytes),
)
PRODUCTS: tuple[Product, ...] = tuple(Product(function, ProductFields, *row) for function, *row in _PRODUCTS)
"""In order of preference: of those that fit, the first one whose `least` is met is chosen."""

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
XNOR_SIGNS = Kernel(xnor.b1_b1_b1_signs_xnor, xnor.XnorFields)
XNOR_PLANES = Kernel(xnor.b1_b1_f32_planes_xnor, xnor.XnorFields)
PACK = Kernel(pairs.f32_b1_sign, pairs.PairsFields)
FLOAT_SIGNS = Kernel(multiply_signs.f32_f32_b1_signs_multiply, multiply_signs.FloatSignsFields)
MAX_B1 = Kernel(pairs.b1_b1_max_pool, pairs.PairsFields)
UNPACK_F32 = Kernel(pairs.b1_f32_unpack, pairs.PairsFields)
UNPACK_S1 = Kernel(pairs.b1_s1_unpack, pairs.PairsFields)

OTHERS: tuple[Kernel, ...] = (
    AFFINE, ADD, SIGN, FLOAT, STEPS, STEPS_LANES, QUANTIZE, SOFTMAX, COPY_F32, COPY_I8, CLEAR, MAX_F32, MAX_I8, AVERAGE,
    XNOR_SIGNS, XNOR_PLANES, PACK, FLOAT_SIGNS, MAX_B1, UNPACK_F32, UNPACK_S1,
)  # fmt: skip

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*PRODUCTS, *OTHERS)}


def select(activations: Element, weights: Weights, depth: int, positions: int) -> tuple[Product, str] | None:
    """The product for K = depth and `positions` positions an image, and why; None where no sum could hold it."""
    rows = [row for row in PRODUCTS if (row.activations, row.weights) == (activations, weights)]
    why = ""
    for row in rows:
        if depth > row.deepest:
            why = f"K = {depth} would overflow {row.name}"
        elif positions < row.least:
            why = f"too few positions for {row.lanes} lanes: {positions}"
        else:
            return row, why or f"{positions} positions for {row.lanes} lanes"
    return None
