"""ONNX Runtime on the CPU, float32 and static int8."""

from __future__ import annotations

from pathlib import Path

from bwn._types import Floats
from engines.case import Case, Contender, Run, load

ONLY_FATAL = 4


def float32(case: Case) -> Contender:
    """The float32 graph."""
    return Contender("onnxruntime", "float32", start(case.float_onnx, case.threads, case.batch))


def int8(case: Case) -> Contender:
    """The graph with QDQ nodes, which ONNX Runtime fuses to integer kernels."""
    return Contender("onnxruntime", "int8", start(case.int8_onnx, case.threads, case.batch))


def start(model: bytes | Path, threads: int, batch: int | None = None) -> Run:
    """The run of a session. batch: the size of the axis `N`; None leaves it open."""
    onnxruntime = load("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ONLY_FATAL
    if batch is not None:
        options.add_free_dimension_override_by_name("N", batch)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Floats) -> Floats:
        scores: Floats = session.run(None, {name: x})[0]
        return scores

    return run
