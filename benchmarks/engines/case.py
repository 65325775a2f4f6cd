"""What every engine is given: a network, a batch size and threads, and forms of the network."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple, TypeVar

from bwn._types import Floats
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Node, Shape
from bwn.kernels.target import cpu
from bwn.onnx.exporter import to_onnx_bytes
from bwn.tools.benchmark import example_input
from bwn.tools.benchmark_peers import reads_signs

Run = Callable[[Floats], Floats]
Form = TypeVar("Form")
Kind = Literal["float32", "int8", "binary", "bfloat16"]
"""How activations are read.

`binary` is exact where they are signs; `bfloat16` is for information.
"""

PACKAGES = {"litert": "ai-edge-litert"}
"""Packages of engines that are named differently."""

CALIBRATION_IMAGES = 64
TIMED_SEED, CALIBRATION_SEED = 0, 1


class UnsupportedError(Exception):
    """An engine cannot run a network, or is not installed; the text says why."""


class Contender(NamedTuple):
    """An engine that is ready to run a network.

    Attributes:
        engine: Name of the engine.
        kind: How it reads activations.
        run: From (N, *input_shape) float32 to (N, classes) float32.
    """

    engine: str
    kind: Kind
    run: Run


class Case:
    """A network, a batch size and threads. Its ONNX forms are made when they are first needed."""

    def __init__(self, name: str, spec: ModelSpec, batch: int, threads: int) -> None:
        self.name, self.spec, self.batch, self.threads = name, spec, batch, threads

    @property
    def shape(self) -> Shape:
        """Shape of one image."""
        return self.spec.graph.topology.input_shape

    @cached_property
    def x(self) -> Floats:
        """The input that is timed: (batch, *shape) float32."""
        return example_input(self.spec, self.batch, TIMED_SEED)

    @cached_property
    def calibration(self) -> Floats:
        """Other images, to measure ranges on: (64, *shape) float32."""
        return example_input(self.spec, CALIBRATION_IMAGES, CALIBRATION_SEED)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every activation tensor of one image."""
        return self.spec.graph.shapes

    @cached_property
    def float_onnx(self) -> bytes:
        """The float32 function as ONNX."""
        return to_onnx_bytes(self.spec)

    @cached_property
    def int8_onnx(self) -> bytes:
        """Its int8 form, in the setting that does not saturate on this CPU."""
        from engines.quantized_onnx import quantize

        # VNNI sums products of 8-bit numbers in 32 bits.
        vnni = may_use("avx512vnni", "avxvnni")
        return quantize(self.float_onnx, self.calibration, reduce_range=not vnni)

    @property
    def has_signs(self) -> bool:
        """Whether some layer reads signs."""
        return reads_signs(self.spec)

    def forms(
        self, forms: Mapping[type[Node], Form], engine: str, *, chain: bool = False
    ) -> list[tuple[Any, Form]]:
        """Every node with the form that an engine has for its operation.

        Args:
            forms: The form of each operation that the engine can run.
            engine: Name of the engine, for messages.
            chain: Whether the engine's form of a network is a chain of layers.

        Raises:
            UnsupportedError: An operation has no form, or the network is no chain.
        """
        pairs, last = [], self.spec.graph.topology.input
        for node in self.spec.graph.nodes:
            if type(node) not in forms:
                raise UnsupportedError(f"{node.op} is not implemented for {engine}")
            if chain and node.inputs != (last,):
                raise UnsupportedError(f"only chains of layers are implemented for {engine}")
            pairs.append((node, forms[type(node)]))
            last = node.output
        return pairs


def may_use(*features: str) -> bool:
    """Whether engines may use one of these: the CPU has it, and they are not restricted to less."""
    return "ONEDNN_MAX_CPU_ISA" not in os.environ and not cpu.features().isdisjoint(features)


def load(engine: str, module: str) -> Any:
    """A module of an engine. Raises UnsupportedError where the engine is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UnsupportedError(f"{engine} is not installed (pip install '.[bench]')") from None


def installed(engine: str) -> str | None:
    """Version of an engine's package, or None."""
    try:
        return version(PACKAGES.get(engine, engine))
    except PackageNotFoundError:
        return None
