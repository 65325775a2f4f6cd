"""Resizing of images: linear interpolation of rows and columns, and indices of neighbors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.node import Floats, Node, Reals, Shape, Tensors, elements, largest
from bwn.ops.window import MAX_ATTRIBUTE

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder

Singles = npt.NDArray[np.float32]
Coordinates = Literal[
    "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric", "align_corners"
]


class Grid(msgspec.Struct, frozen=True):
    """Where the indices of a resized axis lie on the original axis.

    Attributes:
        size: Length of the original axis.
        resized: Length of the resized one.
        scale: Ratio of the lengths before rounding, as a model may give it.
        mode: ONNX's coordinate transformation mode.
    """

    size: int
    resized: int
    scale: float
    mode: str

    def places(self) -> Singles:
        """Where each index lies on the original axis, in float32 as ONNX Runtime computes it."""
        index, one = np.arange(self.resized, dtype=np.float32), np.float32
        scale, half = one(self.scale), one(0.5)
        if self.mode == "asymmetric":
            return index / scale
        if self.mode == "align_corners":
            if self.resized == 1:
                return np.zeros_like(index)
            return index * one(self.size - 1) / one(self.resized - 1)
        if self.mode == "pytorch_half_pixel" and self.resized == 1:
            return np.zeros_like(index)
        if self.mode != "half_pixel_symmetric":
            return np.asarray((index + half) / scale - half)
        adjustment = one(self.resized) / (scale * one(self.size))
        offset = float(one(self.size) / one(2) * (one(1) - adjustment))
        exact = offset + (index.astype(np.float64) + 0.5) / float(scale) - 0.5
        return exact.astype(np.float32)

    def nearest(self, rounding: str) -> npt.NDArray[np.int64]:
        """The nearest original index of each index."""
        x = self.places()
        low = np.floor(x)
        near = {
            "floor": low,
            "ceil": np.ceil(x),
            "round_prefer_floor": low + (x - low > 0.5),
            "round_prefer_ceil": low + (x - low >= 0.5),
        }[rounding]
        return np.asarray(np.clip(near.astype(np.int64), 0, self.size - 1))

    def neighbors(self) -> tuple[npt.NDArray[np.int64], Singles]:
        """The original index before each index, and the fraction of the way to the next one."""
        x = np.clip(self.places(), 0, self.size - 1).astype(np.float32)
        low = np.floor(x)
        return low.astype(np.int64), x - low


class Resize(Node, frozen=True, kw_only=True, tag="resize"):
    """Linear interpolation: y[c, i, j] between the four elements of x[c] around where (i, j) lies.

    Attributes:
        scales: Factors of height and width; the products are rounded down.
        coordinates: Where an index of the output lies in the input, as in ONNX's Resize.
    """

    since = 4

    scales: tuple[float, float]
    coordinates: Coordinates = "half_pixel"

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """The input is an image, and the scales are in range."""
        if len(inputs[0]) != 3:
            raise self.refuse(f"input has shape {inputs[0]}, expected (channels, height, width)")
        if not all(1 / MAX_ATTRIBUTE <= scale <= MAX_ATTRIBUTE for scale in self.scales):
            raise self.refuse(f"scales are {self.scales}, expected up to {MAX_ATTRIBUTE}")
        if not all(1 <= grid.resized <= MAX_ATTRIBUTE for grid in self.grids(inputs[0])):
            raise self.refuse(f"scales {self.scales} leave nothing of {inputs[0]}, or too much")

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """(C, new height, new width)."""
        rows, columns = self.grids(inputs[0])
        return inputs[0][0], rows.resized, columns.resized

    def grids(self, shape: Shape) -> tuple[Grid, Grid]:
        """Grids of the rows and of the columns."""
        rows, columns = (
            Grid(size, scaled(size, scale), scale, self.coordinates)
            for size, scale in zip(shape[1:], self.scales, strict=True)
        )
        return rows, columns

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """Rows, then columns, in float64."""
        x = inputs[0].astype(np.float64)
        for axis, grid in enumerate(self.grids(x.shape[1:]), 2):
            x = interpolate(x, axis, grid)
        return x

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If the input is not negative."""
        return self.input in nonnegative

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """Four neighbors; their weights are rounded too."""
        return 8

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The input."""
        return largest(inputs[0])

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Four products for each element."""
        return 4 * elements(output)

    def lower(self, plan: PlanBuilder) -> None:
        """One step: rows, then columns."""
        plan.interpolate(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Resize."""
        scales = np.array([1, 1, *self.scales], np.float32)
        name = graph.constant(f"{self.output}.scales", scales)
        graph.emit(
            "Resize",
            [self.input, "", name],
            self.output,
            mode="linear",
            coordinate_transformation_mode=self.coordinates,
        )


def scaled(size: int, scale: float) -> int:
    """A size times a scale, rounded down after a product in float32."""
    return int(np.float32(size) * np.float32(scale))


def interpolate(x: Floats, axis: int, grid: Grid) -> Floats:
    """Linear interpolation along an axis."""
    low, part = grid.neighbors()
    high = np.minimum(low + 1, grid.size - 1)
    weights = part.astype(np.float64).reshape(-1, *[1] * (x.ndim - 1 - axis))
    return np.asarray(x.take(low, axis) * (1 - weights) + x.take(high, axis) * weights)
