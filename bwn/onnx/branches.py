"""If with a constant condition, as exporters write around Squeeze: the nodes of one branch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx

from bwn.onnx.onnx_node import OnnxNode
from bwn.onnx.protobuf import to_array
from bwn.onnx.tensors import subgraphs

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState


def branch_of(state: ImportState, proto: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the branch that an If takes, then one for each of its outputs.

    The branch's own names get a prefix of its own: another branch may use them too. A prefix that
    they have from a branch around this one is replaced, so that names do not grow.

    Raises:
        GraphError: The condition is no constant.
    """
    node = OnnxNode("If", proto.name, tuple(proto.input), tuple(proto.output), {}, proto)
    condition = state.constant(node, 0)
    if condition.size != 1:
        raise node.refuse(f"has a condition of shape {condition.shape}, expected one value")
    wanted = "then_branch" if condition.all() else "else_branch"
    graph = next((item.g for item in proto.attribute if item.name == wanted), onnx.GraphProto())
    if len(graph.output) != len(proto.output):
        raise node.refuse(f"has {len(proto.output)} outputs, its {wanted} {len(graph.output)}")
    own = {tensor.name for tensor in graph.initializer}
    own |= {name for inner in graph.node for name in inner.output if name}
    state.branches += 1
    prefix = f"branch{state.branches}"
    names = {name: f"{prefix}/{name.rpartition('/')[2]}" for name in own}
    for tensor in graph.initializer:
        state.constants[names[tensor.name]] = to_array(tensor)
    for inner in graph.node:
        renamed = onnx.NodeProto()
        renamed.CopyFrom(inner)
        rename(renamed, names)
        yield renamed
    for end, output in zip(graph.output, proto.output, strict=True):
        source = names.get(end.name, end.name)
        yield onnx.helper.make_node("Identity", [source], [output], name=node.label)


def rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Rename what a node and its subgraphs read and make, in place."""
    for field in (node.input, node.output):
        field[:] = [names.get(name, name) for name in field]
    for attribute in node.attribute:
        for graph in subgraphs(attribute):
            for inner in graph.node:
                rename(inner, names)
            for end in graph.output:
                end.name = names.get(end.name, end.name)
