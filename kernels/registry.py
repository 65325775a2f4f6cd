"""The one list of kernels: planner, equality test and benchmark loop over it. What is not here is not shipped.

A faster product joins as a row of INDIRECT_GEMMS; `select` then has one more to choose from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.kernels import params
from bwn.kernels.costs import Cost, Table, Work
from bwn.kernels.gemm import lut_permute_packing, tiles, weight_packing
from bwn.kernels.target.cpu import features
from bwn.kernels.target.loader import Entry, entry

Weights = Literal["b1", "f32"]
Element = Literal["f32", "i8", "s1"]
"""f32: float32. i8: integers within +-127, as `maps.py` stores 8-bit activations. s1: int8 that is +-1 or 0."""


@dataclass(frozen=True)
class Kernel:
    """An entry and its fields, a NamedTuple. code: its `module.function`; the module is imported only to compile it."""

    code: str
    fields: Any

    @property
    def name(self) -> str:
        """Name of the kernel; `bwn.kernels` deciphers it."""
        return self.code.rpartition(".")[2]

    def entry(self) -> Entry:
        """The compiled kernel."""
        return entry(self.code)

    def block(self, **values: int) -> npt.NDArray[np.int64]:
        """The parameter block of a call. values: one for each field, no other."""
        return np.array(self.fields(**values), np.int64)


def as_stored(weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The weights as the model holds them."""
    return weights


@dataclass(frozen=True, kw_only=True)
class GemmSpec(Kernel, ABC):
    """A kernel of sums of products.

    activations, weights: what it reads (`b1`: one bit each). deepest: largest K whose sums cannot overflow. lanes:
    positions of a block, 0 where it goes position by position. What it costs stands in `costs.py`.
    """

    activations: Element
    weights: Weights
    max_depth: int
    lanes: int

    @property
    def exact(self) -> bool:
        """Whether sums are integers: equal inputs give bit-equal sums in every row and on every machine."""
        return self.activations != "f32"

    @property
    def variant(self) -> str:
        """The last part of its name: what tells it from the others of its types."""
        return self.name.rpartition("_")[2]

    @abstractmethod
    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """How often each coefficient of its `Cost` counts on one thread."""

    def microseconds(self, work: Work, cost: Cost) -> float:
        """Predicted time on one thread."""
        return sum(map(mul, cost, self.terms(work))) / 1000


