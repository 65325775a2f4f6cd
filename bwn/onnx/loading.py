"""From the bytes of an ONNX file to a model that can be walked node by node.

What files have that is no part of the network is mended or removed here: weights in other files,
nodes out of order or behind other outputs, functions, float16. What cannot be mended is one error,
in time and memory that depend on the size of the file alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import onnx
from onnx import TensorProto

from bwn._file_types import HEAD, ONNX, looks_like, mismatch
from bwn._text import brief
from bwn._types import StrPath
from bwn.errors import FileError, GraphError
from bwn.onnx.float_types import to_float32
from bwn.onnx.functions import every_node, expand_operations, inline_functions
from bwn.onnx.graph_order import keep_needed, listed
from bwn.onnx.opsets import opset_of, upgrade
from bwn.onnx.pixel_input import to_float_input
from bwn.onnx.tensors import check_tensor, read_external, tensors_of
from bwn.onnx.wire import check_fields

MAX_BYTES = 2**30
MAX_NODES = 2**18
IR_VERSION = 8
LAYER_NORM_OPSET = 17


class Cleaned(NamedTuple):
    """A model of one input and one output, all of it in memory.

    Attributes:
        model: Its nodes are in order, and all are needed; no function or value_info is left.
        notes: What a user should know, a line each.
        takes_pixels: Whether the input was uint8; it is float32 now.
    """

    model: onnx.ModelProto
    notes: tuple[str, ...]
    takes_pixels: bool


def load(
    data: bytes,
    folder: StrPath | None = None,
    *,
    output: str | None = None,
    fallback: str | None = None,
) -> Cleaned:
    """Read an ONNX model.

    Args:
        data: The bytes of the file; messages do not name it.
        folder: Its folder, from which weights in other files are read; None: there are none.
        output: Name of the output to keep, or of any other tensor; needed where there are several.
        fallback: The same, where there are several outputs and none is chosen.

    Raises:
        FileError: It is not an ONNX model, or one that cannot be read.
    """
    model = parse(data)
    check_node_count(model)
    output = choose_output(model.graph, output, fallback)
    keep_needed(model.graph, output)
    if model.functions:
        model = inline_functions(model, MAX_NODES, MAX_BYTES)
        keep_needed(model.graph, output)
    strip(model)
    left = MAX_BYTES - len(data)
    for name, tensor in tensors_of(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            left -= read_external(name, tensor, folder, left)
        check_tensor(name, tensor)
    types = to_float32(model.graph)
    if len(inputs := model.graph.input) != 1:
        names = listed(value.name for value in inputs)
        raise GraphError(f"the network reads {len(inputs)} inputs, expected one: {names}")
    takes_pixels = to_float_input(model.graph)
    check_model(model)
    if (upgraded := upgrade(model)) is not model:
        model = upgraded
        keep_needed(model.graph, output)
        strip(model)
        check_model(model)
    model = expand_operations(model)
    check_node_count(model)
    notes = [f"converted from {' and '.join(types)} to float32"] if types else []
    if takes_pixels:
        notes.append(
            "the input is uint8: the network takes pixels from 0 to 255 and normalizes them itself"
        )
    return Cleaned(model, tuple(notes), takes_pixels)


def parse(data: bytes) -> onnx.ModelProto:
    """The protobuf message in `data`. Raises FileError."""
    problem = mismatch("an ONNX model", data[:HEAD])
    if looks_like(data[:HEAD]) == ONNX:
        problem = "truncated or damaged ONNX model; copy it again, or export it again"
    check_fields(data)
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's DecodeError has no public name
        raise FileError(problem) from None
    if not model.HasField("graph"):
        raise FileError(problem)
    return model


def check_node_count(model: onnx.ModelProto) -> None:
    """Raise GraphError where there are more nodes than the largest networks have."""
    nodes = sum(1 for _ in every_node(model.graph.node))
    if nodes > MAX_NODES:
        raise GraphError(f"the graph has {nodes:,} nodes; at most {MAX_NODES:,} are read")


def choose_output(graph: onnx.GraphProto, output: str | None, fallback: str | None) -> str:
    """Name of the output to keep. Raises GraphError where that is not clear; see `load`."""
    names = [value.name for value in graph.output]
    if not names:
        raise GraphError("the model has no output")
    if output is None and len(names) == 1:
        return str(names[0])
    made = {name for node in graph.node for name in node.output if name}
    if output is None and fallback in made:
        output = fallback
    if output is None:
        raise GraphError(
            f"the model has {len(names)} outputs, {listed(names)}; choose one with output_name"
        )
    if output not in names and output not in made:
        raise GraphError(f"no output '{output}'; the outputs are {listed(names)}")
    return output


def strip(model: onnx.ModelProto) -> None:
    """Remove what is no part of the network, and what the checker need not agree with."""
    del model.training_info[:]
    del model.functions[:]
    del model.graph.value_info[:]
    del model.graph.quantization_annotation[:]


def check_model(model: onnx.ModelProto) -> None:
    """Raise FileError where ONNX's checker refuses the model, whose output has no shape then."""
    output = model.graph.output[0].type.tensor_type
    output.ClearField("shape")
    output.shape.SetInParent()  # the checker wants any shape
    with layer_norms_unchecked(model):
        check_proto(model)
    output.ClearField("shape")


@contextmanager
def layer_norms_unchecked(model: onnx.ModelProto) -> Iterator[None]:
    """Hide each LayerNormalization of an opset before ONNX's own; ONNX Runtime writes these."""
    nodes = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    if not nodes or opset_of(model) >= LAYER_NORM_OPSET:
        yield
        return
    model.opset_import.append(onnx.helper.make_opsetid("unchecked", 1))
    for node in nodes:
        node.domain = "unchecked"
    yield
    del model.opset_import[-1]
    for node in nodes:
        node.domain = ""


def check_proto(model: onnx.ModelProto) -> None:
    """Raise FileError where ONNX's checker refuses the model."""
    try:
        model.ir_version = max(
            IR_VERSION, onnx.helper.find_min_ir_version_for(model.opset_import, True)
        )
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise FileError(f"the ONNX checker refuses it: {brief(error, 300)}") from None


def fix_size(model: onnx.ModelProto, size: Sequence[int] | None) -> None:
    """Fill the height and width of an input of images where they are dynamic.

    Args:
        model: Changed in place. Its input is (N, C, H, W), or (N, H, W, C) where only the last
            size is fixed.
        size: Height and width; None: nothing is done.
    """
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if size is None or len(dims) != 4:
        return
    fixed = [dim.HasField("dim_value") for dim in dims]
    first = 2 if fixed[1] or not fixed[3] else 1
    for axis, pixels in zip((first, first + 1), size, strict=True):
        if not fixed[axis]:
            dims[axis].dim_value = pixels
