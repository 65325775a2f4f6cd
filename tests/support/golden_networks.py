"""Networks with the same scores on every machine, for golden digests and instruction counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from msgspec.structs import replace

from bwn import Model
from bwn.format import read
from bwn.passes.set_activations import set_activations
from bwn.tools.random_networks import NETWORKS

MODELS = Path(__file__).resolve().parents[2] / "models"
SHIPPED = ("mnist-mlp", "mnist-lenet", "cifar10-vgg-quarter")
EVERY = (*SHIPPED, *(f"{name} int8" for name in SHIPPED), "vgg-sign")


def network(name: str) -> Model:
    """A shipped or built-in network on one thread; int8 activations if `name` ends in int8."""
    file, _, int8 = name.partition(" ")
    spec = read(MODELS / f"{file}.bwn") if file in SHIPPED else NETWORKS[file](0)
    if int8:
        spec = replace(spec, graph=set_activations(spec.graph, "int8"))
    return Model(spec, threads=1)


def inputs(model: Model, count: int) -> np.ndarray:
    """The same random inputs every time."""
    return np.random.default_rng(0).standard_normal((count, *model.input_shape), np.float32)
