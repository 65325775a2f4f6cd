"""From a trained network to a .bwn file: load, run the passes, choose activations, write."""

from __future__ import annotations

import codecs
import operator
import os
import re
import reprlib
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from msgspec.structs import replace

from bwn._arguments import check_range
from bwn._file_types import (
    CHECKPOINT,
    HEAD,
    PACKABLE,
    PACKED,
    SOURCES,
    UNKNOWN,
    looks_like,
    mismatch,
)
from bwn._files import check_ending, read_limited, same_file
from bwn._text import __version__, count_noun
from bwn._types import StrPath
from bwn.data.preprocess_rule import check_preprocess, choose_preprocess, plain_fields
from bwn.data.presets import SIZE
from bwn.errors import ArgumentError, DataError, FileError, GraphError
from bwn.format import write
from bwn.format.writer import to_bytes
from bwn.ir.checker import check, check_spec
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.onnx.importer import Loaded, from_bytes
from bwn.onnx.loading import MAX_BYTES
from bwn.ops.weighted import Weighted
from bwn.passes import pipeline
from bwn.passes.pack_weights import LARGEST_TOLERANCE, TOLERANCE, departures
from bwn.passes.quantize_weights import quantize_weights
from bwn.passes.quantized_inputs import Grid, grids
from bwn.passes.set_activations import set_activations
from bwn.tools.calibrate import input_batches, int8_scales
from bwn.tools.pack_check import compare_source
from bwn.tools.pack_report import Facts, PackReport, report

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


def pack(
    source: StrPath,
    target: StrPath,
    *,
    activations: Mode = "auto",
    calibration: StrPath | Iterable[Any] | None = None,
    skip_bad: bool = False,
    float_layers: bool = False,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    output_name: str | None = None,
    binary_tolerance: float = TOLERANCE,
    check: bool = True,
    dry_run: bool = False,
) -> PackReport:
    """Pack a trained network into a .bwn file, with one bit per weight where weights are binary.

    Args:
        source: A checkpoint of `bwn train` (.pt) or an ONNX file.
        target: The .bwn file to write.
        activations: How packed layers read their inputs. `auto`: exactly, as signs or 8 bits where
            the source has them, else as float32. `float32`: as they are. `int8`: quantized to 8
            bits where they are not signs; layers whose weights are not binary get 8-bit weights
            and inputs too. `binary`: as signs.
        calibration: With `int8`, what fixes the scales: a folder of images or a data set; images as
            `Model.predict` takes them; or prepared inputs, (N, *input_shape) float32. None: each
            image has its own scale.
        skip_bad: Whether images of a calibration folder that cannot be read are left out, with a
            warning; otherwise they are an error that lists them.
        float_layers: With `int8`, whether layers whose weights are not binary stay float32.
        preprocess: Replaces what the source says. A mapping replaces single fields of it, and may
            name a `preset` (`imagenet`, `half`, `caffe`, `raw`) that its other fields change. The
            size (of a preset: 224 x 224) also fills the height and width of an ONNX input that
            leaves them open.
        classes: Names of the classes; they replace those of the source.
        output_name: Which output of an ONNX file is packed, or which other tensor of it; needed
            where it has several outputs.
        binary_tolerance: Weights of an output channel count as +a and -a where every magnitude is
            this close to a, relative to a; 0: only where all are equal. At most 0.01.
        check: Whether to compare with ONNX Runtime on random inputs, where it is installed, for
            about a second before the file is written.
        dry_run: Whether to do everything but write the file.

    Returns:
        Sizes, layers, and notes on what was assumed; `print` shows a summary.

    Raises:
        FileError: The source is refused, or the target cannot be written.
        DataError: Images of the calibration cannot be read.
        ArgumentError: Arguments do not go together, or do not fit the network; or the target has
            the ending of another kind of file.
        BwnError: The packed network differs from ONNX Runtime on the source.

    Example:
        >>> import bwn
        >>> report = bwn.pack("model.onnx", "small.bwn")
        >>> f"{report.before / report.file:.1f} times smaller than float32"
        '29.4 times smaller than float32'
    """
    check_options(activations, calibration, binary_tolerance, float_layers)
    if same_file(source, target):
        read_source(source)  # says so if it is packed already
        raise ArgumentError(f"{target}: source and target are the same file; name another target")
    check_ending(target, ".bwn")
    data = onnx_bytes(source)
    loaded, margins, said = imported(source, data, output_name, size_of(preprocess))
    facts = Facts(margins, binary_tolerance)
    shape = tuple(loaded.graph.topology.input_shape)
    rule, facts.notes = choose_preprocess(loaded.preprocess, preprocess, shape)
    unfinished, facts.resumable = interrupted(source, margins)
    facts.notes += [*said, *unfinished]
    names = loaded.classes if classes is None else checked_names(classes)
    packed = pipeline.run(loaded.graph, binary_tolerance)
    facts.departures = departures(loaded.graph, packed)
    rounds = activations == "int8" and not float_layers
    chosen = quantize_weights(packed) if rounds else packed
    graph = with_activations(chosen, activations, calibration, rule, skip_bad)
    spec = ModelSpec(graph=graph, preprocess=rule, classes=names, producer=f"bwn {__version__}")
    if (rule, names) != (loaded.preprocess, loaded.classes):
        check_arguments(spec)
    if check:
        # Layers that read integers round where the source does not: compare it before they do.
        mode: Mode = "float32" if packed.is_quantized else "auto"
        same = replace(spec, graph=set_activations(packed, mode))
        facts.compared, notes = compare_source(same, data, facts.departures, source, output_name)
        facts.notes += notes
    if not dry_run:
        write(target, spec)
    size = len(to_bytes(spec)) if dry_run else os.path.getsize(target)
    facts.notes += quantization_notes(packed, graph)
    return report(source, target, spec, size, facts)


