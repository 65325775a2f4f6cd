"""Small graphs, and files of them."""

from __future__ import annotations

from pathlib import Path

from bwn.ir.model_spec import ModelSpec
from bwn.onnx.exporter import to_onnx_bytes


def save_onnx(spec: ModelSpec, path: str | Path) -> None:
    """Write the ONNX export of a model."""
    Path(path).write_bytes(to_onnx_bytes(spec))
