"""Training of networks whose weights end near -1 or +1: the only room that imports torch.

Layers for one's own modules, the loop that trains them, and the way to ONNX:

    net = nn.Sequential(nn.Flatten(), BinaryLinear(784, 256), nn.BatchNorm1d(256), nn.ReLU(), ...)
    fit(net, load_dataset("mnist-sample"), Settings(penalty="margin"))
    export_onnx(net, "net.onnx", torch.zeros(2, 1, 28, 28))
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ImportError:
    from bwn.errors import MissingPackageError

    raise MissingPackageError("torch", "train", "training") from None

from bwn.train.architectures import Architecture, build
from bwn.train.checkpoint import read_checkpoint
from bwn.train.export import deploy, export_checkpoint, export_onnx
from bwn.train.fake_quant import RoundActivation
from bwn.train.layers import BinaryConv2d, BinaryLinear, SignActivation, binary_layers, clip_weights
from bwn.train.penalties import PENALTIES, Penalty
from bwn.train.preprocessing import accuracy, measure
from bwn.train.schemes import SCHEMES, Scheme
from bwn.train.settings import Settings
from bwn.train.trainer import Progress, Trainer, fit

__all__ = [
    "PENALTIES",
    "SCHEMES",
    "Architecture",
    "BinaryConv2d",
    "BinaryLinear",
    "Penalty",
    "Progress",
    "RoundActivation",
    "Scheme",
    "Settings",
    "SignActivation",
    "Trainer",
    "accuracy",
    "binary_layers",
    "build",
    "clip_weights",
    "deploy",
    "export_checkpoint",
    "export_onnx",
    "fit",
    "measure",
    "read_checkpoint",
]
