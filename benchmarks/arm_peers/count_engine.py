"""Count the instructions of one engine on one network, under qemu-aarch64 with the plugin count.c.

    count_engine.py ENGINE KIND FOLDER COUNTS REPORT

FOLDER is what write_files.py wrote, COUNTS the plugin's file. REPORT gets the instructions from the
start of the process to the first scores, those of a later run, the memory at the end, and how the
scores compare with those that are expected.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np

MARK, START, COUNT, COUNT_AND_BLOCKS = 0x7777, 1, 2, 3
GUEST_END = 1 << 40
"""The emulator's own memory lies above."""
Run = Callable[[Any], Any]

mark = ctypes.CDLL(None).syscall
number = ctypes.c_long(MARK)


def bwn(folder: Path, kind: str) -> Run:
    """A packed network."""
    from bwn import load

    return load(folder / f"{kind}.bwn", threads=1).run


def onnxruntime(folder: Path, kind: str) -> Run:
    """An ONNX file, in 8 bits with QDQ nodes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_free_dimension_override_by_name("N", 1)
    path, providers = str(folder / f"{kind}.onnx"), ["CPUExecutionProvider"]
    session = ort.InferenceSession(path, options, providers=providers)
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def ncnn(folder: Path, kind: str) -> Run:
    """ncnn's two files; its own 16-bit arithmetic is another function and has a kind of its own."""
    import ncnn as engine

    net = engine.Net()
    net.opt.num_threads = 1
    if kind != "float16":
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    files = folder / ("float32" if kind == "float16" else kind)
    if net.load_param(str(files / "net.param")) or net.load_model(str(files / "net.bin")):
        sys.exit(f"ncnn cannot load {files}")
    names = json.loads((folder / "network.json").read_text())

    def run(x: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input(names["input"], engine.Mat(x[0]))
        return np.array(extractor.extract(names["output"])[1])

    return run


def litert(folder: Path, kind: str) -> Run:
    """A file for LiteRT, by XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / f"{kind}.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(x: Any) -> Any:
        planes = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x
        interpreter.set_tensor(source, planes)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return run


ENGINES = {"bwn": bwn, "onnxruntime": onnxruntime, "ncnn": ncnn, "litert": litert}


def resident_bytes() -> int:
    """Memory that is the guest's."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split(maxsplit=1)[0]
        if not head.endswith(":"):
            inside = int(head.split("-")[0], 16) < GUEST_END
        elif inside and head == "Rss:":
            total += int(line.split()[1]) * 1024
    return total


def main() -> None:
    """Count from the start, then a run; the run before it lets engines settle."""
    engine, kind, folder, counts, report = sys.argv[1:]
    x = np.load(Path(folder) / "x.npy")
    run = ENGINES[engine](Path(folder), kind)
    scores = [np.array(run(x[:1])).reshape(-1)]
    mark(number, COUNT)
    resident = resident_bytes()
    scores.append(np.array(run(x[1:2])).reshape(-1))
    mark(number, START)
    last = run(x[2:3])
    mark(number, COUNT_AND_BLOCKS)
    scores.append(np.array(last).reshape(-1))
    start, inference = map(int, Path(counts).read_text().split())
    actual, expected = np.stack(scores), np.load(Path(folder) / "expected.npy")
    lengths = np.linalg.norm(actual) * np.linalg.norm(expected)
    result = {
        "start": start,
        "inference": inference,
        "resident": resident,
        "error": float(np.abs(actual - expected).max() / np.abs(expected).max()),
        "cosine": float((actual.astype(np.float64) * expected).sum() / lengths),
    }
    Path(report).write_text(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # engines with threads of their own hang at a regular exit under the emulator


if __name__ == "__main__":
    main()
