"""From a packed model or a checkpoint to an ONNX file that other tools run."""

from __future__ import annotations

import os
from typing import NamedTuple

from msgspec.structs import replace

from bwn._file_types import HEAD, ONNX, PACKED, looks_like
from bwn._files import check_ending, check_file, same_file, write_atomically
from bwn._text import count_noun, read_failure
from bwn._types import StrPath
from bwn.errors import ArgumentError, FileError
from bwn.format import read
from bwn.ir.graph import Graph
from bwn.onnx.exporter import to_onnx_bytes
from bwn.ops.quantize import Quantize
from bwn.ops.weighted import Weighted
from bwn.passes import pipeline
from bwn.passes.separate_quantize import separate_quantize
from bwn.passes.separate_scale import separate_scale
from bwn.passes.set_activations import set_activations
from bwn.tools.pack import load

SOURCES = "a .bwn file or a .pt checkpoint"


class ExportReport(NamedTuple):
    """What was written.

    Attributes:
        size: Bytes of the ONNX file.
        notes: What the ONNX file cannot say, a line each.
    """

    size: int
    notes: tuple[str, ...]


def export(source: StrPath, target: StrPath, *, qonnx: bool = False) -> ExportReport:
    """Write a packed model or a checkpoint as an ONNX file, with preprocessing and class names.

    One-bit weights are +-alpha in float32, and 8-bit activations of a fixed scale are rounded by
    QuantizeLinear, Clip and DequantizeLinear, so any ONNX runtime can run it. `pack` makes the
    same network of it again.

    Args:
        source: A .bwn file or a checkpoint of `bwn train` (.pt).
        target: The ONNX file to write.
        qonnx: Whether to write QONNX, for tools that read its integers: BipolarQuant for one-bit
            weights and signs, Quant for rounded activations. ONNX Runtime does not run it.

    Returns:
        The size, and notes.

    Raises:
        ArgumentError: The two are the same file, or `target` has the ending of another kind of
            file.
        FileError: The source is refused, or the target cannot be written.
        BwnError: torch cannot export the checkpoint.

    Example:
        >>> import bwn
        >>> bwn.export("model.bwn", "again.onnx").notes
        ()
    """
    if same_file(source, target):
        raise ArgumentError(f"{target}: source and output are the same file; name another output")
    check_ending(target, ".onnx")
    kind = kind_of(source)
    if kind == ONNX:
        raise FileError(f"{source}: an ONNX model already; bwn export takes {SOURCES}")
    if kind == PACKED:
        spec = read(source)
    elif qonnx:
        loaded = load(source).spec
        spec = replace(loaded, graph=set_activations(pipeline.run(loaded.graph), "auto"))
    else:
        from bwn.train import export_checkpoint

        export_checkpoint(source, target)
        return ExportReport(os.path.getsize(target), ())
    separate = separate_scale(separate_quantize(spec.graph))
    data = to_onnx_bytes(replace(spec, graph=separate), qonnx=qonnx)
    write_atomically(target, data)
    return ExportReport(len(data), tuple(measured_notes(spec.graph)))


def kind_of(source: StrPath) -> str:
    """What kind of file it is, by its first bytes."""
    check_file(source, SOURCES)
    try:
        with open(source, "rb") as file:
            return looks_like(file.read(HEAD))
    except OSError as error:
        raise FileError(read_failure(source, error)) from None


def measured_notes(graph: Graph) -> list[str]:
    """A note where activations are rounded by a scale of each image, which ONNX cannot say."""
    layers = sum(
        isinstance(node, Weighted) and node.is_quantized and node.input_scale is None
        for node in graph.nodes
    )
    notes = []
    if layers:
        notes.append(
            f"{count_noun(layers, 'layer')} with 8-bit activations that are scaled for each image "
            "read float32 in the ONNX file; packing it with int8 activations brings them back"
        )
    others = sum(isinstance(node, Quantize) and node.scale is None for node in graph.nodes)
    if others:
        notes.append(
            f"{count_noun(others, 'tensor')} rounded with a scale for each image are not rounded "
            "in the ONNX file"
        )
    return notes
