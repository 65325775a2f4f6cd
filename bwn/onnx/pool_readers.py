"""Reads ONNX's pooling: windows with all attributes, and averages of powers."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from bwn.ir.node import FLOAT32_MAX, Shape
from bwn.ops.broadcasting import Arithmetic, Function
from bwn.ops.gather import Gather
from bwn.ops.onnx_reading import Pending, ceil_pads, pair, reads, window_pads
from bwn.ops.pad import Pad
from bwn.ops.pool import Kind, Pool
from bwn.ops.window import MAX_ATTRIBUTE, Pads, Window

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("MaxPool", "AveragePool")
def read_pool(state: ImportState, node: OnnxNode) -> None:
    """All attributes, except some dilations; no second output (the indices of MaxPool)."""
    if any(node.outputs[1:]):
        raise node.refuse("its second output, the indices of the maxima, is not supported")
    half = state.pending.get(node.inputs[0])
    if half is not None and half.kind == "surrounded" and node.op_type == "MaxPool":
        node = _surrounded(state, node, half)
    source, shape = _image(state, node)
    kind: Kind = "max" if node.op_type == "MaxPool" else "average"
    counted = kind == "average" and bool(node.attrs.get("count_include_pad", 0))
    state.emit(_windows(state, node, source, shape, kind, counted))


def _surrounded(state: ImportState, node: OnnxNode, half: Pending) -> OnnxNode:
    """A MaxPool of an image padded with -inf as a MaxPool of the image with larger pads."""
    auto, own = str(node.attrs.get("auto_pad", "NOTSET")), node.attrs.get("pads", (0, 0, 0, 0))
    own = own if auto == "NOTSET" else (0, 0, 0, 0)
    if auto not in ("NOTSET", "VALID") or node.attrs.get("ceil_mode", 0) or len(own) != 4:
        return node
    pads = [int(pad) + more for pad, more in zip(own, half.pads, strict=True)]
    name = f"{node.output}.image"
    state.views[name] = half.view
    attrs = {**node.attrs, "auto_pad": "NOTSET", "pads": pads}
    return changed(node, inputs=(name,), attrs=attrs)


def _windows(
    state: ImportState,
    node: OnnxNode,
    source: str,
    shape: Shape,
    kind: Kind,
    counted: bool,
    *,
    counts_beyond: bool = False,
) -> Pool:
    """The pooling of a node; a Pad or Gather that it needs is emitted before it.

    Args:
        state: The import.
        node: The node.
        source: The tensor that is pooled.
        shape: Its shape.
        kind: Kind of pooling.
        counted: Whether an average counts padding.
        counts_beyond: Whether it also counts what lies beyond the padding, in ceil_mode.
    """
    window = _window(node, shape)
    if node.attrs.get("ceil_mode", 0):
        wider = ceil_pads((shape[1], shape[2]), window)
        if counted and not counts_beyond and wider != window.pads:
            source, shape = _padded(state, node, source, window.pads)
            wider = tuple(w - p for w, p in zip(wider, window.pads, strict=True))  # type: ignore[assignment]
            counted = False
        window = replace(window, pads=wider)
    if window.dilation != (1, 1):
        source, window = _spread(state, node, source, shape, window, kind, counted)
    return Pool(
        input=source,
        output=node.output,
        kind=kind,
        kernel=window.kernel,
        stride=window.stride,
        pads=window.pads,
        count_pads=counted,
    )


def _window(node: OnnxNode, shape: Shape) -> Window:
    """The node's window over (C, H, W), before ceil_mode."""
    kernel, stride, dilation = (
        pair(node, name) for name in ("kernel_shape", "strides", "dilations")
    )
    if not all(1 <= number <= MAX_ATTRIBUTE for number in (*kernel, *stride, *dilation)):
        raise node.refuse(
            f"kernel {kernel}, strides {stride}, dilations {dilation}: expected each at least 1, "
            f"at most {MAX_ATTRIBUTE:,}"
        )
    if dilation != (1, 1) and str(node.attrs.get("auto_pad", "")).startswith("SAME"):
        raise node.refuse(
            f"auto_pad {node.attrs['auto_pad']} with dilations {dilation}, which ONNX and ONNX "
            "Runtime compute differently; export with pads"
        )
    window = Window(kernel, stride, dilation=dilation)
    return replace(window, pads=window_pads(node, (shape[1], shape[2]), window))


