"""Reads ONNX's Resize: nearest elements, linear interpolation, or a matrix for each axis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Floats
from bwn.onnx.layouts import in_layout, in_layout_along
from bwn.onnx.matrix_readers import Matrix, multiply
from bwn.onnx.picking import by_lists, whole_lists
from bwn.onnx.views import Size, View
from bwn.ops.onnx_reading import reads
from bwn.ops.resize import Coordinates, Grid, Resize, scaled
from bwn.ops.window import MAX_ATTRIBUTE

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

Grids = dict[int, Grid]
"""Grids of the axes that change, by ONNX's axis."""
MODES = ("nearest", "linear", "cubic")


@reads("Resize")
def read_resize(state: ImportState, node: OnnxNode) -> None:
    """Constant scales or sizes; all modes except tf_crop_and_resize."""
    attrs, view = node.attrs, state.view(node)
    coordinates = str(attrs.get("coordinate_transformation_mode", "half_pixel"))
    mode, kinds = str(attrs.get("mode", "nearest")), Coordinates.__args__  # type: ignore[attr-defined]
    if mode not in MODES or coordinates not in kinds:
        raise node.refuse(
            f"mode {mode!r} with coordinates {coordinates!r}: {', '.join(MODES)} are supported, "
            f"with {', '.join(kinds)}"
        )
    grids = read_grids(state, node, view, coordinates)
    if not grids:
        state.alias(node)
    elif mode == "nearest":
        _pick(state, node, grids, str(attrs.get("nearest_mode", "round_prefer_floor")))
    elif mode == "cubic" or attrs.get("antialias", 0) or not _interpolated(state, node, grids):
        for number, (axis, grid) in enumerate(grids.items(), 1):
            output = node.output if number == len(grids) else f"{node.output}.{axis}"
            names = node.inputs[0], f"{node.output}.{mode}{axis}"
            step = replace(node, inputs=names, outputs=(output,))
            state.allowance.check(node, 8 * grid.resized * grid.size)
            multiply(state, step, matrix(node, grid, mode), axis=axis)
            node = replace(node, inputs=(output, *node.inputs[1:]))


def _pick(state: ImportState, node: OnnxNode, grids: Grids, rounding: str) -> None:
    """Emit Gathers of the nearest elements: one for all axes if possible, else one per axis."""
    groups = [grids] if state.view(node).is_ordinary else [{a: grid} for a, grid in grids.items()]
    for number, group in enumerate(groups, 1):
        output = node.output if number == len(groups) else f"{node.output}.{number}"
        step = replace(node, outputs=(output,))
        inputs = in_layout_along(state, step, next(iter(group)))
        source, shape = inputs.names[0], inputs.shapes[0]
        lists = whole_lists(shape)
        for axis, grid in group.items():
            lists[inputs.axis(axis)] = grid.nearest(rounding)
        inputs.emit(state, by_lists(source, shape, output, lists))
        node = replace(node, inputs=(output,))


def _interpolated(state: ImportState, node: OnnxNode, grids: Grids) -> bool:
    """Emit a linear interpolation of rows and columns. Returns whether the node is one."""
    if not state.view(node).is_ordinary or any(
        scaled(grid.size, grid.scale) != grid.resized for grid in grids.values()
    ):
        return False
    inputs = in_layout(state, node)
    scales = {inputs.axis(axis): grid.scale for axis, grid in grids.items()}
    if len(inputs.shapes[0]) != 3 or 0 in scales:
        return False
    layer = Resize(
        input=inputs.names[0],
        output=node.output,
        scales=(scales.get(1, 1.0), scales.get(2, 1.0)),
        coordinates=next(iter(grids.values())).mode,  # type: ignore[arg-type]
    )
    inputs.emit(state, layer)
    return True


