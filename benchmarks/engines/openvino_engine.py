"""OpenVINO on the CPU: float32, static int8, BinaryConvolution, and bfloat16 for information.

Latency hint, one stream, the threads of the case, a static batch. float32 is asked for by name: on
a CPU with bfloat16 instructions OpenVINO rounds to bfloat16 by default, which is another function.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from bwn._types import Floats
from engines.case import Case, Contender, Run, UnsupportedError, load, may_use


def float32(case: Case) -> Contender:
    """The float32 graph."""
    return Contender("openvino", "float32", _start(_read(case.float_onnx, case), case))


def bfloat16(case: Case) -> Contender:
    """The same with products in bfloat16: OpenVINO's default where the CPU has them."""
    if not may_use("avx512bf16"):
        raise UnsupportedError("this CPU multiplies no bfloat16, or is restricted to AVX2")
    run = _start(_read(case.float_onnx, case), case, precision="bf16")
    return Contender("openvino", "bfloat16", run)


def int8(case: Case) -> Contender:
    """The QDQ graph that ONNX Runtime runs too: as fast here as NNCF's (see docs/decisions/)."""
    return Contender("openvino", "int8", _start(_read(case.int8_onnx, case), case))


def binary(case: Case) -> Contender:
    """Sign activations as BinaryConvolution."""
    from engines.openvino_binary import SignNetwork

    return Contender("openvino", "binary", _start(SignNetwork(case).model(), case))


def _read(onnx: bytes, case: Case) -> Any:
    model = load("openvino", "openvino").Core().read_model(io.BytesIO(onnx))
    model.reshape([case.batch, *case.shape])
    return model


def _start(model: Any, case: Case, precision: str = "f32") -> Run:
    """A model, compiled for the threads of `case`."""
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": case.threads,
        "INFERENCE_PRECISION_HINT": precision,
        # The process is pinned as a whole. A pinned thread waits while something else runs there.
        "ENABLE_CPU_PINNING": False,
    }
    core = load("openvino", "openvino").Core()
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def run(x: Floats) -> Floats:
        return np.asarray(request.infer({0: x}, share_inputs=True, share_outputs=True)[0])

    return run
