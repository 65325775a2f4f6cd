"""What a .bwn file holds: the facts that `bwn inspect` prints, and the layers of a graph."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from typing import Any

import msgspec

from bwn._types import StrPath
from bwn.format import read
from bwn.format.header import version_of
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Node, Shape
from bwn.ops.weighted import Weighted, layer_names


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One node.

    Attributes:
        name: Name of the layer, or of the tensor that a node without weights makes.
        op: Its operation.
        weights: Shape of its weights as floats, empty without weights.
        output_shape: Shape of one example's output.
        stored: `1 bit`, `int8`, `float32`, or empty.
        activations: How a weighted node reads its input, empty for other nodes.
        before: Bytes of its tensors with float32 weights.
        after: Bytes of its tensors as stored.
        multiplications: Multiply-accumulates of one example.
        margin: Mean distance | 1 - |w| | of the real-valued weights, if known.
    """

    name: str
    op: str
    weights: Shape
    output_shape: Shape
    stored: str
    activations: str
    before: int
    after: int
    multiplications: int
    margin: float | None = None


def inspect(
    path: StrPath, *, plan: bool = False, batch: int = 1, threads: int | None = None
) -> dict[str, Any]:
    """Read a .bwn file and describe it.

    Args:
        path: The file.
        plan: Whether to add how it would run on this machine.
        batch: Images in a run, for the plan.
        threads: Threads of the plan; None: every core.

    Returns:
        The facts by name: those of the file, `layers`, and `plan` if it was asked for.

    Raises:
        FileError: The file is refused.
    """
    spec = read(path)
    rows = layer_rows(spec.graph)
    facts: dict[str, Any] = {
        "file": os.fspath(path),
        "bytes": os.path.getsize(path),
        "version": version_of(spec),
        "producer": spec.producer,
        "input": list(spec.graph.topology.input_shape),
        "output": list(rows[-1].output_shape),
        "float32_bytes": sum(row.before for row in rows),
        "stored_bytes": sum(array.nbytes for array in spec.graph.tensors.values()),
        "multiplications": sum(row.multiplications for row in rows),
        "preprocess": spec.preprocess,
        "classes": spec.classes,
        "layers": rows,
    }
    return facts | ({"plan": plan_facts(spec, batch, threads)} if plan else {})


def plan_facts(spec: ModelSpec, batch: int, threads: int | None) -> dict[str, Any]:
    """How a batch would run on this machine; `pass` is how many images go through at a time."""
    from bwn.kernels.target.limits import available_threads
    from bwn.plan.explain import explain
    from bwn.plan.planner import make_plan

    plan = make_plan(spec.graph, batch, threads or available_threads(), passes=True)
    return explain(plan) | {"batch": batch, "pass": plan.batch}


def layer_rows(graph: Graph, margins: Mapping[str, float] | None = None) -> list[LayerRow]:
    """A row for each node of a legal graph, in order."""
    names = layer_names(graph)
    return [layer_row(graph, node, names[node.output], margins or {}) for node in graph.nodes]


def layer_row(graph: Graph, node: Node, name: str, margins: Mapping[str, float]) -> LayerRow:
    """The row of one node."""
    inputs = [graph.shapes[name] for name in node.inputs]
    output, layer = graph.shapes[node.output], node if isinstance(node, Weighted) else None
    weights: Shape = ()
    after = sum(graph.tensors[name].nbytes for name in node.constants)
    before = after
    stored = "float32" if node.constants else ""
    if layer is not None:
        stored = layer.weight_type(graph.tensors)
        weights = layer.weight_shape(output[0], inputs[0])
        before = 4 * prod(weights) + (4 * weights[0] if layer.bias is not None else 0)
    return LayerRow(
        name=name,
        op=node.op,
        weights=weights,
        output_shape=output,
        stored=stored,
        activations=layer.activations if layer else "",
        before=before,
        after=after,
        multiplications=node.macs(inputs, output),
        margin=margins.get(layer.weight) if layer else None,
    )
