"""The input of an ONNX model: images, channels first, last or without an axis, signals, vectors."""

from __future__ import annotations

import onnx

from bwn._text import one_line
from bwn.errors import GraphError
from bwn.onnx.views import View

CHANNELS = (1, 3, 4)
"""Of images."""
SMALLEST = 16
"""Height and width of images that are known as such by their shape alone."""
CHANNELS_FIRST = {
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LpPool",
    "MaxPool",
    "QLinearConv",
}
"""Operations of ONNX whose input is (N, C, H, W)."""
RESHAPES = {"Flatten", "Reshape", "Unsqueeze"}


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
        if is_gray(model):
            return View.of(name, (1, *fixed), (1, 2)), single
        return View.of(name, (fixed[0], 1, fixed[1]), (0, 2)), single
    if is_channels_last(model):
        height, width, channels = fixed
        return View.of(name, (channels, height, width)).transpose((0, 2, 3, 1)), single
    return View.of(name, fixed), single


def is_gray(model: onnx.ModelProto) -> bool:
    """Whether the input, (N, H, W), is an image without an axis of channels, not a signal.

    It is where it is of an image's size, and every node that reads it gives it other axes. The
    order of its numbers is the same either way.
    """
    graph = model.graph
    readers = [node for node in graph.node if graph.input[0].name in node.input]
    dims = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    image = len(dims) == 3 and min(dims[1:]) >= SMALLEST
    return image and all(node.op_type in RESHAPES for node in readers)


def is_channels_last(model: onnx.ModelProto) -> bool:
    """Whether the input is (N, H, W, C).

    It is where every node that reads it moves the channels to the front; or where it is of an
    image's size, with 1, 3 or 4 channels last, and no node that reads it takes channels first.
    """
    graph = model.graph
    dims = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    readers = [node for node in graph.node if graph.input[0].name in node.input]
    if len(dims) != 4 or not readers:
        return False
    if all(moves_channels_first(node) for node in readers):
        return True
    image = min(dims[1:3]) >= SMALLEST and dims[3] in CHANNELS
    return image and not any(node.op_type in CHANNELS_FIRST for node in readers)


def moves_channels_first(node: onnx.NodeProto) -> bool:
    """Whether it turns (N, H, W, C) into (N, C, H, W)."""
    return node.op_type == "Transpose" and any(
        tuple(attribute.ints) == (0, 3, 1, 2) for attribute in node.attribute
    )


def open_sizes(tensor: onnx.TypeProto.Tensor) -> str:
    """The sizes of an input for a message: numbers, names, or `?`."""
    dims = tensor.shape.dim
    return ", ".join(
        str(dim.dim_value) if dim.HasField("dim_value") else one_line(dim.dim_param or "?", 40)
        for dim in dims
    )
