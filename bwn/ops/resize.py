"""Images of another size: nearest elements, or linear interpolation between rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from bwn.ir.node import Floats, Node, Reals, Shape, Tensors, elements, largest
from bwn.ops.layouts import Laid, laid
from bwn.ops.onnx_reading import reads
from bwn.ops.picking import by_lists
from bwn.ops.window import MAX_ATTRIBUTE

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.plan.builder import PlanBuilder

Singles = npt.NDArray[np.float32]
Coordinates = Literal[
    "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric", "align_corners"
]


class Grid(msgspec.Struct, frozen=True):
    """How the indices of one resized axis lie over the original ones.

    Attributes:
        size: Length of the original axis.
        resized: Length of the resized one.
        scale: Their ratio, which a model may give more exactly than the lengths do.
        mode: Where index i lies, as ONNX names it.
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
        offset = one(0)
        if self.mode == "half_pixel_symmetric":
            adjustment = one(self.resized) / (scale * one(self.size))
            offset = one(self.size) / one(2) * (one(1) - adjustment)
        return np.asarray(offset + (index + half) / scale - half)

    def nearest(self, rounding: str) -> npt.NDArray[np.int64]:
        """The original index that each is nearest to."""
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
        """The original index before each, and what part of the way to the next one it lies."""
        x = np.clip(self.places(), 0, self.size - 1).astype(np.float32)
        low = np.floor(x)
        return low.astype(np.int64), x - low


class Resize(Node, frozen=True, kw_only=True, tag="resize"):
    """Linear interpolation: y[c, i, j] between the four elements of x[c] around where (i, j) lies.

    Attributes:
        scales: Of height and width; the output's are the products, rounded down.
        coordinates: Where an index of the output lies in the input, as in ONNX's Resize.
    """

    since = 4

    scales: tuple[float, float]
    coordinates: Coordinates = "half_pixel"

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Scales are such numbers, of an image."""
        if len(inputs[0]) != 3:
            raise self.refuse(f"input has shape {inputs[0]}, expected (channels, height, width)")
        if not all(1 / MAX_ATTRIBUTE <= scale <= MAX_ATTRIBUTE for scale in self.scales):
            raise self.refuse(f"scales are {self.scales}, expected up to {MAX_ATTRIBUTE}")
        if not all(1 <= grid.resized <= MAX_ATTRIBUTE for grid in self.grids(inputs[0])):
            raise self.refuse(f"scales {self.scales} leave nothing of {inputs[0]}, or too much")

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The channels, of the new size."""
        rows, columns = self.grids(inputs[0])
        return inputs[0][0], rows.resized, columns.resized

    def grids(self, shape: Shape) -> tuple[Grid, Grid]:
        """Of the rows and of the columns."""
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
        """Between numbers of the input."""
        return self.input in nonnegative

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """Four neighbors, and the weights are rounded too."""
        return 8

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """Its input."""
        return largest(inputs[0])

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Four products each."""
        return 4 * elements(output)

    def lower(self, plan: PlanBuilder) -> None:
        """One step: rows by vectors, then columns."""
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


@reads("Resize")
def read_resize(state: ImportState, node: OnnxNode) -> None:
    """To constant scales or sizes: nearest on all axes but the batch, linear on the last two."""
    inputs, attrs = laid(state, node), node.attrs
    source, shape = inputs.names[0], inputs.shapes[0]
    coordinates = str(attrs.get("coordinate_transformation_mode", "half_pixel"))
    mode, kinds = str(attrs.get("mode", "nearest")), Coordinates.__args__  # type: ignore[attr-defined]
    if mode not in ("nearest", "linear") or coordinates not in kinds or attrs.get("antialias"):
        raise node.refuse(
            f"mode {mode!r} with coordinates {coordinates!r}: nearest and linear without "
            f"antialias are supported, with {', '.join(kinds)}"
        )
    grids = read_grids(state, inputs, coordinates)
    if all(grid.size == grid.resized and grid.scale == 1 for grid in grids):
        state.alias(node)
    elif mode == "nearest":
        rounding = str(attrs.get("nearest_mode", "round_prefer_floor"))
        lists = [grid.nearest(rounding) for grid in grids]
        inputs.emit(state, by_lists(source, shape, node.output, lists))
    else:
        if len(grids) != 3 or grids[0].resized != grids[0].size:
            raise node.refuse("linear interpolation is supported for height and width only")
        if any(scaled(grid.size, grid.scale) != grid.resized for grid in grids):
            raise node.refuse("rounds sizes up; linear interpolation rounds them down")
        resized = Resize(
            input=source,
            output=node.output,
            scales=(grids[1].scale, grids[2].scale),
            coordinates=coordinates,  # type: ignore[arg-type]
        )
        inputs.emit(state, resized)


def read_grids(state: ImportState, inputs: Laid, coordinates: str) -> list[Grid]:
    """A grid for each axis of the IR's shape."""
    node, shape = inputs.node, inputs.shapes[0]
    scales = state.optional(node, 2)
    numbers: list[tuple[float | int, bool]]
    if scales is not None and scales.size:
        numbers = [(float(scale), True) for scale in np.ravel(scales)]
    else:
        numbers = [(size.count, size.batch or state.single) for size in state.sizes(node, 3)]
    axes = node.attrs.get("axes", range(len(inputs.order)))
    if len(numbers) != len(axes):
        raise node.refuse(f"has {len(numbers)} scales or sizes for {len(axes)} axes")
    chosen = {
        inputs.axis(axis): number
        for axis, (number, whole) in zip(axes, numbers, strict=True)
        if axis != 0 or number != 1 or not whole  # else the whole batch
    }
    policy, scale = str(node.attrs.get("keep_aspect_ratio_policy", "stretch")), None
    if policy != "stretch" and not isinstance(numbers[0][0], float):
        smallest = min if policy == "not_larger" else max
        scale = smallest(number / shape[axis] for axis, number in chosen.items())
        chosen = {axis: int(np.floor(scale * shape[axis] + 0.5)) for axis in chosen}
    grids = [Grid(size, size, 1.0, coordinates) for size in shape]
    for axis, number in chosen.items():
        size = shape[axis]
        grids[axis] = grid_of(size, number, scale, coordinates)
        if grids[axis].resized < 1:
            raise node.refuse(f"leaves nothing of an axis of {size}")
        if coordinates == "align_corners" and abs(size * number - round(size * number)) > 1e-4:
            raise node.refuse(
                f"scales {size} by {number} with align_corners, which ONNX and ONNX Runtime "
                "compute differently; export with sizes"
            )
    return grids


def grid_of(size: int, number: float | int, scale: float | None, coordinates: str) -> Grid:
    """The grid of an axis of a scale (a float), or of a size (an integer) and perhaps a scale."""
    if isinstance(number, float):
        return Grid(size, scaled(size, number), number, coordinates)
    ratio = np.float32(number / size if scale is None else scale)
    if scale is None and scaled(size, float(ratio)) < number:  # rounding made it less than it was
        ratio = np.nextafter(ratio, np.float32(np.inf))
    return Grid(size, number, float(ratio), coordinates)
