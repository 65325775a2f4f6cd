"""bwn pack compares QONNX files with ONNX Runtime, which does not know QONNX's operations."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, signs
from onnx_models import f32, model, op

from bwn import pack
from bwn.errors import BwnError
from bwn.onnx import qonnx_readers
from bwn.onnx.constant_folding import FOLDS

DOMAIN = "qonnx.custom_op.general"
STORED = {"s": f32(0.3), "z": f32(0), "b": f32(4), "one": f32(1), "w": signs(9, 4, 3, 3)}


def network(mode="ROUND"):
    """A 4-bit layer with one-bit weights."""
    return model(
        op("BipolarQuant", "w s", "q", DOMAIN),
        op("Conv", "x v", "c"),
        op("Quant", "c s z b", "r", DOMAIN, signed=1, narrow=0, rounding_mode=mode),
        op("Conv", "r q", "y"),
        v=floats(4, 4, 1, 1),
        **STORED,
    )


@pytest.mark.parametrize("mode", ["ROUND", "FLOOR", "HALF_UP", "DOWN"])
def test_it_is_compared(tmp_path, mode):
    (tmp_path / "a.onnx").write_bytes(network(mode))
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert report.compared > 1
    assert report.layers[-1].stored == "1 bit"


def fewer(node, bits, *most):
    low, high = qonnx_limits(node, bits, *most)
    return low, high - 1


qonnx_limits = qonnx_readers.limits
WRONG = {
    "limits": fewer,
    "mode_of": lambda *_: qonnx_readers.MODES["CEIL"],
    "scale_of": lambda *_: 0.2999,
}


@pytest.mark.parametrize("function", WRONG)
def test_a_wrong_reading_is_noticed(tmp_path, monkeypatch, function):
    monkeypatch.setattr(qonnx_readers, function, WRONG[function])
    (tmp_path / "a.onnx").write_bytes(network())
    with pytest.raises(BwnError, match="it would not compute what ONNX Runtime does"):
        pack(tmp_path / "a.onnx", tmp_path / "a.bwn")


def test_wrong_weights_are_noticed(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(network())

    wrong = FOLDS["BipolarQuant"]._replace(compute=lambda node, x, scale: np.abs(x) * scale)
    monkeypatch.setitem(FOLDS, "BipolarQuant", wrong)
    with pytest.raises(BwnError, match="it would not compute what ONNX Runtime does"):
        pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
