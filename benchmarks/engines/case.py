"""What every engine is given: one network, its batch and threads, and the forms of it that engines read."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Shape
from bwn.kernels.target import cpu
from bwn.onnx.exporter import to_onnx_bytes
from bwn.ops import Pool, Weighted
from bwn.tools.benchmark import example_input

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
Kind = Literal["float32", "int8", "binary", "bfloat16"]
"""How activations are read: `binary` is exact where they are signs; `bfloat16` is for information."""

PACKAGES = {"litert": "ai-edge-litert"}
"""Engines that are not named as their package is."""

CALIBRATION_IMAGES = 64
TIMED_SEED, CALIBRATION_SEED = 0, 1


class UnsuitedError(Exception):
    """An engine cannot run this network, or is not installed; the text says why."""


class Contender(NamedTuple):
    """One engine, ready to run. run: (N, *input_shape) float32 to (N, classes) float32."""

    engine: str
    kind: Kind
    run: Run


class Case:
    """A network, batch and threads; its ONNX forms are made when first asked for."""

    def __init__(self, name: str, spec: ModelSpec, batch: int, threads: int) -> None:
        self.name, self.spec, self.batch, self.threads = name, spec, batch, threads

    @property
    def shape(self) -> Shape:
        """Of one image."""
        return self.spec.graph.topology.input_shape

    @cached_property
    def x(self) -> Floats:
        """The input that is timed: (batch, *shape) float32."""
        return example_input(self.spec, self.batch, TIMED_SEED)

    @cached_property
    def calibration(self) -> Floats:
        """Images to measure ranges on, other than those that are timed: (64, *shape) float32."""
        return example_input(self.spec, CALIBRATION_IMAGES, CALIBRATION_SEED)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Of every tensor of an image."""
        return self.spec.graph.shapes

    @cached_property
    def float_onnx(self) -> bytes:
        """The float32 function as ONNX."""
        return to_onnx_bytes(self.spec)

    @cached_property
    def int8_onnx(self) -> bytes:
        """Its int8 form, in the setting that does not saturate on this CPU."""
        from engines.quantized import quantize

        vnni = may_use("avx512vnni", "avxvnni")  # which sums products of 8-bit numbers in 32 bits
        return quantize(self.float_onnx, self.calibration, reduce_range=not vnni)

    @property
    def signs(self) -> bool:
        """Whether some product reads signs."""
        return any(
            isinstance(node, Weighted) and node.activations == "binary"
            for node in self.spec.graph.nodes
        )

    def global_pool(self, node: Pool) -> bool:
        """Whether `node` makes one number of each plane."""
        return self.shapes[node.input][1:] == node.kernel and not any(node.pads)


def may_use(*features: str) -> bool:
    """Whether peers may use one of these: the CPU has it, and none was told to keep to less."""
    return "ONEDNN_MAX_CPU_ISA" not in os.environ and not cpu.features().isdisjoint(features)


def installed(engine: str) -> str | None:
    """Version of an engine's package, or None."""
    try:
        return version(PACKAGES.get(engine, engine))
    except PackageNotFoundError:
        return None
