"""Fixed 8-bit scales, measured on images with the float network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bwn._types import Floats, StrPath
from bwn.data.class_folders import look
from bwn.data.datasets import load_dataset, load_images, records_reader
from bwn.data.decoding import fit
from bwn.data.folders import find_images
from bwn.data.images import as_image
from bwn.data.records import Pixels
from bwn.data.resizing import normalized, prepare
from bwn.errors import ArgumentError, BwnError, DataError
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ops.weighted import Weighted

BATCH = 16
MOST_IMAGES = 512
"""Images that are taken from a folder or a data set."""


def int8_scales(graph: Graph, batches: Iterable[Floats]) -> dict[str, float]:
    """Measure the int8 scale of each tensor that `graph` reads as 8 bits.

    scale = max |x| / 127 over all images, or 1 where that is 0. The float network runs in ONNX
    Runtime.

    Args:
        graph: A graph with quantized activations.
        batches: Inputs, (N, *input_shape) float32 each.

    Returns:
        Scales by tensor name.

    Raises:
        BwnError: There is no image, or an activation is not finite.
    """
    from bwn.onnx.exporter import to_onnx_bytes
    from bwn.onnx.session import Session

    names = {node.input for node in graph.nodes if isinstance(node, Weighted) and node.is_quantized}
    session = Session(to_onnx_bytes(ModelSpec(graph=graph)))
    largest: dict[str, float] = {}
    for x in batches:
        tensors = {**session.tensors(x, names), graph.topology.input: x}
        for name in names:
            largest[name] = max(largest.get(name, 0.0), float(np.abs(tensors[name]).max()))
    if names and not largest:
        raise BwnError("calibration: there are no images")
    if not np.isfinite(list(largest.values())).all():
        raise BwnError(
            "calibration: an activation of the float network is not finite on these images"
        )
    return {
        name: float(np.float32(value) / np.float32(127)) or 1.0 for name, value in largest.items()
    }


def input_batches(
    images: StrPath | Iterable[Any],
    preprocess: Preprocess | None,
    shape: tuple[int, ...],
    skip_bad: bool = False,
) -> Iterator[Floats]:
    """Yield batches of network inputs.

    Args:
        images: A folder of images or a data set; prepared inputs, (N, *shape) float32; or an
            iterable of images that `bwn.data.images.as_image` accepts.
        preprocess: How images are prepared; prepared inputs do without.
        shape: Shape of one input.
        skip_bad: Whether images of a folder that cannot be read are left out, with a warning.

    Raises:
        ArgumentError: Inputs have another shape, or preprocessing is needed and unknown.
        DataError: Images cannot be read.
    """
    if isinstance(images, np.ndarray) and images.dtype == np.float32:
        if images.shape[1:] != shape:
            raise ArgumentError(
                f"calibration: inputs have shape {images.shape[1:]}, the network takes {shape}"
            )
        yield from (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return
    if preprocess is None:
        raise ArgumentError(
            "calibration: it is not known how images are prepared; "
            "set size, color, mean and std of the preprocessing"
        )
    if isinstance(images, (str, os.PathLike)):
        sized = spread_images(images, preprocess, skip_bad)
        inputs = (normalized(pixels, preprocess) for pixels in sized)
    elif isinstance(images, Iterable):
        inputs = (prepare(as_image(image, rule=preprocess), preprocess) for image in images)
    else:
        raise ArgumentError(f"calibration is {type(images).__name__}, expected images")
    while batch := list(islice(inputs, BATCH)):
        yield np.stack(batch).reshape(-1, *shape)


def spread_images(source: StrPath, preprocess: Preprocess, skip_bad: bool = False) -> Pixels:
    """Up to MOST_IMAGES images of a folder or of a data set's training split, evenly spread.

    They have the size and the color that the preprocessing makes, but are not normalized.
    """
    paths: list[str] = []
    if os.path.isdir(source) and records_reader(Path(source)) is None:
        try:
            paths = look(Path(source)).images["train"][0]
        except (DataError, KeyError):  # no class folders
            paths = [str(path) for path in find_images([source])]
    if not paths:
        images = load_dataset(source, "train").images
        spread = images[:: -(-len(images) // MOST_IMAGES)]
        return np.stack([fit(Image.fromarray(image), preprocess) for image in spread])
    paths = paths[:: -(-len(paths) // MOST_IMAGES)]
    return load_images(source, paths, preprocess, skip_bad=skip_bad)
