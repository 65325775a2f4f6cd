"""Libraries of models that are not plain image classifiers, and the entry that makes probabilities."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from c_library import CLibrary
from graphs import floats, make_graph, words

import bwn
from bwn.compile.library import compile_library
from bwn.format import write
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import reference
from bwn.kernels.aot.c_scores import ScoresParams, make_probabilities
from bwn.kernels.target.jit import CompiledEntry
from bwn.ops.dense import Dense


@pytest.mark.skipif(
    shutil.which("ld") is None or not sys.platform.startswith("linux"), reason="no binutils"
)
def test_a_batch_of_vectors_with_8_bit_activations(tmp_path: Path) -> None:
    """Its scales are measured in each run; it says nothing of images, and has one score."""
    dense = Dense(input="x", output="y", weight="w", activations="int8")
    graph = make_graph(dense, shape=(70,), w=words(1, 70))
    write(tmp_path / "a.bwn", ModelSpec(graph=graph, classes=("spam",)))
    report = compile_library(tmp_path / "a.bwn", tmp_path, batch=5)
    model, library = bwn.load(tmp_path / "a.bwn", threads=1), CLibrary(tmp_path, "a")
    for seed in range(20):
        x = floats(5, 70, seed=seed) * np.float32(10.0**seed)
        assert library.run(x, (1,)).tobytes() == model.run(x).tobytes()
    assert report.classes == ("not spam", "spam")
    assert library.call("class", 0) == b"not spam"
    header = (tmp_path / "a.h").read_text()
    assert "#define A_BATCH 5\n" in header
    assert "#define A_CLASSES 2\n" in header
    assert "CHANNELS" not in header
    assert not any(f"a_{function}(" in header for function in ("prepare", "classify"))


@pytest.mark.parametrize(("outputs", "softmax"), [(7, True), (7, False), (1, True)])
def test_probabilities(outputs: int, softmax: bool) -> None:
    entry = CompiledEntry(make_probabilities(outputs, softmax), cache=False)
    classes = max(outputs, 2)
    for scale in (0.1, 10.0, 1e37):
        scores = (floats(outputs) * scale).astype(np.float32)
        values, finite = np.full(classes + 1, 9, np.float32), np.zeros(1, np.int64)
        places = (scores.ctypes.data, values.ctypes.data, finite.ctypes.data)
        block = np.array(ScoresParams(*places), np.int64)
        entry(block.ctypes.data, 0, 1, 0)
        every = np.insert(scores, 0, 0) if outputs == 1 else scores
        expected = reference.softmax(every[None])[0] if softmax else every
        np.testing.assert_allclose(values[:-1], expected, rtol=2**-23, atol=1e-45)
        assert (finite[0], values[-1]) == (1, 9)
