"""Fixed 8-bit steps, measured on images with the float network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from bwn.data.images import as_image, prepare
from bwn.errors import BwnError
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ops import Weighted

Floats = npt.NDArray[np.float32]

BATCH = 16


def int8_steps(graph: Graph, batches: Iterable[Floats]) -> dict[str, float]:
    """int8 step of each tensor that `graph` reads as 8 bits: max|x| / 127 over all images, or 1 if that is 0.

    batches: arrays (N, *input_shape) float32. The float network runs in ONNX Runtime.
    Raises BwnError without a single image, or where an activation is not finite.
    """
    from bwn.onnx.exporter import to_onnx_bytes
    from bwn.onnx.session import Session

    names = {node.input for node in graph.nodes if isinstance(node, Weighted) and node.is_quantized}
    session = Session(to_onnx_bytes(ModelSpec(graph=graph)))
    largest: dict[str, float] = {}
    for x in batches:
        seen = {**session.tensors(x, names), graph.topology.input: x}
        for name in names:
            largest[name] = max(largest.get(name, 0.0), float(np.abs(seen[name]).max()))
    if names and not largest:
        raise BwnError("calibration: no images given")
    if not np.isfinite(list(largest.values())).all():
        raise BwnError(
            "calibration: an activation of the float network is not finite on these images"
        )
    return {
        name: float(np.float32(value) / np.float32(127)) or 1.0 for name, value in largest.items()
    }


def prepared(
    images: Iterable[Any], preprocess: Preprocess | None, shape: tuple[int, ...]
) -> Iterator[Floats]:
    """Batches of network inputs.

    images: (N, *shape) float32, taken as it is; or anything that `bwn.data.images.as_image` reads, prepared.
    Raises BwnError where preprocessing is needed and not known.
    """
    if isinstance(images, np.ndarray) and images.dtype == np.float32:
        if images.shape[1:] != shape:
            raise BwnError(
                f"calibration: inputs have shape {images.shape[1:]}, the network takes {shape}"
            )
        yield from (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return
    if preprocess is None:
        raise BwnError(
            "calibration: how images are prepared is not known; say it with --size, --color, --mean and --std"
        )
    ready = (prepare(as_image(image), preprocess).reshape(shape) for image in images)
    while batch := list(islice(ready, BATCH)):
        yield np.stack(batch)
