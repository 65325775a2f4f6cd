"""How much memory a network takes to train, known before any of it is allocated."""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor

from bwn._text import byte_size
from bwn.errors import ArgumentError
from bwn.kernels.target.limits import available_memory
from bwn.train.architectures import build
from bwn.train.settings import Architecture

COPIES = 4
"""Of each weight: itself, its gradient, and Adam's two moments."""


def training_bytes(architecture: Architecture, batch: int) -> int:
    """Bytes of the weights, with all that training keeps of them, and of a batch's activations.

    Args:
        architecture: The network.
        batch: Images of a step.
    """
    activations = 0

    def count(_module: Any, _inputs: Any, output: Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    if architecture.activations == "int8":  # whose rounding asks for values
        architecture = msgspec.structs.replace(architecture, activations="relu")
    with torch.device("meta"), torch.random.fork_rng(devices=[]):  # shapes without memory
        network = build(architecture).eval()
        for layer in network.modules():
            if not list(layer.children()):
                layer.register_forward_hook(count)
        with torch.no_grad():
            network(torch.empty(batch, *architecture.input_shape))
    weights = sum(parameter.numel() for parameter in network.parameters())
    return 4 * (COPIES * weights + activations)


def check_memory(architecture: Architecture, batch: int, device: torch.device) -> None:
    """Raise ArgumentError where training would not fit in the memory of a device."""
    needed = training_bytes(architecture, batch)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    if free is not None and needed > free:
        _, height, width = architecture.input_shape
        raise ArgumentError(
            f"training {architecture.name} on images of {height} x {width} takes about "
            f"{byte_size(needed)} of memory, {byte_size(free)} are available; choose smaller "
            "images, a smaller network or smaller batches"
        )