def check_options(
    activations: Mode, calibration: object, binary_tolerance: float, float_layers: bool
) -> None:
    """Raise ArgumentError where arguments are out of range or do not go together."""
    if activations not in get_args(Mode):
        raise ArgumentError(
            f"activations is {reprlib.repr(activations)}, "
            f"expected one of {', '.join(get_args(Mode))}"
        )
    if calibration is not None and activations != "int8":
        raise ArgumentError("calibration needs int8 activations")
    if float_layers and activations != "int8":
        raise ArgumentError("float_layers needs int8 activations")
    check_range(0, LARGEST_TOLERANCE, binary_tolerance=binary_tolerance)


def read_source(source: StrPath) -> bytes:
    """The bytes of a checkpoint or an ONNX file; other kinds of file are refused."""
    data = read_limited(source, MAX_BYTES, SOURCES)
    kind = looks_like(data[:HEAD])
    if kind == PACKED:
        raise FileError(f"{source}: packed already; bwn pack takes {SOURCES}")
    if kind not in (*PACKABLE, UNKNOWN) and not os.fspath(source).endswith(".onnx"):
        raise FileError(f"{source}: {mismatch(SOURCES, data[:HEAD])}")
    return data


def load(
    source: StrPath, output_name: str | None = None, size: Sequence[int] | None = None
) -> Loaded:
    """What a checkpoint or an ONNX file holds.

    Args:
        source: The file.
        output_name: As for `pack`.
        size: Height and width of the input, where the file leaves them open.

    Raises:
        FileError: It is refused; the message names it.
    """
    return imported(source, onnx_bytes(source), output_name, size)


def onnx_bytes(source: StrPath) -> bytes:
    """An ONNX file, or the export of a checkpoint."""
    data = read_source(source)
    return exported(source) if looks_like(data[:HEAD]) == CHECKPOINT else data


def imported(
    source: StrPath,
    data: bytes,
    output_name: str | None = None,
    size: Sequence[int] | None = None,
) -> Loaded:
    """The content of the ONNX model `data`, as `load`."""
    try:
        return from_bytes(data, Path(source).parent, output=output_name, size=size)
    except FileError as error:
        error.args = (f"{source}: {error}",)  # the error may hold more than its message
        raise


def size_of(preprocess: Preprocess | Mapping[str, Any] | None) -> tuple[int, int] | None:
    """The caller's size of images; None without one, or where it is none (refused later)."""
    fields = plain_fields(preprocess)
    try:
        size: Any = fields.get("size") or (fields.get("preset") and SIZE)
        height, width = size
        return operator.index(height), operator.index(width)
    except (TypeError, ValueError):
        return None


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
        if looks_like(file.read(HEAD)) != CHECKPOINT:
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
    skip_bad: bool = False,
) -> Graph:
    """`graph` with activations chosen, and int8 scales fixed where there are images."""
    chosen = set_activations(graph, mode)
    if calibration is not None:
        shape = tuple(graph.topology.input_shape)
        batches = input_batches(calibration, preprocess, shape, skip_bad)
        scales = int8_scales(chosen, batches)
        chosen = set_activations(graph, mode, scales)
    check(chosen)
    return chosen


def quantization_notes(packed: Graph, graph: Graph) -> list[str]:
    """What a user should know of 8-bit activations. packed: before activations were chosen."""
    notes, known = [], grids(packed)
    source = {node.output: known[node.input] for node in packed.nodes if isinstance(node, Weighted)}
    whole = exact = unknown = 0
    for node in graph.nodes:
        if isinstance(node, Weighted) and node.weight_type(graph.tensors) != "float32":
            grid = source.get(node.output, Grid())
            whole += node.is_quantized and grid.is_whole
            exact += not node.is_quantized and grid.is_whole
            unknown += node.is_quantized and grid.step is None
    if whole:
        notes.append(
            f"the source uses all 256 values of 8 bits in {count_noun(whole, 'layer')}, bwn 255: "
            "-128 or 255 becomes its neighbor"
        )
    if exact:
        notes.append(
            f"{count_noun(exact, 'layer')} of the source read all 256 values of 8 bits, and run in "
            "float32; int8 activations are faster, and take -128 or 255 as its neighbor"
        )
    if rounded := sum(array.dtype == np.int8 for array in graph.tensors.values()):
        notes.append(
            f"the weights of {count_noun(rounded, 'layer')} are not binary, and were rounded to 8 "
            "bits (float_layers leaves them float32)"
        )
    if unknown:
        notes.append(
            "8-bit activations cost some accuracy: verify on labeled images to see how much"
        )
    return notes


def checked_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The caller's class names. Raises ArgumentError where they are not a list of str."""
    several = isinstance(classes, Sequence) and not isinstance(classes, str)
    if not several or not all(isinstance(name, str) for name in classes):
        raise ArgumentError("classes: expected a list of names")
    counts = Counter(unicodedata.normalize("NFC", name) for name in classes)
    twice = [name for name, count in counts.items() if count > 1]
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
