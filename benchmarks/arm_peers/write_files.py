"""Write each engine's files of a built-in network, inputs and the scores to expect.

    write_files.py FOLDER NETWORK

Runs on the workstation: writing needs ONNX Runtime to measure ranges of activations, counting in
the emulator (count_engine.py) only needs the engines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from engines import bwn_engine, ncnn_engine
from engines.case import Case
from engines.litert_writer import LiteRTWriter
from engines.quantized_onnx import quantize
from engines.ranges import ranges

from bwn.format import write
from bwn.onnx.session import Session
from bwn.tools.benchmark import example_input
from bwn.tools.ncnn_network import write_files as write_ncnn
from bwn.tools.random_networks import NETWORKS

INPUTS = 3


def main() -> None:
    """The command line."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    folder.mkdir(parents=True, exist_ok=True)
    case = Case(name, NETWORKS[name](0), 1, 1)
    x = example_input(case.spec, INPUTS)
    np.save(folder / "x.npy", x)
    np.save(folder / "expected.npy", Session(case.float_onnx).run(x).reshape(INPUTS, -1))
    (folder / "float32.onnx").write_bytes(case.float_onnx)
    (folder / "float32.tflite").write_bytes(LiteRTWriter(case).content())
    write(folder / "float32.bwn", bwn_engine.spec(case, "float32"))
    for kind in ("float32", "int8"):
        (folder / kind).mkdir(exist_ok=True)
        write_ncnn(ncnn_engine.writer(case, kind), folder / kind)
    if case.has_signs:
        write(folder / "binary.bwn", bwn_engine.spec(case, "binary"))
    else:
        write(folder / "int8.bwn", bwn_engine.spec(case, "int8"))
        for kind, signed in (("int8", False), ("int8-signed", True)):
            quantized = quantize(
                case.float_onnx, case.calibration, reduce_range=False, signed=signed
            )
            (folder / f"{kind}.onnx").write_bytes(quantized)
        (folder / "int8.tflite").write_bytes(LiteRTWriter(case, ranges(case)).content())
    topology = case.spec.graph.topology
    names = {"input": topology.input, "output": topology.output}
    (folder / "network.json").write_text(json.dumps(names))


if __name__ == "__main__":
    main()
