"""Runs the board's commands in the current folder on a small packed model and shipped digits.

python -I smoke.py [--bare [--compiled]]

Each command runs in a process of its own that fails if it loads torch, onnx or onnxruntime
(probe.py). With `--bare` this is the environment of a board: bwn must come from site-packages, and
a command that needs an extra must say so. With `--compiled` the kernels must come from a library,
and numba must not be there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

import bwn
import bwn.kernels
from bwn import format
from bwn.data import datasets
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ir.node import Array
from bwn.kernels import bits
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten

PROBE = Path(__file__).resolve().parent / "probe.py"
BOARD = (
    (["--version"], version("bwn")),
    (["--help"], "infer"),
    (["doctor"], "kernels"),
    (["inspect", "model.bwn"], "dense"),
    (["infer", "model.bwn", "digits"], "digit-2.png"),
    (["infer", "--json", "model.bwn", "digits/digit-0.png"], "{"),
    (
        ["evaluate", "model.bwn", "--data", "mnist-sample", "--samples", "64", "--threads", "1"],
        "on 64 images of",
    ),
    (["bench", "model.bwn", "--threads", "1", "--seconds", "0.05", "--no-compare"], "median ms"),
)
NEEDS_EXTRAS = (
    ["train", "--data", "mnist-sample", "-o", "a.pt"],
    ["pack", "model.onnx", "-o", "b.bwn"],
)


def make_model(path: Path) -> None:
    """A .bwn file with one dense layer of random signs over 28 x 28 images."""
    weights = np.random.default_rng(0).standard_normal((10, 784))
    nodes = (
        Flatten(input="x", output="flat"),
        Dense(input="flat", output="scores", weight="words", scale="scale"),
    )
    tensors: dict[str, Array] = {
        "words": bits.pack(weights),
        "scale": np.full(10, 0.05, np.float32),
    }
    topology = Topology(input="x", input_shape=(1, 28, 28), output="scores", nodes=nodes)
    preprocess = Preprocess(size=(28, 28), color="L", mean=(0.1307,), std=(0.3081,))
    spec = ModelSpec(
        graph=Graph(topology=topology, tensors=tensors),
        preprocess=preprocess,
        classes=tuple("0123456789"),
        producer="smoke test",
    )
    format.write(path, spec)


def make_images(folder: Path) -> None:
    """Three digits of the sample that is installed with bwn, as PNG files."""
    folder.mkdir()
    for index, image in enumerate(datasets.load_dataset("mnist-sample", "test").images[:3]):
        Image.fromarray(image).save(folder / f"digit-{index}.png")


def probe(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """One command in a process that watches what is loaded."""
    command = [sys.executable, "-I", str(PROBE), *arguments]
    return subprocess.run(
        command, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )


def main() -> None:
    """Runs them all; raises AssertionError with the command's output where one is not as expected."""
    bare = "--bare" in sys.argv[1:]
    make_model(Path("model.bwn"))
    make_images(Path("digits"))
    for arguments, shows in BOARD:
        done = probe(arguments)
        assert done.returncode == 0, (
            f"bwn {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        assert shows in done.stdout, f"bwn {arguments}: no {shows!r} in\n{done.stdout}"
    if bare:
        site = Path(sysconfig.get_path("purelib")).resolve()
        for module in (bwn, bwn.kernels):
            assert Path(str(module.__file__)).resolve().is_relative_to(site), module.__file__
        assert find_spec("kernels") is None, "the wheel must not install a bare `kernels`"
        assert find_spec("cli") is None, "the wheel must not install a bare `cli`"
        if "--compiled" in sys.argv[1:]:
            assert find_spec("numba") is None, "a wheel with compiled kernels needs no numba"
            done = probe(["doctor"])
            assert re.search(r"^kernels +library ", done.stdout, re.MULTILINE), done.stdout
        done = probe(["bench", "model.bwn", "--seconds", "0.05"])
        assert done.returncode == 0, done.stderr
        assert "nothing is compared" in done.stdout, done.stdout
        Path("model.onnx").write_bytes(b"")
        for arguments in NEEDS_EXTRAS:
            done = probe(arguments)
            assert done.returncode == 1, (
                f"bwn {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
            assert done.stderr.startswith("Error: "), done.stderr
            assert "pip install" in done.stderr, done.stderr
            assert done.stderr.count("\n") == 1, done.stderr
    print(
        f"{len(BOARD)} commands ran on Python {sys.version.split()[0]}; no torch, no onnx, no onnxruntime loaded"
    )


if __name__ == "__main__":
    main()
