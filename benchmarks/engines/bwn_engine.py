"""bwn itself, in the forms that fit a network."""

from __future__ import annotations

from bwn.ir.model_spec import ModelSpec
from bwn.model import Model
from bwn.passes.quantize_weights import quantize_weights
from bwn.passes.set_activations import Mode, set_activations
from bwn.tools.calibrate import int8_scales
from engines.case import Case, Contender, Kind, Run, UnsupportedError


def float32(case: Case) -> Contender:
    """float32 activations everywhere."""
    return Contender("bwn", "float32", _run(case, "float32"))


def int8(case: Case) -> Contender:
    """8-bit activations with fixed scales, measured on the calibration images as the peers' are."""
    if case.has_signs:
        raise UnsupportedError("signs are already exact in one bit")
    return Contender("bwn", "int8", _run(case, "int8"))


def binary(case: Case) -> Contender:
    """Signs as bits where a layer reads signs, float32 elsewhere."""
    return Contender("bwn", "binary", _run(case, "binary"))


def spec(case: Case, kind: Kind) -> ModelSpec:
    """The network with the activations of `kind`, as a file would hold it."""
    modes: dict[Kind, Mode] = {"float32": "float32", "int8": "int8", "binary": "auto"}
    source = quantize_weights(case.spec.graph) if kind == "int8" else case.spec.graph
    graph = set_activations(source, modes[kind])
    if kind == "int8":
        graph = set_activations(source, "int8", int8_scales(graph, [case.calibration]))
    return ModelSpec(graph=graph)


def _run(case: Case, kind: Kind) -> Run:
    return Model(spec(case, kind), case.threads).run
