"""Convolutions, pools and norms of images that other axes than the batch count too.

Windows of an image are merged with the batch, (N * windows, C, H, W), and a convolution goes over
each. Here they become groups of channels of one image, (N, windows * C, H, W): the windows' weights
are the same, one copy for each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bwn.onnx.matrix_readers import multiply
from bwn.onnx.views import BATCH, Size
from bwn.ops.onnx_reading import READERS, vector

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.onnx.views import View

GROUPS = {"Conv": "group", "ConvTranspose": "group", "GroupNormalization": "num_groups"}
"""The attribute that is multiplied by the number of images."""
OF_IMAGES = frozenset([
    *GROUPS, "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "InstanceNormalization", "LpPool", "MaxPool",
])  # fmt: skip
"""Operations of which each channel, or group of channels, is computed alone."""


def read_merged(state: ImportState, node: OnnxNode) -> bool:
    """Read such an operation of (N * k, C, H, W). Returns whether the node is one."""
    if node.op_type not in OF_IMAGES or not node.inputs or node.inputs[0] not in state.views:
        return False
    view = state.view(node)
    if view.rank == 5 and node.op_type == "Conv":
        return _read_volume(state, node, view)
    before, images = view.place(0)[1], view.sizes[0].count
    if view.rank not in (3, 4) or before is None or images == 1:
        return False
    if node.op_type == "Conv" and _is_matrix(state, node):
        weight = state.weights(node, 1)
        bias = vector(state, node, 2, len(weight))
        multiply(state, node, weight.reshape(weight.shape[:2]), bias=bias, axis=1)
        return True
    names = [f"{node.output}.images", *map(f"{{}}.{images}".format, node.inputs[1:])]
    outer = tuple(factor for factor in view.axes[0] if factor != BATCH)
    joined = ((BATCH,), (*outer, *view.axes[1]), *view.axes[2:])
    state.views[names[0]] = view._replace(axes=joined)
    for index, name in enumerate(names[1:], 1):
        if node.has(index):
            array = state.weights(node, index)
            state.allowance.take(node, images * array.nbytes)
            state.constants[name] = np.concatenate([array] * images)
    attrs = dict(node.attrs)
    if node.op_type in GROUPS:
        attrs[GROUPS[node.op_type]] = images * attrs.get(GROUPS[node.op_type], 1)
    inner = replace(node, inputs=tuple(names), outputs=(names[0] + "'",), attrs=attrs)
    READERS[node.op_type](state, inner)
    result = state.views[inner.output]
    channels = result.sizes[1].count // images
    parts = result.split_axis(1, [before, images // before, channels])
    assert parts is not None, "an axis of a result is one factor"
    groups = [(1, 0, 2), *((axis,) for axis in range(3, parts.rank))]
    state.views[node.output] = parts.joined(groups)
    return True


def _is_matrix(state: ImportState, node: OnnxNode) -> bool:
    """Whether a convolution is a product with a matrix at each pixel."""
    ones = [*node.attrs.get("strides", ()), node.attrs.get("group", 1)]
    return (
        set(state.weights(node, 1).shape[2:]) == {1}
        and set(ones) == {1}
        and not any(node.attrs.get("pads", ()))
    )


def _read_volume(state: ImportState, node: OnnxNode, view: View) -> bool:
    """Read a convolution of three axes, one of which it does not cross. Returns whether it is."""
    weight, attrs = state.weights(node, 1), node.attrs
    if weight.ndim != 5 or view.axes[0] != (BATCH,):
        return False
    pads = attrs.get("pads", (0,) * 6)
    alone = [
        axis
        for axis in range(3)
        if weight.shape[axis + 2] == 1
        and attrs.get("strides", (1, 1, 1))[axis] == 1
        and not pads[axis]
        and not pads[axis + 3]
    ]
    if not alone:
        return False
    out = alone[-1]
    rest = [axis for axis in range(3) if axis != out]
    names = f"{node.output}.planes", f"{node.inputs[1]}.planes", *node.inputs[2:]
    inner = replace(node, inputs=names, outputs=(f"{names[0]}'",), attrs=dict(attrs))
    for name in {"kernel_shape", "strides", "dilations", "pads"} & attrs.keys():
        numbers = attrs[name]
        chosen = [*rest, *(axis + 3 for axis in rest)] if name == "pads" else rest
        inner.attrs[name] = [numbers[axis] for axis in chosen]
    state.constants[names[1]] = weight.squeeze(out + 2)
    order = [1, *(axis + 2 for axis in rest)]
    state.views[names[0]] = view.joined([(0, out + 2), *((axis,) for axis in order)])
    if not read_merged(state, inner):
        READERS["Conv"](state, inner)
    result = state.views[inner.output]
    sizes = [Size(1, batch=True), view.sizes[out + 2], *result.sizes[1:]]
    parts = state.legal(node, lambda: result.reshape(sizes))
    assert parts is not None, "the batch and the axis are merged in this order"
    state.views[node.output] = parts.transpose(np.argsort([0, out + 2, *order]).tolist())
    return True
