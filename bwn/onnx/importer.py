"""ONNX to Graph. Nothing in the file is executed; what cannot be represented is refused by name.

Tensors keep their ONNX names, so that `bwn verify` can compare a layer with the tensor of the same
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec
import onnx

from bwn._text import one_line
from bwn._types import StrPath
from bwn.errors import GraphError
from bwn.ir.checker import check, check_spec
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import elements
from bwn.onnx import (
    arithmetic_readers,
    concat_readers,
    condition_readers,
    conv_transpose_readers,
    einsum_readers,
    gather_readers,
    matrix_readers,
    pad_readers,
    pool_readers,
    qonnx_readers,
    quantized_readers,
    reduction_readers,
    resize_readers,
    sign_readers,
    view_readers,
)
from bwn.onnx.branches import branch_of
from bwn.onnx.constant_folding import fold
from bwn.onnx.import_state import EXPLAINED, ImportState
from bwn.onnx.inputs import input_of
from bwn.onnx.loading import fix_size, load
from bwn.onnx.merged_images import read_merged
from bwn.onnx.microsoft_operators import standard_nodes
from bwn.onnx.onnx_node import OWN, STANDARD, NodeError, OnnxNode, RefusingMalformed
from bwn.onnx.opsets import OLDEST_OPSET, opset_of
from bwn.onnx.pixel_input import pixel_rule
from bwn.onnx.protobuf import plain_node, to_array
from bwn.onnx.quantized_operators import float_nodes
from bwn.onnx.quantized_readers import begin, clip_quantized, is_qonnx
from bwn.onnx.refusals import Refusals
from bwn.onnx.views import BATCH
from bwn.ops import node_types
from bwn.ops.onnx_reading import READERS
from bwn.ops.rearrange import Rearrange

MODULES = (
    node_types(),
    arithmetic_readers,
    concat_readers,
    condition_readers,
    conv_transpose_readers,
    einsum_readers,
    gather_readers,
    matrix_readers,
    pad_readers,
    pool_readers,
    qonnx_readers,
    quantized_readers,
    reduction_readers,
    resize_readers,
    sign_readers,
    view_readers,
)
"""Importing them fills READERS: the files of operations, and those of longer readers."""

NCHWC_HINT = (
    ": ONNX Runtime wrote it for one kind of CPU; pack the file that it was optimized from, or "
    "optimize with ORT_ENABLE_EXTENDED"
)
Value = TypeVar("Value")


class Loaded(NamedTuple):
    """The content of an ONNX file.

    Attributes:
        spec: The network, its preprocessing and its classes.
        margins: Mean of | 1 - |w| | over the real-valued weights, by tensor name, where the
            exporter wrote it.
        notes: What a user should know, a line each.
    """

    spec: ModelSpec
    margins: dict[str, float]
    notes: tuple[str, ...]


def from_bytes(
    data: bytes,
    folder: StrPath | None = None,
    *,
    output: str | None = None,
    size: Sequence[int] | None = None,
) -> Loaded:
    """Import an ONNX model.

    Args:
        data: The bytes of the file; messages do not name it.
        folder: See `bwn.onnx.loading.load`.
        output: See there.
        size: Height and width of the input, where the file leaves them open.

    Raises:
        FileError: It is not an ONNX model, or holds something that bwn does not support.
    """
    model, notes, takes_pixels = load(data, folder, output=output)
    fix_size(model, size)
    metadata = {item.key: item.value for item in model.metadata_props}
    graph, more = to_graph(model)
    rule = metadata_value(metadata, "bwn.preprocess", Preprocess)
    if rule is None and takes_pixels:
        rule = pixel_rule(graph.topology.input_shape)
    spec = ModelSpec(
        graph=graph,
        preprocess=rule,
        classes=metadata_value(metadata, "bwn.classes", tuple[str, ...]),
    )
    check_spec(spec)
    margins = metadata_value(metadata, "bwn.margins", dict[str, float])
    return Loaded(spec, margins or {}, (*notes, *more))


def metadata_value(metadata: dict[str, str], key: str, schema: type[Value]) -> Value | None:
    """A value that bwn's exporter wrote into the metadata; None without one."""
    if key not in metadata:
        return None
    try:
        return msgspec.json.decode(metadata[key], type=schema)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise GraphError(f"metadata '{key}' cannot be read: {error}") from None


