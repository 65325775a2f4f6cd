"""The input of an ONNX model: images, channels first or last, signals, or vectors."""

from __future__ import annotations

import onnx

from bwn._text import one_line
from bwn.errors import GraphError
from bwn.onnx.views import View

CHANNELS = (1, 3, 4)
"""Of images."""


def input_of(model: onnx.ModelProto) -> tuple[View, bool]:
    """The one input of a model.

    Returns:
        It as a view of (C, H, W) or (K,), and whether the model is for a batch of 1.
    """
    name, tensor = one_line(model.graph.input[0].name), model.graph.input[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        raise GraphError(f"input '{name}' is not float32; export the model in float32")
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if len(sizes) not in (2, 3, 4):
        expected = "(N, channels, height, width), (N, channels, length) or (N, features)"
        raise GraphError(f"input '{name}' has {len(sizes)} axes, expected {expected}")
    if sizes[0] not in (None, 1):  # exporters write a batch of 1 by default
        raise GraphError(
            f"input '{name}' has a fixed batch of {sizes[0]}; export with a dynamic first axis"
        )
    fixed = tuple(size for size in sizes[1:] if size is not None)
    if len(fixed) != len(sizes) - 1:
        remedy = "; choose height and width with size" if len(sizes) == 4 else ""
        raise GraphError(
            f"input '{name}' has sizes that are not fixed, ({open_sizes(tensor)}); only the batch "
            f"may be dynamic{remedy}"
        )
    if 0 in fixed:
        raise GraphError(f"input '{name}' is {('N', *fixed)}; no size may be 0")
    name, single = model.graph.input[0].name, sizes[0] == 1
    if len(fixed) == 2:
        return View.of(name, (fixed[0], 1, fixed[1]), (0, 2)), single
    if is_channels_last(model):
        height, width, channels = fixed
        return View.of(name, (channels, height, width)).transpose((0, 2, 3, 1)), single
    return View.of(name, fixed), single


def is_channels_last(model: onnx.ModelProto) -> bool:
    """Whether the input is (N, H, W, C): of 1, 3 or 4 channels, or always transposed to channels
    first."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if len(dims) != 4:
        return False
    first, last = dims[1].dim_value, dims[3].dim_value
    if (first in CHANNELS) != (last in CHANNELS):
        return last in CHANNELS
    readers = [node for node in model.graph.node if model.graph.input[0].name in node.input]
    return bool(readers) and all(
        node.op_type == "Transpose"
        and any(tuple(attribute.ints) == (0, 3, 1, 2) for attribute in node.attribute)
        for node in readers
    )


def open_sizes(tensor: onnx.TypeProto.Tensor) -> str:
    """The sizes of an input for a message: numbers, names, or `?`."""
    dims = tensor.shape.dim
    return ", ".join(
        str(dim.dim_value) if dim.HasField("dim_value") else one_line(dim.dim_param or "?", 40)
        for dim in dims
    )