@dataclass(frozen=True, kw_only=True)
class IndirectGemm(GemmSpec):
    """GemmSpec over planes at offsets; all have GemmParams.

    A unit of work is a block of positions of one group of one image; an output channel where there are no lanes.
    scratch: (outputs of a group, K) to bytes a part needs. prepare: (N, row_words) weights, laid out as it reads them.
    """

    scratch: Callable[[int, int], int]
    prepare: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """A pass is a block of positions, or one position where there are no lanes."""
        passes = -(-work.positions // self.lanes) if self.lanes else work.values
        passes *= work.images * work.groups
        depth = (
            (work.depth + 63) // 64 * 64 if self.weights == "b1" else work.depth
        )  # bits go by whole words
        return 1.0, passes * depth, passes * depth * work.outputs, passes * work.outputs


@dataclass(frozen=True, kw_only=True)
class LutPermuteGemm(GemmSpec):
    """GemmSpec by tables in registers, with LutPermuteParams.

    layout: how weights are laid out.
    """

    layout: lut_permute_packing.Layout

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """A pass is a position; a table serves all taps, and outputs go by whole vectors."""
        passes = (
            -(-work.positions // lut_permute_packing.TILE)
            * lut_permute_packing.TILE
            * work.images
            * work.groups
        )
        channels = work.depth // work.taps
        tables = -(-channels // self.layout.group) * self.layout.group
        outputs = self.layout.vectors(work.outputs) * self.layout.lanes
        return 1.0, passes * tables, passes * tables * work.taps * outputs, passes * work.outputs


ANY = 2**31
I8_DEEPEST = 2**24
"""127 * K fits an int32."""
S1_DEEPEST = 2**15 - 1
"""K fits an int16."""
DOTS_DEEPEST = 2**17
"""127 * 2**7 * K fits an int32."""

_PRODUCTS: tuple[tuple[Any, ...], ...] = (
    # code, activations, weights, lanes, deepest, scratch, prepare; then a feature without which there is no row
    ("gemm.lut.f32_b1_f32_planes_lookup", "f32", "b1", 16, ANY, tiles.lookup_scratch, as_stored),
    ("gemm.lut.i8_b1_f32_planes_lookup", "i8", "b1", 32, I8_DEEPEST, tiles.lookup_scratch, as_stored),
    ("gemm.lut.s1_b1_f32_planes_lookup", "s1", "b1", 64, S1_DEEPEST, tiles.lookup_scratch, as_stored),
    ("gemm.f32.f32_f32_f32_planes_multiply", "f32", "f32", 16, ANY, tiles.multiply_scratch, as_stored),
    ("gemm.gemv.f32_b1_f32_planes_inlane", "f32", "b1", 0, ANY, weight_packing.float_scratch, weight_packing.float_lay, "avx2"),
    ("gemm.gemv.i8_b1_f32_planes_inlane", "i8", "b1", 0, I8_DEEPEST, weight_packing.short_scratch, weight_packing.short_lay, "avx512bw"),
    ("gemm.gemv_split.f32_b1_f32_planes_split", "f32", "b1", 0, ANY, weight_packing.split_scratch, weight_packing.split_lay, "neon"),
    (
        "gemm.gemv_bytes.i8_b1_f32_planes_bytes",
        "i8", "b1", 0, I8_DEEPEST, weight_packing.bytes_scratch, weight_packing.bytes_lay, "avx2", "neon",
    ),
    ("gemm.gemv_sdot.i8_b1_f32_planes_dots", "i8", "b1", 0, DOTS_DEEPEST, weight_packing.dots_scratch, weight_packing.dots_lay, "dotprod"),
    ("gemm.gemv_xnor.s1_b1_f32_planes_inlane", "s1", "b1", 0, ANY, weight_packing.signs_scratch, weight_packing.signs_lay),
    ("gemm.dot.f32_b1_f32_planes_single", "f32", "b1", 0, ANY, tiles.single_scratch, as_stored),
    ("gemm.dot.i8_b1_f32_planes_single", "i8", "b1", 0, I8_DEEPEST, tiles.single_scratch, as_stored),
    ("gemm.dot.f32_f32_f32_planes_single", "f32", "f32", 0, ANY, tiles.single_scratch, as_stored),
)  # fmt: skip


def _here(needs: tuple[str, ...]) -> bool:
    return not needs or not features().isdisjoint(needs)


INDIRECT_GEMMS: tuple[IndirectGemm, ...] = tuple(
    IndirectGemm(
        name,
        params.GemmParams,
        activations=x,
        weights=w,
        lanes=wide,
        max_depth=max_depth,
        scratch=scratch,
        prepare=lay,
    )
    for name, x, w, wide, max_depth, scratch, lay, *needs in _PRODUCTS
    if _here(tuple(needs))
)

_PERMUTES: tuple[tuple[Any, ...], ...] = (
    ("gemm.lut_permute.f32_b1_f32_planes_permute", "f32", ANY, lut_permute_packing.F32_LAYOUT),
    ("gemm.lut_permute.i8_b1_f32_planes_permute", "i8", I8_DEEPEST, lut_permute_packing.I8_LAYOUT),
)
LUT_PERMUTE_GEMMS: tuple[LutPermuteGemm, ...] = tuple(
    LutPermuteGemm(
        name,
        params.LutPermuteParams,
        activations=x,
        weights="b1",
        max_depth=max_depth,
        lanes=lut_permute_packing.TILE,
        layout=laid,
    )
    for name, x, max_depth, laid in _PERMUTES
    if "avx512bw" in features()
)
"""Products whose tables stand in registers, where the CPU has the permutes."""

GEMMS: tuple[GemmSpec, ...] = (*INDIRECT_GEMMS, *LUT_PERMUTE_GEMMS)
"""Of those that fit, the one of least predicted cost is chosen; the first of equals."""

AFFINE = Kernel("tensor.elementwise.f32_f32_affine", params.ElementwiseParams)
ADD = Kernel("tensor.elementwise.f32_f32_add", params.ElementwiseParams)
MUL = Kernel("tensor.elementwise.f32_f32_mul", params.ElementwiseParams)
SIGN = Kernel("tensor.elementwise.f32_s1_sign", params.ElementwiseParams)
FLOAT = Kernel("tensor.elementwise.i8_f32_float", params.ElementwiseParams)
STEPS = Kernel("tensor.elementwise.f32_f32_steps", params.ElementwiseParams)
STEPS_LANES = Kernel("tensor.elementwise.f32_f32_steps_lanes", params.ElementwiseParams)
QUANTIZE = Kernel("tensor.elementwise.f32_i8_quantize", params.ElementwiseParams)
SOFTMAX = Kernel("tensor.elementwise.f32_f32_softmax", params.ElementwiseParams)
COPY_F32 = Kernel("tensor.copy.f32_f32_copy", params.CopyParams)
COPY_I8 = Kernel("tensor.copy.i8_i8_copy", params.CopyParams)
CLEAR = Kernel("tensor.copy.clear", params.ClearParams)
MAX_F32 = Kernel("tensor.pooling.f32_f32_max_pool", params.PoolParams)
MAX_I8 = Kernel("tensor.pooling.i8_i8_max_pool", params.PoolParams)
AVERAGE = Kernel("tensor.pooling.f32_f32_average_pool", params.PoolParams)
XNOR_SIGNS = Kernel("gemm.xnor.b1_b1_b1_signs_xnor", params.XnorParams)
XNOR_PLANES = Kernel("gemm.xnor.b1_b1_f32_planes_xnor", params.XnorParams)
PACK = Kernel("tensor.bitpacked.f32_b1_sign", params.BitpackedParams)
FLOAT_SIGNS = Kernel("gemm.f32_to_bits.f32_f32_b1_signs_multiply", params.F32ToBitsParams)
MAX_B1 = Kernel("tensor.bitpacked.b1_b1_max_pool", params.BitpackedParams)
UNPACK_F32 = Kernel("tensor.bitpacked.b1_f32_unpack", params.BitpackedParams)
UNPACK_S1 = Kernel("tensor.bitpacked.b1_s1_unpack", params.BitpackedParams)

OTHERS: tuple[Kernel, ...] = (
    AFFINE, ADD, MUL, SIGN, FLOAT, STEPS, STEPS_LANES, QUANTIZE, SOFTMAX, COPY_F32, COPY_I8, CLEAR, MAX_F32, MAX_I8, AVERAGE,
    XNOR_SIGNS, XNOR_PLANES, PACK, FLOAT_SIGNS, MAX_B1, UNPACK_F32, UNPACK_S1,
)  # fmt: skip

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (*GEMMS, *OTHERS)}


class Choice(NamedTuple):
    """A product for some work, its predicted microseconds on one thread, and why it was chosen."""

    kernel: GemmSpec
    microseconds: float
    why: str


def fitting(activations: Element, weights: Weights, depth: int) -> list[GemmSpec]:
    """The products that read these types and hold sums of `depth` products, in the order of the list."""
    return [row for row in _reading(activations, weights) if depth <= row.max_depth]


def _reading(activations: Element, weights: Weights) -> list[GemmSpec]:
    return [row for row in GEMMS if (row.activations, row.weights) == (activations, weights)]


def short(microseconds: float) -> str:
    """Three digits, more where they stand before the point: `0.348`, `31.2`, `2124`."""
    return f"{microseconds:.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


def select(activations: Element, weights: Weights, work: Work, table: Table) -> Choice:
    """The product of least predicted time among `fitting` ones. Raises ValueError where there are none."""
    every = {
        row: row.microseconds(work, table.costs[row.name]) for row in _reading(activations, weights)
    }
    rows = fitting(activations, weights, work.depth)
    best = min(rows, key=every.__getitem__)
    others = [f"{row.variant} {short(every[row])}" for row in rows if row is not best]
    others += [f"K = {work.depth} would overflow {row.variant}" for row in every if row not in rows]
    why = "; ".join([f"predicted {short(every[best])} us", *others])
    slow = every[best] > min(every.values())  # a faster one exists that cannot hold the sums
    return Choice(best, every[best], f"slow: {why}" if slow else why)
