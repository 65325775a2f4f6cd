"""What `bwn pack` says of a file: its layers, its sizes, and notes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import msgspec
import numpy as np

from bwn._text import OWN_TRAINING, byte_size, count_noun
from bwn._types import StrPath
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Node
from bwn.ops.weighted import Weighted
from bwn.passes.pack_weights import middles
from bwn.passes.split_offsets import ones_name
from bwn.tools.inspect import LayerRow, layer_rows


class PackReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `pack` wrote, or with `dry_run` would write.

    Attributes:
        source: The network that was packed.
        target: The .bwn file.
        layers: The layers that store tensors.
        before: Bytes of all weights as float32.
        after: Bytes of all weights as stored.
        file: Bytes of the .bwn file.
        preprocess: How images are prepared, or None.
        classes: Names of the classes, or None.
        notes: What a user should know, a line each.
        rounded: How many one-bit layers hold +a and -a only up to rounding.
        departure: How far their weights are from +-a at most, relative to a.
        compared: On how many inputs the network agrees with ONNX Runtime on the source; 0 where it
            was not compared.
        resumable: Whether the source is the state of a training run that was interrupted.
    """

    source: str
    target: str
    layers: tuple[LayerRow, ...]
    before: int
    after: int
    file: int
    preprocess: Preprocess | None
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]
    rounded: int = 0
    departure: float = 0.0
    compared: int = 0
    resumable: bool = False

    @property
    def size_and_notes(self) -> list[str]:
        """Lines with the sizes, the result of the comparison, and the notes."""
        line = f"{self.target}: {byte_size(self.file)} for {byte_size(self.before)} of float32 "
        line += "weights"
        if self.before >= 1.05 * self.file:
            line += f", {self.before / self.file:.1f} times smaller"
        lines = [line]
        if self.compared:
            inputs = count_noun(self.compared, "random input")
            lines.append(f"checked: agrees with ONNX Runtime on {inputs}")
        return lines + [f"note: {note}" for note in self.notes]

    def __str__(self) -> str:
        layers = [row for row in self.layers if row.weights]
        packed = [row for row in layers if row.stored == "1 bit"]
        counts = [sum(prod(row.weights) for row in rows) for rows in (packed, layers)]
        share = f"{counts[0] / (counts[1] or 1):.1%} of the weights"
        line = f"one bit: {len(packed):,} of {count_noun(len(layers), 'layer')} with {share}"
        return "\n".join([line, *self.size_and_notes])


@dataclass
class Facts:
    """What packing found out, for the report.

    Attributes:
        margins: Mean of | 1 - |w| | over the real-valued weights, by tensor name.
        tolerance: How far from +-a the weights of a one-bit layer may be, relative to a.
        notes: As in PackReport.
        departures: How far rounded weights were from +-a, by tensor name.
        compared: As in PackReport.
        resumable: As in PackReport.
    """

    margins: dict[str, float]
    tolerance: float
    notes: list[str] = field(default_factory=list)
    departures: dict[str, float] = field(default_factory=dict)
    compared: int = 0
    resumable: bool = False


def report(
    source: StrPath, target: StrPath, spec: ModelSpec, size: int, facts: Facts
) -> PackReport:
    """The report of a file.

    Args:
        source: The network.
        target: The file.
        spec: What it holds.
        size: Its bytes.
        facts: What else there is to say.
    """
    graph = spec.graph
    layers = [
        pair
        for pair in zip(graph.nodes, layer_rows(graph, facts.margins), strict=True)
        if pair[1].stored
    ]
    rows = tuple(row for _, row in layers)
    rounded = sum(
        isinstance(node, Weighted) and node.weight in facts.departures for node in graph.nodes
    )
    notes = [*facts.notes, *layer_notes(graph, layers, facts, rounded)]
    if spec.classes is None:
        notes.append("class names are unknown: predictions show class numbers; set classes")
    return PackReport(
        source=os.fspath(source),
        target=os.fspath(target),
        layers=rows,
        before=sum(row.before for row in rows),
        after=sum(array.nbytes for array in graph.tensors.values()),
        file=size,
        preprocess=spec.preprocess,
        classes=spec.classes,
        notes=tuple(notes),
        rounded=rounded,
        departure=max(facts.departures.values(), default=0.0),
        compared=facts.compared,
        resumable=facts.resumable,
    )


def layer_notes(
    graph: Graph, layers: Sequence[tuple[Node, LayerRow]], facts: Facts, rounded: int
) -> Iterator[str]:
    """What a user should know of the layers. rounded: how many are binary up to rounding."""
    if rounded:
        yield (
            f"the weights of {count_noun(rounded, 'one-bit layer')} were +a and -a up to rounding, "
            f"at most {max(facts.departures.values()):.1e} from a, relative to a"
        )
    split = [node for node, _ in layers if ones_name(node.constants[0]) in graph.tensors]
    if split:
        yield (
            f"{count_noun(len(split), 'layer')} with two values in each output channel: stored as "
            "one-bit weights and an offset, in three layers"
        )
    rows = [row for _, row in layers]
    for node, row in layers:
        if why := almost_binary(graph, node, facts.tolerance):
            yield f"{row.name}: {why}"
    if not any(row.stored == "1 bit" for row in rows):
        kept = "all stay float32, and the file is no smaller"
        if any(row.stored == "int8" for row in rows):
            kept = "none has one bit a weight"
        yield (
            f"no layer has binary weights (+a and -a in each output channel): {kept}; to make it "
            f"small, binarize the network and train it (bwn.train.binarize, {OWN_TRAINING})"
        )


def almost_binary(graph: Graph, node: Node, tolerance: float) -> str | None:
    """Why a layer whose channels are mostly +-a stays float32; None for any other node."""
    if not isinstance(node, Weighted) or node.weight_type(graph.tensors) != "float32":
        return None
    weight = graph.tensors[node.weight]
    if weight[0].size <= 2:
        return None
    alpha, departure = middles(weight)
    odd = np.flatnonzero(departure > tolerance)
    if 2 * len(odd) >= len(weight) or not alpha.any():
        return None
    first = np.abs(weight[odd[0]].astype(np.float32, copy=False))
    return (
        f"stays float32: {len(odd):,} of {count_noun(len(weight), 'output channel')} hold more "
        f"than +a and -a (the first is {odd[0]}, with magnitudes {first.min():g} to "
        f"{first.max():g})"
    )
