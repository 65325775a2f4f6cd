"""Networks of other tools in bwn, ONNX Runtime and ncnn, float32 activations; prints a table.

python benchmarks/compare_onnx.py [NETWORKS ...] [--batch 1 16] [--threads 1 2] [--seconds 10]
                                  [--save FOLDER]

NETWORKS are ONNX files with a dynamic batch, or classifiers of torchvision where that is installed,
by default mobilenet_v2, densenet121 and efficientnet_b0. The weights of these are random, and +-a
for each output channel, except in the first and last layer. --save keeps their ONNX files.

All engines compute the same float32 function of the same input with the same threads, on as many
CPUs. Their scores are compared first, then they are timed, interleaved (bwn.tools.timing). ncnn has
no batch axis, so the images of a batch run one after another; its files are made by pnnx.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compare_networks import one_cpu_per_core

NETWORKS = ("mobilenet_v2", "densenet121", "efficientnet_b0")
SIZE = (3, 224, 224)
HEAD = ("network", "batch", "threads", "engine", "median", "minimum", "bwn is", "scores")


def main() -> None:
    """Measure each network in one process for each number of threads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--cells", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cells:
        run_cells(Path(options.networks[0]), options.threads[0], options.batch, options.seconds)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.save or Path(temporary)
        folder.mkdir(exist_ok=True)
        files = [path_of(name, folder) for name in options.networks]
        print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
        for file in files:
            for threads in options.threads:
                command = [sys.executable, __file__, str(file), "--cells"]
                command += ["--threads", str(threads), "--seconds", str(options.seconds)]
                subprocess.run([*command, "--batch", *map(str, options.batch)], check=True)


def path_of(name: str, folder: Path) -> Path:
    """An ONNX file: of that name, or of a network of torchvision."""
    if name.endswith(".onnx"):
        return Path(name)
    import torch
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    with torch.no_grad():
        for layer in layers[1:-1]:
            axes = list(range(1, layer.weight.ndim))
            alpha = layer.weight.abs().mean(axes, keepdim=True)
            layer.weight.copy_(torch.where(layer.weight >= 0, alpha, -alpha))
    path = folder / f"{name}.onnx"
    torch.onnx.export(
        network, (torch.randn(2, *SIZE),), path, input_names=["x"], opset_version=17,
        dynamo=False, dynamic_axes={"x": {0: "N"}},
    )  # fmt: skip
    return path


def run_cells(file: Path, threads: int, batches: list[int], seconds: float) -> None:
    """Measure a network at every batch size, and print a row for each engine."""
    os.sched_setaffinity(0, one_cpu_per_core()[:threads])  # before any engine counts the CPUs
    import numpy as np
    from comparison.measure import judge
    from engines import onnxruntime_engine

    import bwn
    from bwn.tools.benchmark import example_input
    from bwn.tools.timing import interleave

    with tempfile.TemporaryDirectory() as folder:
        bwn.pack(file, f"{folder}/a.bwn", check=False)
        model = bwn.load(f"{folder}/a.bwn", threads=threads)
        shape = model.spec.graph.topology.input_shape
        runs: dict[str, Callable[[Any], Any]] = {"bwn": model.run}
        runs["onnxruntime"] = onnxruntime_engine.start(file, threads)
        with contextlib.suppress(ModuleNotFoundError):
            runs["ncnn"] = ncnn_of(file, shape, threads, Path(folder))
    for batch in batches:
        x = example_input(model.spec, batch)
        scores = {name: np.array(run(x)).reshape(batch, -1) for name, run in runs.items()}
        calls = {name: partial(run, x) for name, run in runs.items()}
        timings = interleave(calls, seconds)
        for name, timing in timings.items():
            judged = judge("float32", scores[name], scores["onnxruntime"], has_signs=False)
            ratio = "" if name == "bwn" else f"{timings['bwn'].speedup(timing):.2f}x as fast"
            times = (f"{1e3 * time:.2f} ms" for time in (timing.median, timing.minimum))
            row = (file.stem, str(batch), str(threads), name, *times, ratio, judged.verdict)
            print(f"| {' | '.join(row)} |", flush=True)


def ncnn_of(file: Path, shape: tuple[int, ...], threads: int, folder: Path) -> Callable[[Any], Any]:
    """The file in ncnn, converted by pnnx. Raises ModuleNotFoundError where they are missing."""
    from bwn.tools.ncnn_network import load

    spec = find_spec("pnnx")
    if find_spec("ncnn") is None or spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("ncnn or pnnx")
    converter = Path(spec.submodule_search_locations[0]) / "pnnx"
    source = (folder / "net.onnx").absolute()
    source.write_bytes(file.read_bytes())
    sizes = f"inputshape=[1,{','.join(map(str, shape))}]"
    command = [str(converter), str(source), sizes, "fp16=0"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return load([folder / "net.ncnn.param", folder / "net.ncnn.bin"], "in0", "out0", threads)


if __name__ == "__main__":
    main()
