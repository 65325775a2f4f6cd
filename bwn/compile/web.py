"""The texts that come with a WebAssembly module: an ES module, and its types for TypeScript."""

from __future__ import annotations

import json
from pathlib import Path

from bwn._text import __version__
from bwn.compile.c_header import Report

FOLDER = Path(__file__).parent


def script(report: Report) -> str:
    """The ES module that loads and calls NAME.wasm."""
    constants = {
        "name": report.name,
        "classes": report.classes,
        "inputShape": report.input_shape,
        "outputShape": report.output_shape,
        "batch": report.batch,
    }
    lines = [
        f"export const {name} = {json.dumps(value)};\n"
        if isinstance(value, str | int)
        else f"export const {name} = Object.freeze({json.dumps(value)});\n"
        for name, value in constants.items()
    ]
    return _about(report) + "".join(lines) + (FOLDER / "module.mjs").read_text(encoding="utf-8")


def types(report: Report) -> str:
    """The types of the ES module."""
    return _about(report) + (FOLDER / "module.d.mts").read_text(encoding="utf-8")


def _about(report: Report) -> str:
    return (
        f"// {report.name}: a neural network for browsers and Node.js, made by bwn {__version__}\n"
        f"// of the model with SHA-256 {report.model_sha256}.\n"
    )
