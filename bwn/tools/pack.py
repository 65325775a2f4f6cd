"""From a trained network to a .bwn file: load, pass, choose activations, write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from bwn._file_types import HEAD, UNKNOWN, looks_like, read_limited
from bwn._files import same_file
from bwn.errors import BwnError, FileError, GraphError
from bwn.format import write
from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Shape
from bwn.ir.quantization import Quantizations
from bwn.onnx.importer import MAX_BYTES, Loaded, from_bytes
from bwn.ops import Weighted
from bwn.passes import pipeline
from bwn.passes.set_activations import set_activations
from bwn.tools.calibrate import int8_steps, prepared
from bwn.tools.inspect import LayerRow, layer_rows

Mode = Literal["auto", "float32", "int8", "binary"]
StrPath = str | os.PathLike[str]


class PackReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `pack` did. before, after: bytes of all weights, as float32 and as stored; file: bytes of the .bwn file."""

    source: str
    target: str
    layers: tuple[LayerRow, ...]
    before: int
    after: int
    file: int
    preprocess: Preprocess | None
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


def pack(
    source: StrPath,
    target: StrPath,
    *,
    activations: Mode = "auto",
    calibration: Iterable[Any] | None = None,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> PackReport:
    """Pack the network of `source` into the .bwn file `target`.

    source: a checkpoint of `bwn train` (.pt) or an ONNX file.
    activations: how packed layers read their inputs (bwn/passes/set_activations.py).
    calibration: with int8, images that fix the steps: (N, *input_shape) float32, or images as Model.predict takes
        them; None: each image's own step.
    preprocess: replaces what the source says; a mapping replaces single fields of it.
    classes: replace what the source says.
    Raises FileError where the source is refused, BwnError where options do not fit it.
    """
    if calibration is not None and activations != "int8":
        raise BwnError("calibration goes with --activations int8 only")
    if same_file(source, target):
        raise BwnError(f"{os.fspath(target)}: would overwrite the network that it is made from")
    loaded, margins, roundings = load(source)
    shape = tuple(loaded.graph.topology.input_shape)
    chosen, notes = choose_preprocess(loaded.preprocess, preprocess, shape)
    names = loaded.classes if classes is None else tuple(classes)
    graph = with_activations(
        pipeline.run(loaded.graph), activations, calibration, chosen, roundings
    )
    made = ModelSpec(
        graph=graph, preprocess=chosen, classes=names, producer=f"bwn {version('bwn')}"
    )
    write(target, made)
    notes += rounding_notes(graph, roundings, os.fspath(source), os.fspath(target))
    if names is None:
        notes.append("class names are not known: infer prints numbers; give them with --classes")
    return report(source, target, made, margins, notes)


def load(source: StrPath) -> Loaded:
    """What a checkpoint or an ONNX file says, told by its contents. Raises FileError."""
    data = read_limited(source, MAX_BYTES)
    kind = looks_like(data[:HEAD])
    if "torch" in kind:
        data = exported(source)
    elif "ONNX" not in kind and kind != UNKNOWN and not os.fspath(source).endswith(".onnx"):
        already = "already packed" if "bwn" in kind else f"it looks like {kind}"
        raise FileError(
            f"{os.fspath(source)}: {already}; bwn pack takes a .pt checkpoint or an ONNX file"
        )
    try:
        return from_bytes(data)
    except FileError as error:
        raise type(error)(f"{os.fspath(source)}: {error}") from None


def exported(checkpoint: StrPath) -> bytes:
    """The ONNX file of a checkpoint."""
    from bwn.train import export_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_checkpoint(checkpoint, path)
        return path.read_bytes()


def with_activations(
    graph: Graph,
    mode: Mode,
    calibration: Iterable[Any] | None,
    preprocess: Preprocess | None,
    roundings: Quantizations,
) -> Graph:
    """`graph` with activations chosen, and int8 steps fixed if there are images; what the source fixes stays."""
    made = set_activations(graph, mode, quantizations=roundings)
    if calibration is not None:
        batches = prepared(calibration, preprocess, tuple(graph.topology.input_shape))
        made = set_activations(graph, mode, int8_steps(made, batches), roundings)
    check(made)
    return made


def rounding_notes(graph: Graph, roundings: Quantizations, source: str, target: str) -> list[str]:
    """What a user should know of 8-bit activations."""
    notes = []
    rounded = [node for node in graph.nodes if node.is_quantized]
    given = [
        roundings.get((node.input, node.weight)) for node in rounded if isinstance(node, Weighted)
    ]
    if whole := sum(rounding is not None and rounding.whole for rounding in given):
        notes.append(
            f"{whole} inputs have 256 values of 8 bits in the source, 255 here: -128 or 255 becomes its neighbour"
        )
    if None in given:
        notes.append(
            f"8-bit activations round; what accuracy that costs: bwn verify {target} {source} --images DATA"
        )
    return notes


def choose_preprocess(
    found: Preprocess | None, given: Preprocess | Mapping[str, Any] | None, shape: Shape
) -> tuple[Preprocess | None, list[str]]:
    """Preprocessing of the file, and notes on what was assumed. Raises GraphError where it does not fit."""
    if isinstance(given, Preprocess):
        return given, []
    fields = {key: value for key, value in (given or {}).items() if value is not None}
    if found is not None:
        return (replaced(found, fields) if fields else found), []
    color = fields.get("color", {1: "L", 3: "RGB"}.get(shape[0] if len(shape) == 3 else 0))
    size = fields.get("size", shape[1:] if len(shape) == 3 else None)
    if color is None or size is None:
        if fields:
            raise GraphError(f"preprocess: an input of shape {shape} needs --size and --color")
        return None, [
            f"preprocessing is not known for an input of shape {shape}; infer needs --size and --color here"
        ]
    channels = 1 if color == "L" else 3
    base = Preprocess(size=size, color=color, mean=(0.0,) * channels, std=(1.0,) * channels)
    made = replaced(base, fields)
    missing = [name for name in ("mean", "std") if name not in fields]
    note = f"the source does not say how images are prepared; assumed: {made.color}, {made.resize}, x = (pixel / 255 - "
    return made, [f"{note}mean) / std with mean {made.mean}, std {made.std}"] if missing else []


def replaced(base: Preprocess, fields: Mapping[str, Any]) -> Preprocess:
    """`base` with other fields, types checked."""
    try:
        return msgspec.convert({**msgspec.structs.asdict(base), **fields}, Preprocess)
    except msgspec.ValidationError as error:
        raise GraphError(f"preprocess: {error}") from None


def report(
    source: StrPath, target: StrPath, made: ModelSpec, margins: dict[str, float], notes: list[str]
) -> PackReport:
    """The report of a written file."""
    rows = tuple(row for row in layer_rows(made.graph, margins) if row.stored)
    notes += [f"{row.name}: {why}" for row in rows if (why := almost_binary(made.graph, row))]
    if not any(row.stored == "1 bit" for row in rows):
        notes.append(
            "no layer is binary by value (each output channel all +-alpha): every weight stays float32"
        )
    return PackReport(
        source=os.fspath(source),
        target=os.fspath(target),
        layers=rows,
        before=sum(row.before for row in rows),
        after=sum(array.nbytes for array in made.graph.tensors.values()),
        file=os.path.getsize(target),
        preprocess=made.preprocess,
        classes=made.classes,
        notes=tuple(notes),
    )


def almost_binary(graph: Graph, row: LayerRow) -> str | None:
    """Why a layer most of whose channels are +-alpha stays float32; None for any other layer."""
    node = next(node for node in graph.nodes if node.output == row.name)
    if (
        not isinstance(node, Weighted)
        or node.is_packed(graph.tensors)
        or prod(row.weights[1:]) <= 2
    ):
        return None
    weight = np.abs(
        graph.tensors[node.weight].astype(np.float32, copy=False).reshape(row.weights[0], -1)
    )
    odd = np.flatnonzero((weight[:, 0] == 0) | (weight != weight[:, :1]).any(axis=1))
    if 2 * len(odd) >= len(weight):
        return None
    found = f"{len(odd)} of {len(weight)} output channels are not all +-alpha (the first: {odd[0]}, with magnitudes "
    return (
        f"{found}{weight[odd[0]].min():g} to {weight[odd[0]].max():g}), so the layer stays float32"
    )
