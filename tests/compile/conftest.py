"""Compiled networks for all tests here."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import make_graph, words

from bwn.compile.library import compile_library
from bwn.format import write
from bwn.ir.model_spec import ModelSpec
from bwn.kernels.aot import linker
from bwn.ops.dense import Dense
from bwn.ops.sign import Sign

MODEL = Path(__file__).resolve().parents[2] / "models" / "mnist-lenet.bwn"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library `net` of LeNet for this machine, which takes most of the time of these tests."""
    if not sys.platform.startswith("linux") or platform.machine() not in linker.PAGES:
        pytest.skip("libraries are for Linux")
    if not all(map(shutil.which, ("ld", "as"))):
        pytest.skip("no binutils")
    folder = tmp_path_factory.mktemp("c")
    compile_library(MODEL, folder, name="net")
    return folder


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules for WebAssembly: `net` of LeNet with a page, `many` with a batch, `sign`; the two take no images."""
    if shutil.which("wasm-ld") is None:
        pytest.skip("no wasm-ld")
    folder = tmp_path_factory.mktemp("wasm")
    compile_library(MODEL, folder, target="wasm32", name="net", page=True)
    int8 = [
        Dense(input="x", output="h", weight="w", activations="int8"),
        Dense(input="h", output="y", weight="v", activations="int8"),
    ]
    signs = [Sign(input="x", output="s"), Dense(input="s", output="y", weight="w")]
    integers = np.random.default_rng(0).integers(-127, 128, (10, 10)).astype(np.int8)
    for name, nodes, batch in (("many", int8, 5), ("sign", signs, 1)):
        tensors = {"w": words(10, 70)} | ({"v": integers} if name == "many" else {})
        graph = make_graph(*nodes, shape=(70,), **tensors)
        write(folder / f"{name}.bwn", ModelSpec(graph=graph))
        compile_library(folder / f"{name}.bwn", folder, target="wasm32", batch=batch)
    return folder