@reads("LpPool", "GlobalLpPool")
def read_lp_pool(state: ImportState, node: OnnxNode) -> None:
    """(sum of |x|^p)^(1/p) over windows.

    The sum is an average of powers times the number of positions in a window.
    """
    source, shape = _image(state, node)
    output, p = node.output, int(node.attrs.get("p", 2))
    if p < 1:
        raise node.refuse(f"p is {p}, expected at least 1")

    def step(function: Function, name: str, number: float | None = None) -> str:
        """Emit arithmetic of the last tensor with a number, or with the source."""
        constant = None
        if number is not None:
            constant = state.store(f"{name}.number", np.full((1, 1, 1), number, np.float32))
        other = source if number is None else None
        state.emit(
            Arithmetic(input=last, output=name, function=function, other=other, constant=constant)
        )
        return name

    last = source
    if p == 2:
        last = step("mul", f"{output}.powers")
    else:
        last = step("mul", f"{output}.negative", -1.0)
        last = step("max", f"{output}.size")
        last = step("pow", f"{output}.powers", p) if p > 1 else last
    if node.op_type == "GlobalLpPool":
        pool = Pool(input=last, output=output, kind="average", kernel=(shape[1], shape[2]))
    else:
        pool = _windows(state, node, last, shape, "average", counted=True, counts_beyond=True)
    last = f"{output}.mean"
    state.emit(replace(pool, output=last))
    last = step("mul", f"{output}.sum" if p > 1 else output, pool.window.taps)
    if p > 1:
        step("pow", output, 1 / p)


def _padded(state: ImportState, node: OnnxNode, source: str, pads: Pads) -> tuple[str, Shape]:
    """Emit a Pad of height and width with zeros, and give its name and shape."""
    top, left, bottom, right = pads
    name = f"{node.output}.padded"
    state.emit(Pad(input=source, output=name, pads=(0, top, left, 0, bottom, right)))
    return name, state.shapes[name]


def _spread(
    state: ImportState,
    node: OnnxNode,
    source: str,
    shape: Shape,
    window: Window,
    kind: Kind,
    counted: bool,
) -> tuple[str, Window]:
    """Emit a Gather that lays the taps of dilated windows side by side, window after window.

    Returns:
        Name of its output, and the window that pools it.
    """
    if kind == "average" and any(window.pads) and not counted:
        raise node.refuse("dilations of an average over padded windows are not supported")
    lists: list[tuple[int, ...]] = [()]
    outputs = window.output_size((shape[1], shape[2]))
    for axis in (0, 1):
        state.allowance.check(node, 8 * max(outputs[axis], 0) * window.kernel[axis])
        starts = np.arange(outputs[axis]) * window.stride[axis] - window.pads[axis]
        taps = np.add.outer(starts, np.arange(window.kernel[axis]) * window.dilation[axis]).ravel()
        inside = (taps >= 0) & (taps < shape[axis + 1])
        lists.append(tuple(np.where(inside, taps, -1).tolist()))
    name = f"{node.output}.taps"
    value = -FLOAT32_MAX if kind == "max" else 0.0
    state.emit(Gather(input=source, output=name, indices=tuple(lists), value=value))
    return name, Window(window.kernel, window.kernel)


def _image(state: ImportState, node: OnnxNode) -> tuple[str, Shape]:
    """Name and (C, H, W) of the first input."""
    source, shape = state.activation(node)
    if len(shape) != 3:
        raise node.refuse(f"input has shape {shape}, expected (channels, height, width)")
    return source, shape


@reads("GlobalAveragePool", "GlobalMaxPool")
def read_global_pool(state: ImportState, node: OnnxNode) -> None:
    """One window over the whole image."""
    source, shape = _image(state, node)
    kind: Kind = "max" if node.op_type == "GlobalMaxPool" else "average"
    kernel = (shape[1], shape[2])
    state.emit(Pool(input=source, output=node.output, kind=kind, kernel=kernel))
