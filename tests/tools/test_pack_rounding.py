"""The check of `bwn pack` where a network multiplies roundings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import floats
from onnx_models import model, op

from bwn.errors import BwnError
from bwn.passes import pipeline
from bwn.tools import pack_check
from bwn.tools.pack import pack

SIGNS = np.where(floats(64, 32) < 0, np.float32(-1), np.float32(1))


def steep(path: Path) -> Path:
    """Numbers that differ by 1e-6 of their size are normalized, so their roundings count."""
    nodes = (
        op("MatMul", "x w", "a"),
        op("Add", "a b", "c"),
        op("LayerNormalization", "c one", "d", epsilon=1e-20),
        op("MatMul", "d v", "y"),
    )
    path.write_bytes(
        model(
            *nodes, shape=(64,), opset=17, w=SIGNS * np.float32(1e-7),
            b=np.ones(32, np.float32), one=np.ones(32, np.float32), v=SIGNS[:32, :8].copy(),
        )
    )  # fmt: skip
    return path


@pytest.mark.parametrize("interpreted", [0, 10**8])
def test_roundings_that_a_network_multiplies_are_no_fault(tmp_path, monkeypatch, interpreted):
    monkeypatch.setattr(pack_check, "INTERPRETED", interpreted)
    assert pack(steep(tmp_path / "a.onnx"), tmp_path / "a.bwn").compared > 0


def test_a_fault_is_still_found(tmp_path, monkeypatch):
    """Weights of another sign between two layers that agree: what is read wrong is no rounding."""
    genuine = pipeline.run

    def wrong(graph, tolerance):
        packed = genuine(graph, tolerance)
        flipped = {
            name: -array
            for name, array in packed.tensors.items()
            if array.shape == (32,) and np.all(array == 1) and "one" in name
        }
        assert flipped
        return packed.replace(packed.topology.nodes, packed.tensors | flipped)

    monkeypatch.setattr(pipeline, "run", wrong)
    with pytest.raises(BwnError, match=r"scores differ by|layer '.*' differs"):
        pack(steep(tmp_path / "a.onnx"), tmp_path / "a.bwn")
