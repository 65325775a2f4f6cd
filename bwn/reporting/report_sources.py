"""What a report is made of: the numbers of a checkpoint, a packed model or an experiment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn._file_types import CHECKPOINT, HEAD, PACKED, looks_like
from bwn._files import check_file
from bwn._text import byte_size, count_noun, read_failure
from bwn._types import Floats, StrPath
from bwn.data.records import Pixels
from bwn.errors import ArgumentError, FileError
from bwn.experiment.record import RESULTS
from bwn.reporting.facts import GroupFacts, LayerFacts, Report, Scales
from bwn.reporting.mistakes import image_results
from bwn.train.run_folder import RUN_FILE

if TYPE_CHECKING:
    from bwn.experiment.groups import Group
    from bwn.ir.model_spec import ModelSpec

DELTA = 0.05
SCALE_BINS = 20


@dataclass(frozen=True)
class Request:
    """What a report is asked for.

    Attributes:
        data: A data set whose test images are classified; None: none.
        delta: Largest distance to 0 of a weight that counts as near 0.
        samples: At most this many test images; None: all.
        threads: Threads to use; None: every core.
        skip_bad: Whether images that cannot be read are left out, with a warning.
        progress: Called with a line of text during long work, and with "" at its end.
    """

    data: StrPath | None
    delta: float
    samples: int | None
    threads: int | None
    skip_bad: bool
    progress: Callable[[str], None]


@dataclass(frozen=True)
class Gathered:
    """A report's numbers, and what its figures need besides.

    Attributes:
        report: The numbers.
        images: (N, H, W) or (N, H, W, 3) uint8 of the mistakes, in their order; None without.
        groups: Of an experiment.
    """

    report: Report
    images: Pixels | None = None
    groups: list[Group] = field(default_factory=list)


def gather(source: StrPath, request: Request) -> Gathered:
    """The numbers of a run's checkpoint or folder, a .bwn file, or an experiment's folder.

    Raises BwnError where the source is none of these or cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        if (path / RESULTS).exists():
            return _experiment(path, request)
        if not (path / RUN_FILE).exists():
            raise FileError(
                f"{path}: a folder without {RUN_FILE} of bwn train or {RESULTS} of bwn experiment"
            )
        path = path / RUN_FILE
    check_file(path, "a checkpoint or a .bwn file")
    kind = _kind(path)
    if kind == PACKED:
        return _model(path, request)
    if kind != CHECKPOINT and path.suffix not in (".pt", ".pth"):
        raise FileError(
            f"{path}: not a .bwn file, a checkpoint of bwn train or an experiment's folder: "
            f"it looks like {kind}"
        )
    from bwn.train import require_torch

    require_torch()
    from bwn.reporting.checkpoint_facts import checkpoint_facts

    return Gathered(*checkpoint_facts(path, request))


def _kind(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return looks_like(file.read(HEAD))
    except OSError as error:
        raise FileError(read_failure(path, error)) from None


def _model(path: Path, request: Request) -> Gathered:
    """The numbers of a packed model: it has signs and scales, and no real weights."""
    from bwn.format import read
    from bwn.predict import class_names

    spec = read(path)
    layers = model_layers(spec)
    weights = sum(layer.weights for layer in layers)
    one_bit = sum(layer.weights for layer in layers if layer.one_bit)
    about = (
        ("packed model", f"{path}, {byte_size(os.path.getsize(path))}"),
        ("input", " x ".join(map(str, spec.graph.topology.input_shape))),
        ("classes", count_noun(len(class_names(spec)), "class")),
        ("weights", f"{weights:,}, {one_bit / max(weights, 1):.1%} of them one bit each"),
    )
    test = images = None
    if request.data is not None:
        from bwn.tools.verify_inputs import load_test_split

        names = spec.classes and class_names(spec)
        name, pixels, labels = load_test_split(
            spec.preprocess, names, request.data, request.samples, skip_bad=request.skip_bad,
            progress=request.progress,
        )  # fmt: skip
        chances = _chances(spec, pixels, request)
        test = image_results(name, labels, chances, class_names(spec))
        images = pixels[[mistake.image for mistake in test.mistakes]]
    report = Report(
        source=str(path),
        kind="model",
        about=about,
        one_bit_share=one_bit / max(weights, 1),
        layers=layers,
        test=test,
        notes=(
            "A packed model has no real weights: histograms, distances to +-1 and flip risk need "
            "the checkpoint it was packed from.",
        ),
    )
    return Gathered(report, images)


def model_layers(spec: ModelSpec) -> tuple[LayerFacts, ...]:
    """The layers with weights of a packed model, with their scales."""
    from bwn.ops.weighted import Weighted
    from bwn.tools.inspect import layer_rows

    layers = []
    for node, row in zip(spec.graph.nodes, layer_rows(spec.graph), strict=True):
        if isinstance(node, Weighted):
            scale = node.scale if row.stored == "1 bit" else None
            layers.append(
                LayerFacts(
                    name=row.name,
                    shape=row.weights,
                    weights=prod(row.weights),
                    stored=row.stored,
                    scales=_scales(np.abs(spec.graph.tensors[scale])) if scale else None,
                )
            )
    return tuple(layers)


def _scales(scale: Floats) -> Scales:
    low, high = float(scale.min()), float(scale.max())
    counts, _ = np.histogram(scale, SCALE_BINS, (low, high))
    return Scales(
        low=low, median=float(np.median(scale)), high=high, histogram=tuple(counts.tolist())
    )


def _chances(spec: ModelSpec, pixels: Pixels, request: Request) -> npt.NDArray[np.floating]:
    """(N, classes) probabilities of images that have the model's size."""
    from bwn.data.resizing import normalized
    from bwn.model import Model
    from bwn.predict import class_scores, probabilities

    model, rows = Model(spec, request.threads), []
    rule = spec.preprocess
    assert rule is not None, "the images were read with it"
    for start in range(0, len(pixels), 64):
        batch = [normalized(image, rule) for image in pixels[start : start + 64]]
        x = np.stack(batch).reshape(len(batch), *model.input_shape)
        rows.append(probabilities(spec, class_scores(model.run(x).reshape(len(x), -1))))
        request.progress(f"{start + len(x):,} of {count_noun(len(pixels), 'image')}")
    request.progress("")
    return np.concatenate(rows)


def _experiment(folder: Path, request: Request) -> Gathered:
    """The numbers of an experiment's finished runs."""
    from bwn.experiment.groups import read_groups
    from bwn.experiment.report import notes

    if request.data is not None:
        raise ArgumentError(
            f"{folder}: an experiment's folder has its test errors; data is for one run or model"
        )
    groups = read_groups([folder])
    runs = sum(len(group.records) for group in groups)
    facts = tuple(_group(group) for group in groups)
    report = Report(
        source=str(folder),
        kind="experiment",
        about=(("experiment", str(folder)), ("finished runs", f"{runs:,}")),
        groups=facts,
        notes=tuple(notes(groups)),
    )
    return Gathered(report, groups=groups)


def _group(group: Group) -> GroupFacts:
    def mean(name: str) -> float | None:
        spread = group.spread(name)
        return None if spread is None else spread.mean

    return GroupFacts(
        name=group.name,
        scheme=group.scheme,
        strength=group.records[0].strength,
        runs=len(group.records),
        test_error=mean("test_error"),
        validation_error=mean("validation_error"),
        near=mean("near"),
    )
