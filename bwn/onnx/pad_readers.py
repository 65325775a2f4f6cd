"""Reads ONNX's Pad as padding and cropping, or together with the MaxPool that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast, get_args

import numpy as np
from msgspec import structs

from bwn.onnx.layouts import InLayout, in_layout, in_layout_along
from bwn.onnx.picking import by_lists
from bwn.ops.onnx_reading import Pending, reads
from bwn.ops.pad import Mode, Pad

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("Pad")
def read_pad(state: ImportState, node: OnnxNode) -> None:
    """Constant pads; negative pads crop."""
    pads = node.attrs.get("pads") or state.int_list(node, 1)
    axes = state.int_list(node, 3) or [*range(len(pads) // 2)]
    mode = str(node.attrs.get("mode", "constant"))
    value = state.optional(node, 2)
    if value is not None and value.size != 1:
        raise node.refuse(f"its value has shape {value.shape}, expected one number")
    number = node.attrs.get("value", 0.0) if value is None else value.item()
    if mode not in get_args(Mode) or len(pads) != 2 * len(axes):
        raise node.refuse(f"mode {mode!r} with pads {pads} of axes {axes} is not supported")
    view = state.view(node)
    widths = {
        node.axis(axis, view.rank): ends
        for axis, *ends in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True)
        if any(ends)
    }
    padding = Pad(
        input="",
        output=node.output,
        pads=(),
        mode=cast("Mode", mode),
        value=float(number) * (mode == "constant"),
    )
    if not widths:
        state.alias(node)
    elif number == -np.inf and view.rank == 4 and min(widths) > 1 and min(pads) >= 0:
        around = [widths.get(axis, (0, 0)) for axis in (2, 3)]
        top, left, bottom, right = (int(pair[end]) for end in (0, 1) for pair in around)
        state.pending[node.output] = Pending("surrounded", view, pads=(top, left, bottom, right))
    elif view.is_ordinary:
        _pad(state, in_layout(state, node), widths, padding)
    else:  # one axis after another
        *before, last = widths
        for axis in before:
            output = f"{node.output}.{axis}"
            inputs = in_layout_along(state, replace(node, outputs=(output,)), axis)
            _pad(state, inputs, {axis: widths[axis]}, structs.replace(padding, output=output))
            node = replace(node, inputs=(output,))
        _pad(state, in_layout_along(state, node, last), {last: widths[last]}, padding)


def _pad(
    state: ImportState, inputs: InLayout, widths: Mapping[int, Sequence[int]], padding: Pad
) -> None:
    """Emit a padding of ONNX axes by the widths before and after each; negative widths crop."""
    source, shape, node = inputs.names[0], inputs.shapes[0], inputs.node
    ends = np.zeros((2, len(shape)), np.int64)
    for axis, pair in widths.items():
        ends[:, inputs.axis(axis)] = pair
    if (ends < 0).any():
        lists = [
            np.arange(before, size - after)
            for size, before, after in zip(shape, *np.maximum(-ends, 0).tolist(), strict=True)
        ]
        if not all(map(len, lists)):
            raise node.refuse(f"pads {ends.ravel().tolist()} leave nothing of {shape}")
        name = f"{node.output}.cropped" if (ends > 0).any() else node.output
        source = inputs.emit(state, by_lists(source, shape, name, lists))
    if (ends > 0).any():
        pads = tuple(np.maximum(ends, 0).ravel().tolist())
        inputs.emit(state, structs.replace(padding, input=source, pads=pads))
