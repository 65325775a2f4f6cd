"""ONNX Runtime on the CPU, float32 and static int8."""

from __future__ import annotations

from engines.case import Case, Contender, Floats, Run, load

ONLY_FATAL = 4


def float32(case: Case) -> Contender:
    """The float32 graph."""
    return Contender("onnxruntime", "float32", _start(case.float_onnx, case))


def int8(case: Case) -> Contender:
    """The graph with QDQ nodes, which ONNX Runtime fuses to integer kernels."""
    return Contender("onnxruntime", "int8", _start(case.int8_onnx, case))


def _start(model: bytes, case: Case) -> Run:
    onnxruntime = load("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ONLY_FATAL
    options.add_free_dimension_override_by_name("N", case.batch)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Floats) -> Floats:
        scores: Floats = session.run(None, {name: x})[0]
        return scores

    return run