def to_graph(model: onnx.ModelProto) -> tuple[Graph, list[str]]:
    """The graph of a parsed model, and notes for the user about it. Raises GraphError."""
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise GraphError(
            f"opset {opset}; opsets {OLDEST_OPSET} to {newest} are supported: "
            "export with one of these"
        )
    view, single = input_of(model)
    state = ImportState(view.source, view.shape, opset, single=single, file=model.ByteSize())
    state.views[view.source] = view
    for tensor in model.graph.initializer:
        state.constants[tensor.name] = to_array(tensor)
    read_nodes(state, model)
    output = output_of(model, state)
    graph = Graph(
        topology=msgspec.structs.replace(state.topology, output=output, nodes=tuple(state.nodes)),
        tensors=state.tensors,
    )
    check(graph)
    return graph, state.notes


def read_nodes(state: ImportState, model: onnx.ModelProto) -> None:
    """Import all nodes. Raises GraphError: of the one that cannot be read, or of all of them."""
    refusals, first = Refusals(), None
    sizes: dict[str, list[int | None]] = {}
    for proto in (new for node in float_nodes(model.graph) for new in standard_nodes(node)):
        if state.unknown.intersection(proto.input):
            state.unknown.update(proto.output)
            continue
        try:
            read_node(state, proto)
        except GraphError as error:
            sizes = sizes if first else inferred_sizes(model)
            first = first or error
            reason = error.reason if isinstance(error, NodeError) else str(error)
            refusals.add(kind_of(proto), proto.name or min(proto.output, default=""), reason)
            views = [state.views[name] for name in proto.input if name in state.views]
            depends = bool(views) and all(view.axes[:1] == ((BATCH,),) for view in views)
            for name in proto.output:
                state.placeholder(name, sizes.get(name, ()) if depends else ())
    if first is not None:
        raise first if refusals.count == 1 else refusals.error()


def inferred_sizes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Sizes of the axes of inner tensors, where ONNX's shape inference knows them."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # its errors have no common class; a message is then shorter
        return {}
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.value_info, *graph.output)
    }


def kind_of(proto: onnx.NodeProto) -> str:
    """A node's operation, with its domain where that is not ONNX's own."""
    return proto.op_type if proto.domain in STANDARD else f"{proto.domain}::{proto.op_type}"


def read_node(state: ImportState, proto: onnx.NodeProto) -> None:
    """Import one node: fold it where it depends on constants alone, else call its reader."""
    if kind_of(proto) == "If":
        for inner in branch_of(state, proto):
            read_node(state, inner)
        return
    node = plain_node(proto)
    known = proto.domain in (*STANDARD, OWN) or is_qonnx(node.op_type, proto.domain)
    if known and (fold(state, node) or condition_readers.fold_choice(state, node)):
        return
    if not known or node.op_type not in READERS:
        hint = NCHWC_HINT if proto.domain == "com.microsoft.nchwc" else ""
        raise node.refuse(f"{kind_of(proto)} is not supported{hint}")
    with RefusingMalformed(node.refuse):
        node, integers = begin(state, node)
        clips = node.op_type == "Clip" and clip_quantized(state, node)
        if not clips and not read_merged(state, node):
            READERS[node.op_type](state, node)
    if integers is not None:
        state.integers |= dict.fromkeys(node.outputs, integers)


def output_of(model: onnx.ModelProto, state: ImportState) -> str:
    """Name of the graph's output. Raises GraphError where no node of the graph makes it."""
    name = model.graph.output[0].name
    if name in state.integers:
        raise GraphError(f"output '{one_line(name)}' is of integers; put DequantizeLinear last")
    state.complete(name)
    if name in state.pending:
        raise GraphError(f"output '{one_line(name)}': {EXPLAINED[state.pending[name].kind]}")
    if name not in state.views:
        raise GraphError(f"output '{one_line(name)}' does not depend on the input")
    node = OnnxNode("output", name, (name,), (), {})
    view = state.views[name]
    if state.single and len(view.axes[0]) > 1:  # a batch of 1 that is no axis
        view = view.without_batch().unsqueeze([0]).with_batch()
    source = state.planes(node, view, name)
    if source == state.topology.input and name != source:  # the elements of the input as they are
        shape = state.shapes[source]
        size = (elements(shape),)
        state.emit(Rearrange(input=source, output=name, shape=shape, sizes=size, strides=(1,)))
        return str(name)
    return source
