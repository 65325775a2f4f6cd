"""Training of networks whose weights end near -1 or +1: the only package that imports torch.

It has layers for modules of your own, the loop that trains them, and the export to ONNX:

    net = nn.Sequential(nn.Flatten(), BinaryLinear(784, 256), nn.BatchNorm1d(256), nn.ReLU(), ...)
    preprocess = fit(net, load_dataset("mnist-sample"), Settings(penalty="margin"))
    export_onnx(net, "net.onnx", torch.zeros(2, 1, 28, 28), preprocess=preprocess)

Names are loaded on first use: `import bwn.train`, `Settings` and `Architecture` need no torch. Any
other name raises MissingPackageError where torch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bwn.errors import MissingPackageError

if TYPE_CHECKING:
    from bwn.train.architectures import build
    from bwn.train.checkpoint import read_checkpoint
    from bwn.train.conversion import BinarizeReport, binarize, unbinarize
    from bwn.train.export import deploy, export_checkpoint, export_onnx
    from bwn.train.fake_quant import RoundActivation
    from bwn.train.layers import (
        BinaryConv1d,
        BinaryConv2d,
        BinaryLinear,
        SignActivation,
        binary_layers,
        clip_weights,
    )
    from bwn.train.optimizer_hook import MarginHook, margin
    from bwn.train.penalties import PENALTIES, Penalty
    from bwn.train.preprocessing import accuracy, measure
    from bwn.train.progress import Progress
    from bwn.train.schemes import SCHEMES, Scheme
    from bwn.train.settings import Architecture, Settings
    from bwn.train.sources import as_dataset
    from bwn.train.trainer import Trainer, fit

__all__ = [
    "PENALTIES", "SCHEMES", "Architecture", "BinarizeReport", "BinaryConv1d", "BinaryConv2d",
    "BinaryLinear", "MarginHook", "Penalty", "Progress", "RoundActivation", "Scheme", "Settings",
    "SignActivation", "Trainer", "accuracy", "as_dataset", "binarize", "binary_layers", "build",
    "clip_weights", "deploy", "export_checkpoint", "export_onnx", "fit", "margin", "measure",
    "read_checkpoint", "unbinarize",
]  # fmt: skip

_MODULES = {
    "architectures": ("build",),
    "checkpoint": ("read_checkpoint",),
    "conversion": ("BinarizeReport", "binarize", "unbinarize"),
    "export": ("deploy", "export_checkpoint", "export_onnx"),
    "fake_quant": ("RoundActivation",),
    "layers": (
        "BinaryConv1d", "BinaryConv2d", "BinaryLinear", "SignActivation", "binary_layers",
        "clip_weights",
    ),
    "optimizer_hook": ("MarginHook", "margin"),
    "penalties": ("PENALTIES", "Penalty"),
    "preprocessing": ("accuracy", "measure"),
    "progress": ("Progress",),
    "schemes": ("SCHEMES", "Scheme"),
    "settings": ("Architecture", "Settings"),
    "sources": ("as_dataset",),
    "trainer": ("Trainer", "fit"),
}  # fmt: skip
_HOMES = {name: f"bwn.train.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'bwn.train' has no attribute '{name}'")
    if _HOMES[name] != "bwn.train.settings":
        require_torch()
    return getattr(import_module(_HOMES[name]), name)


def require_torch() -> None:
    """Raises MissingPackageError where torch is not installed."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingPackageError("torch", "train", "training") from None
