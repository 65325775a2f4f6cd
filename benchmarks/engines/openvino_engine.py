"""OpenVINO on the CPU: float32, bfloat16 for information, static int8, and BinaryConvolution (in `vino_signs`).

Latency hint, one stream, the threads of the case, a static batch. float32 is asked for by name: on a CPU with bfloat16
instructions OpenVINO rounds to bfloat16 by itself, which is another function.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from engines.case import Case, Contender, Floats, Run, UnsuitedError, may_use

try:
    import openvino
except ImportError:
    raise UnsuitedError("openvino is not installed (pip install 'bwn[bench]')") from None


def float32(case: Case) -> Contender:
    """The float32 graph."""
    return Contender("openvino", "float32", start(_read(case.float_onnx, case), case))


def bfloat16(case: Case) -> Contender:
    """The same with products in bfloat16: what OpenVINO does unasked where the CPU has them. For information."""
    if not may_use("avx512bf16"):
        raise UnsuitedError("no bfloat16 products")
    return Contender(
        "openvino", "bfloat16", start(_read(case.float_onnx, case), case, precision="bf16")
    )


def int8(case: Case) -> Contender:
    """The same QDQ graph that ONNX Runtime runs: as fast as NNCF's here (see docs/decisions/)."""
    return Contender("openvino", "int8", start(_read(case.int8_onnx, case), case))


def binary(case: Case) -> Contender:
    """Sign activations as BinaryConvolution."""
    from engines.openvino_binary import sign_network

    return Contender("openvino", "binary", start(sign_network(case), case))


def _read(model: bytes, case: Case) -> Any:
    found = openvino.Core().read_model(io.BytesIO(model))
    found.reshape([case.batch, *case.shape])
    return found


def start(model: Any, case: Case, precision: str = "f32") -> Run:
    """A model, compiled for the threads of `case`."""
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": case.threads,
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,  # the whole process is; a pinned thread waits while something else runs there
    }
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def run(x: Floats) -> Floats:
        return np.asarray(request.infer({0: x}, share_inputs=True, share_outputs=True)[0])

    return run
