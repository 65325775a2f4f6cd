"""bwn: train, pack, verify and run image classifiers with one-bit weights on the CPU.

    import bwn
    model = bwn.load("model.bwn")
    scores = model.run(x)

Names are loaded when first used, so that `import bwn` is quick and brings in neither torch nor onnx.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from bwn.errors import BwnError

if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    # In a checkout kernels/ and cli/ are beside bwn/; only an installed bwn has them inside.
    __path__.append(os.path.dirname(__path__[0]))

if TYPE_CHECKING:
    from bwn.model import Model, load
    from bwn.tools.pack import pack
    from bwn.tools.verify import verify
    from bwn.train.export import export_onnx

__all__ = ["BwnError", "Model", "export_onnx", "load", "pack", "verify"]

_HOMES = {
    "Model": "bwn.model",
    "load": "bwn.model",
    "pack": "bwn.tools.pack",
    "export_onnx": "bwn.train",
    "verify": "bwn.tools.verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'bwn' has no attribute '{name}'")
    from bwn.kernels.target.loader import KernelsError

    try:
        return getattr(import_module(_HOMES[name]), name)
    except KernelsError as error:
        raise BwnError(str(error)) from error
