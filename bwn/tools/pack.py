"""From a trained network to a .bwn file: load, run the passes, choose activations, write."""

from __future__ import annotations

import codecs
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from bwn._file_types import HEAD, PACKABLE, SOURCES, UNKNOWN, looks_like, mismatch
from bwn._files import check_ending, read_limited, same_file
from bwn._text import __version__, count_noun
from bwn._types import StrPath
from bwn.errors import ArgumentError, DataError, FileError, GraphError
from bwn.format import write
from bwn.ir.checker import check, check_spec
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Node
from bwn.ir.quantization import Quantizations
from bwn.onnx.importer import MAX_BYTES, Loaded, from_bytes
from bwn.ops import Weighted
from bwn.passes import pipeline
from bwn.passes.set_activations import set_activations
from bwn.tools.calibrate import input_batches, int8_scales
from bwn.tools.inspect import LayerRow, layer_rows
from bwn.tools.pack_preprocess import check_preprocess, choose_preprocess

ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, and what they say. The mark of UTF-32 starts with that of UTF-16."""
NEAR = 0.05
"""Mean distance of weights from +-1 that costs little accuracy."""
MAX_CLASSES_FILE = 2**24
"""Largest file of class names, in bytes."""
Mode = Literal["auto", "float32", "int8", "binary"]


class PackReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `pack` wrote.

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
        follows_source: Whether `verify` can compare the two: not where the source rounds
            activations to 8 bits and the file does not.
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
    follows_source: bool
    resumable: bool = False


def pack(
    source: StrPath,
    target: StrPath,
    *,
    activations: Mode = "auto",
    calibration: StrPath | Iterable[Any] | None = None,
    skip_bad: bool = False,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> PackReport:
    """Pack a trained network into a .bwn file, with one bit per weight where weights are binary.

    Args:
        source: A checkpoint of `bwn train` (.pt) or an ONNX file.
        target: The .bwn file to write.
        activations: How packed layers read their inputs. `auto`: exactly, as signs or 8 bits where
            the source has them, else as float32. `float32`: as they are. `int8`: quantized to 8
            bits where they are not signs. `binary`: as signs.
        calibration: With `int8`, what fixes the scales: a folder of images or a data set; images as
            `Model.predict` takes them; or prepared inputs, (N, *input_shape) float32. None: each
            image has its own scale.
        skip_bad: Whether images of a calibration folder that cannot be read are left out, with a
            warning; otherwise they are an error that lists them.
        preprocess: Replaces what the source says; a mapping replaces single fields of it.
        classes: Names of the classes; they replace those of the source.

    Returns:
        Sizes, layers, and notes on what was assumed.

    Raises:
        FileError: The source is refused, or the target cannot be written.
        DataError: Images of the calibration cannot be read.
        ArgumentError: Arguments do not go together, or do not fit the network; or the target has
            the ending of another kind of file.

    Example:
        >>> import bwn
        >>> report = bwn.pack("model.onnx", "small.bwn")
        >>> f"{report.before / report.file:.1f} times smaller than float32"
        '29.4 times smaller than float32'
    """
    if activations not in get_args(Mode):
        raise ArgumentError(
            f"activations is {activations!r}, expected one of {', '.join(get_args(Mode))}"
        )
    if calibration is not None and activations != "int8":
        raise ArgumentError("calibration needs int8 activations")
    if same_file(source, target):
        read_source(source)  # says so if it is packed already
        raise ArgumentError(f"{target}: source and target are the same file; name another target")
    check_ending(target, ".bwn")
    loaded, margins, quantizations = load(source)
    unfinished, resumable = interrupted(source, margins)
    shape = tuple(loaded.graph.topology.input_shape)
    rule, notes = choose_preprocess(loaded.preprocess, preprocess, shape)
    notes += unfinished
    names = loaded.classes if classes is None else checked_names(classes)
    graph = with_activations(
        pipeline.run(loaded.graph), activations, calibration, rule, quantizations, skip_bad
    )
    spec = ModelSpec(graph=graph, preprocess=rule, classes=names, producer=f"bwn {__version__}")
    if (rule, names) != (loaded.preprocess, loaded.classes):
        check_arguments(spec)
    write(target, spec)
    notes += quantization_notes(graph, quantizations)
    follows_source = activations != "float32" or not quantizations
    if not follows_source:
        notes.append(
            "the source rounds activations to 8 bits and the file does not, so their scores differ"
        )
    if names is None:
        notes.append("class names are unknown: predictions show class numbers; set classes")
    packed = report(source, target, spec, margins, notes, follows_source)
    return msgspec.structs.replace(packed, resumable=resumable)


def read_source(source: StrPath) -> bytes:
    """The bytes of a checkpoint or an ONNX file; other kinds of file are refused."""
    data = read_limited(source, MAX_BYTES, SOURCES)
    kind = looks_like(data[:HEAD])
    if ".bwn" in kind:
        raise FileError(f"{source}: packed already; bwn pack takes {SOURCES}")
    if kind not in (*PACKABLE, UNKNOWN) and not os.fspath(source).endswith(".onnx"):
        raise FileError(f"{source}: {mismatch(SOURCES, data[:HEAD])}")
    return data


def load(source: StrPath) -> Loaded:
    """What a checkpoint or an ONNX file holds.

    Raises:
        FileError: It is refused; the message names it.
    """
    data = read_source(source)
    if "PyTorch" in looks_like(data[:HEAD]):
        data = exported(source)
    try:
        return from_bytes(data)
    except FileError as error:
        raise type(error)(f"{source}: {error}") from None


def exported(checkpoint: StrPath) -> bytes:
    """The ONNX file of a checkpoint."""
    from bwn.train import export_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_checkpoint(checkpoint, path)
        return path.read_bytes()


def interrupted(source: StrPath, margins: Mapping[str, float]) -> tuple[list[str], bool]:
    """Notes on a checkpoint of a run that has not ended, and whether that run can be resumed.

    margins: Of the layers; where they are small the checkpoint is not read again.
    """
    distance = sum(margins.values()) / max(len(margins), 1)
    if distance < NEAR:
        return [], False
    with open(source, "rb") as file:
        if "PyTorch" not in looks_like(file.read(HEAD)):
            return [], False
    from bwn.train import read_checkpoint

    description = read_checkpoint(source).description
    if description.finished:
        return [], False
    note = (
        f"the training run was interrupted, with weights still far from +-1 ({distance:.3f} on "
        "average), so accuracy will suffer"
    )
    return [note], description.best is None


def with_activations(
    graph: Graph,
    mode: Mode,
    calibration: StrPath | Iterable[Any] | None,
    preprocess: Preprocess | None,
    quantizations: Quantizations,
    skip_bad: bool = False,
) -> Graph:
    """`graph` with activations chosen, and int8 scales fixed where there are images.

    What the source says of a layer is kept.
    """
    chosen = set_activations(graph, mode, quantizations=quantizations)
    if calibration is not None:
        shape = tuple(graph.topology.input_shape)
        batches = input_batches(calibration, preprocess, shape, skip_bad)
        scales = int8_scales(chosen, batches)
        chosen = set_activations(graph, mode, scales, quantizations)
    check(chosen)
    return chosen


def quantization_notes(graph: Graph, quantizations: Quantizations) -> list[str]:
    """What a user should know of 8-bit activations."""
    notes = []
    layers = [node for node in graph.nodes if isinstance(node, Weighted) and node.is_quantized]
    fixed = [quantizations.get((node.input, node.weight)) for node in layers]
    if whole := sum(quantization is not None and quantization.whole for quantization in fixed):
        notes.append(
            f"the source uses all 256 values of 8 bits in {count_noun(whole, 'layer')}, bwn 255: "
            "-128 or 255 becomes its neighbor"
        )
    if None in fixed:
        notes.append(
            "8-bit activations cost some accuracy: verify on labeled images to see how much"
        )
    return notes


def checked_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The caller's class names. Raises ArgumentError where they are not a list of str."""
    several = isinstance(classes, Sequence) and not isinstance(classes, str)
    if not several or not all(isinstance(name, str) for name in classes):
        raise ArgumentError("classes: expected a list of names")
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise ArgumentError(f"classes: '{twice[0]}' is there twice")
    return tuple(classes)