def read_grids(state: ImportState, node: OnnxNode, view: View, coordinates: str) -> Grids:
    """A grid for each axis that changes."""
    chosen = read_sizes(state, node, view)
    counts = [size.count for size in view.sizes]
    policy, scale = str(node.attrs.get("keep_aspect_ratio_policy", "stretch")), None
    if (
        policy != "stretch"
        and chosen
        and all(isinstance(number, int) for number in chosen.values())
    ):
        smallest = min if policy == "not_larger" else max
        scale = smallest(size / counts[axis] for axis, size in chosen.items())
        chosen = {axis: int(np.floor(scale * counts[axis] + 0.5)) for axis in chosen}
    grids: Grids = {}
    for axis, number in chosen.items():
        grid = grid_of(counts[axis], number, scale, coordinates)
        if not 1 <= grid.resized <= MAX_ATTRIBUTE:
            raise node.refuse(
                f"makes {grid.resized:,} of an axis of {grid.size:,}, expected 1 to "
                f"{MAX_ATTRIBUTE:,}"
            )
        if grid.size == grid.resized and grid.scale == 1:
            continue
        grids[axis] = grid
        product = grid.size * number
        if coordinates == "align_corners" and abs(product - round(product)) > 1e-4:
            raise node.refuse(
                f"scales {grid.size} by {number} with align_corners, which ONNX and ONNX Runtime "
                "compute differently; export with sizes"
            )
    changed = {axis: grid for axis, grid in grids.items() if grid.size != grid.resized}
    # Where no size changes, ONNX Runtime copies, whatever the scales are; so of each axis here.
    return grids if changed and not node.attrs.get("antialias", 0) else changed


def read_sizes(state: ImportState, node: OnnxNode, view: View) -> dict[int, float | int]:
    """The scale (a float) or size (an integer) of each given axis, except the batch."""
    scales = state.optional(node, 2)
    numbers: list[float | Size]
    if scales is not None and scales.size:
        numbers = [float(scale) for scale in np.ravel(scales)]
    else:
        numbers = list(state.sizes(node, 3))
    axes = node.attrs.get("axes", range(view.rank))
    if len(numbers) != len(axes):
        raise node.refuse(f"has {len(numbers)} scales or sizes for {len(axes)} axes")
    chosen: dict[int, float | int] = {}
    for number, axis in zip(numbers, axes, strict=True):
        axis, one = node.axis(axis, view.rank), view.sizes[axis]
        size = number.count if isinstance(number, Size) else number
        if not one.batch:
            chosen[axis] = size
        elif size != (1.0 if isinstance(size, float) else one.count) or (
            isinstance(number, Size) and not (number.batch or state.single)
        ):
            raise node.refuse("works on axis 0, the batch; examples must stay independent")
    return chosen


def grid_of(size: int, number: float | int, scale: float | None, coordinates: str) -> Grid:
    """The grid of an axis. number: its scale (a float) or its size (an integer)."""
    if isinstance(number, float):
        return Grid(size, scaled(size, number), number, coordinates)
    ratio = np.float32(number / size if scale is None else scale)
    if scale is None and scaled(size, float(ratio)) < number:  # rounding made it less than it was
        ratio = np.nextafter(ratio, np.float32(np.inf))
    return Grid(size, number, float(ratio), coordinates)


def matrix(node: OnnxNode, grid: Grid, mode: str) -> Matrix:
    """Weights of the original elements in each element of the resized axis, (resized, size)."""
    excludes, a = bool(node.attrs.get("exclude_outside", 0)), node.attrs.get("cubic_coeff_a", -0.75)
    places = grid.places().astype(np.float64)
    if mode == "linear":
        places = np.clip(places, 0, grid.size - 1)
    stretch = max(1.0, 1 / grid.scale) if node.attrs.get("antialias", 0) else 1.0
    radius = (1 if mode == "linear" else 2) * stretch
    low = np.floor(places - radius).astype(np.int64)
    taps = np.add.outer(low, np.arange(int(2 * radius) + 3))
    distance = np.abs(taps - places[:, None]) / stretch
    weights = np.maximum(1 - distance, 0) if mode == "linear" else cubic(distance, a)
    if excludes:
        weights *= (taps >= 0) & (taps < grid.size)
    weights /= weights.sum(1, keepdims=True)
    result = np.zeros((grid.resized, grid.size))
    rows = np.broadcast_to(np.arange(grid.resized)[:, None], taps.shape)
    np.add.at(result, (rows, np.clip(taps, 0, grid.size - 1)), weights)
    return result.astype(np.float32)


def cubic(x: Floats, a: float) -> Floats:
    """Keys's kernel of cubic convolution, at distances x."""
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
