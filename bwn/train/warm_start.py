"""Starting from the weights of another checkpoint instead of random ones.

Float weights are small (a few hundredths), the real weights of a binary scheme fill [-1, 1]. Where one becomes the
other, a layer's weights are multiplied to the root mean square that the layer's own fresh weights have, and clipped;
their signs stay. Batch norms keep weight and bias; mean and variance, of another scale then, are measured anew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bwn.errors import CheckpointError
from bwn.ir.model_spec import Preprocess
from bwn.train.architectures import WIDTHS, Architecture
from bwn.train.checkpoint import Checkpoint
from bwn.train.fake_quant import RoundActivation
from bwn.train.layers import clip_weights, scheme_layers
from bwn.train.preprocessing import as_input

STEP = ".step"
"""How the names of RoundActivation's buffers end: a network without them may become one with them."""
BATCHES = 10
"""From so many batches batch norms measure mean and variance."""


def keeps_last_layer(checkpoint: Checkpoint, classes: tuple[str, ...]) -> bool:
    """Whether the checkpoint tells the same classes apart; its last layer says nothing about others."""
    return checkpoint.description.classes == classes


def take_weights(
    module: nn.Sequential, network: Architecture, classes: tuple[str, ...], checkpoint: Checkpoint
) -> None:
    """Put the checkpoint's weights into a fresh module, in the range of its scheme.

    module: built from `network`; classes: what it is to tell apart. Where the checkpoint's are others, the last layer
    and its batch norm stay fresh. Raises CheckpointError, which names the difference, where the weights do not fit.
    """
    kept = None if keeps_last_layer(checkpoint, classes) else -2
    new, old = module[:kept], checkpoint.module[:kept]  # type: ignore[index]  # built-in networks are Sequential
    expected, found = (
        {n: t for n, t in m.state_dict().items() if not n.endswith(STEP)} for m in (new, old)
    )
    if {name: t.shape for name, t in expected.items()} != {
        name: t.shape for name, t in found.items()
    }:
        why = _difference(checkpoint.description.architecture, network)
        raise CheckpointError(f"'{checkpoint.path}' does not fit: {why}")
    fresh = {name: layer.weight.detach().clone() for name, layer in scheme_layers(new).items()}
    new.load_state_dict(found, strict=False)  # steps are measured with the statistics
    with torch.no_grad():
        for (name, layer), before in zip(
            scheme_layers(new).items(), scheme_layers(old).values(), strict=True
        ):
            if layer.scheme.clip != before.scheme.clip:
                used = before.scheme.deploy(before.weight)
                layer.weight.copy_(used * (_size(fresh[name]) / _size(used).clamp_min(1e-30)))
    clip_weights(module)


def measure_statistics(
    module: nn.Module, images: Tensor, batch: int, preprocess: Preprocess
) -> None:
    """Measure anew what batch norms know of mean and variance, and steps of 8 bits; other layers work as deployed.

    images: (N, ...) uint8, of which some shuffled batches are used.
    """
    norms = [
        layer for layer in module.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))
    ]
    roundings = [layer for layer in module.modules() if isinstance(layer, RoundActivation)]
    batch = min(batch, len(images))
    order = torch.randperm(
        len(images), generator=torch.Generator().manual_seed(0)
    )  # as stored, classes may be sorted
    count = min(len(images) // batch, BATCHES) * batch
    module.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the mean over all batches
    for layer in (*norms, *roundings):
        layer.train()
    with torch.no_grad():
        for start in range(0, count, batch):
            module(as_input(images[order[start : start + batch]], preprocess))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


def _size(weight: Tensor) -> Tensor:
    """Root mean square."""
    return weight.double().square().mean().sqrt()


def _difference(found: Architecture, wanted: Architecture) -> str:
    """What of two networks differs that weights depend on, in words."""
    told = []
    for what, get in (
        ("network", lambda a: a.name),
        ("width", lambda a: a.width or WIDTHS[a.name]),
        ("images", lambda a: " x ".join(str(extent) for extent in a.input_shape)),
        ("activations", lambda a: a.activations),
    ):
        if get(found) != get(wanted):
            told.append(f"its {what} {get(found)}, here {get(wanted)}")
    return "; ".join(told)
