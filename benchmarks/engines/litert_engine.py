"""LiteRT (TensorFlow Lite with XNNPACK) on the CPU, float32 and int8.

Its file is written by `litert_writer`. Planes are (N, H, W, C).
"""

from __future__ import annotations

import numpy as np

from bwn._types import Floats
from engines.case import Case, Contender, Run, load
from engines.litert_writer import LiteRTWriter
from engines.ranges import ranges


def float32(case: Case) -> Contender:
    """The float32 function."""
    return Contender("litert", "float32", _start(float_file(case), case))


def int8(case: Case) -> Contender:
    """8-bit activations with zero point, 8-bit weights with a scale per output; float32 ends."""
    return Contender("litert", "int8", _start(int8_file(case), case))


def float_file(case: Case) -> bytes:
    """The float32 file."""
    return LiteRTWriter(case).content()


def int8_file(case: Case) -> bytes:
    """The int8 file, with ranges by minimum and maximum over the calibration images."""
    writer = LiteRTWriter(case, {})
    writer.refuse_signs()  # an unsupported network is refused before it is run
    writer.ranges = ranges(case)
    return writer.content()


def _start(model: bytes, case: Case) -> Run:
    interpreter = load("litert", "ai_edge_litert.interpreter").Interpreter(
        model_content=model, num_threads=case.threads
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(x: Floats) -> Floats:
        channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x
        interpreter.set_tensor(source, channels_last)
        interpreter.invoke()
        scores: Floats = interpreter.get_tensor(result)
        return scores

    return run