def check_arguments(spec: ModelSpec) -> None:
    """Raise ArgumentError where preprocessing or class names do not fit the (legal) graph."""
    if spec.preprocess is not None:
        check_preprocess(spec.preprocess, tuple(spec.graph.topology.input_shape))
    try:
        check_spec(spec)
    except GraphError as error:
        raise ArgumentError(str(error)) from None


def read_class_names(path: StrPath) -> tuple[str, ...]:
    """Class names of a text file, one on each line; empty lines are skipped.

    The text is UTF-8, or what its byte order mark says.

    Raises:
        FileError: The file cannot be read.
        DataError: It is not text.
    """
    data = read_limited(path, MAX_CLASSES_FILE, "a text file of class names")
    encoding = next((name for mark, name in ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        lines = re.split(r"\r\n|\r|\n", data.decode(encoding))
    except UnicodeError:
        raise DataError(
            f"{path}: class names are not {encoding.removesuffix('-sig').upper()} text; save the "
            "file as UTF-8"
        ) from None
    return tuple(line.strip() for line in lines if line.strip())


def report(
    source: StrPath,
    target: StrPath,
    spec: ModelSpec,
    margins: dict[str, float],
    notes: list[str],
    follows_source: bool,
) -> PackReport:
    """The report of a written file."""
    graph = spec.graph
    layers = [
        pair for pair in zip(graph.nodes, layer_rows(graph, margins), strict=True) if pair[1].stored
    ]
    notes += [f"{row.name}: {why}" for node, row in layers if (why := almost_binary(graph, node))]
    rows = tuple(row for _, row in layers)
    if not any(row.stored == "1 bit" for row in rows):
        notes.append(
            "no layer has binary weights (+a and -a in each output channel): all stay float32"
        )
    return PackReport(
        source=os.fspath(source),
        target=os.fspath(target),
        layers=rows,
        before=sum(row.before for row in rows),
        after=sum(array.nbytes for array in graph.tensors.values()),
        file=os.path.getsize(target),
        preprocess=spec.preprocess,
        classes=spec.classes,
        notes=tuple(notes),
        follows_source=follows_source,
    )


def almost_binary(graph: Graph, node: Node) -> str | None:
    """Why a layer whose channels are mostly +-a stays float32; None for any other node."""
    if not isinstance(node, Weighted) or node.is_packed(graph.tensors):
        return None
    stored = graph.tensors[node.weight]
    weight = np.abs(stored.astype(np.float32, copy=False).reshape(len(stored), -1))
    if weight.shape[1] <= 2:
        return None
    odd = np.flatnonzero((weight[:, 0] == 0) | (weight != weight[:, :1]).any(axis=1))
    if 2 * len(odd) >= len(weight):
        return None
    low, high = weight[odd[0]].min(), weight[odd[0]].max()
    return (
        f"stays float32: {len(odd):,} of {count_noun(len(weight), 'output channel')} hold more "
        f"than +a and -a (the first is {odd[0]}, with magnitudes {low:g} to {high:g})"
    )
