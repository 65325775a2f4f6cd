"""bwn: train, pack, verify and run image classifiers with one-bit weights on the CPU.

    import bwn
    model = bwn.load("model.bwn")
    print(model.predict("photo.jpg").label)

Names are loaded when first used, so that `import bwn` is quick and imports neither torch nor onnx.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from bwn._text import __version__
from bwn.errors import (
    ArgumentError,
    BwnError,
    CheckpointError,
    DataError,
    DivergedError,
    FileError,
    FormatError,
    GraphError,
    MissingPackageError,
    NotPreparedError,
)

if TYPE_CHECKING:
    from bwn.model import Model, load
    from bwn.predict import Prediction
    from bwn.reporting.create import report
    from bwn.tools.evaluate import evaluate
    from bwn.tools.onnx_export import export
    from bwn.tools.pack import pack
    from bwn.tools.verify import verify
    from bwn.train.export import export_onnx

__all__ = [
    "ArgumentError",
    "BwnError",
    "CheckpointError",
    "DataError",
    "DivergedError",
    "FileError",
    "FormatError",
    "GraphError",
    "MissingPackageError",
    "Model",
    "NotPreparedError",
    "Prediction",
    "__version__",
    "evaluate",
    "export",
    "export_onnx",
    "load",
    "pack",
    "report",
    "verify",
]

_MODULES = {
    "Model": "bwn.model",
    "Prediction": "bwn.predict",
    "evaluate": "bwn.tools.evaluate",
    "export": "bwn.tools.onnx_export",
    "export_onnx": "bwn.train",
    "load": "bwn.model",
    "pack": "bwn.tools.pack",
    "report": "bwn.reporting.create",
    "verify": "bwn.tools.verify",
}

if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    # In a checkout kernels/ and cli/ are beside bwn/; only an installed bwn has them inside.
    __path__.append(os.path.dirname(__path__[0]))


def __getattr__(name: str) -> object:
    if name == "train":
        return import_module("bwn.train")
    if name not in _MODULES:
        raise AttributeError(f"module 'bwn' has no attribute '{name}'")
    from bwn.kernels.target.loader import KernelsError

    try:
        return getattr(import_module(_MODULES[name]), name)
    except KernelsError as error:
        raise BwnError(str(error)) from error


def __dir__() -> list[str]:
    return sorted([*__all__, "train"])
