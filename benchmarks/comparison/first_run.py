"""Loads a file in one engine, runs one image, and prints the largest resident set in KiB.

python first_run.py ENGINE SHAPE FILES...      SHAPE like 3x32x32

It imports the engine and numpy and nothing of the benchmark, so that no engine pays for another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np


def main() -> None:
    engine, shape, *files = sys.argv[1:]
    x = np.zeros((1, *map(int, shape.split("x"))), np.float32)
    RUNS[engine](files, x)
    status = Path("/proc/self/status").read_text()
    print(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def bare_python(files: list[str], x: np.ndarray) -> None:
    pass


def bwn(files: list[str], x: np.ndarray) -> None:
    from bwn.model import load

    load(files[0], threads=1).run(x)


def onnxruntime(files: list[str], x: np.ndarray) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
    session.run(None, {session.get_inputs()[0].name: x})


def openvino(files: list[str], x: np.ndarray) -> None:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(files[0])
    model.reshape(list(x.shape))
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core.compile_model(model, "CPU", options).create_infer_request().infer({0: x})


def ncnn(files: list[str], x: np.ndarray) -> None:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(files[0])
    net.load_model(files[1])
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], ncnn.Mat(x[0]))
    extractor.extract(net.output_names()[0])


def litert(files: list[str], x: np.ndarray) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(files[0], num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    interpreter.set_tensor(source["index"], x.reshape(source["shape"]))
    interpreter.invoke()
    interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


RUNS = {
    function.__name__: function
    for function in (bare_python, bwn, onnxruntime, openvino, ncnn, litert)
}

if __name__ == "__main__":
    main()
