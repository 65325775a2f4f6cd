"""Warm start: training from the weights of another checkpoint instead of random ones.

Float weights are small (a few hundredths), the real weights of a binary scheme fill [-1, 1]. Where
one becomes the other, a layer's weights are multiplied to the root mean square of the layer's own
fresh weights, and clipped; their signs stay. Batch norms keep weight and bias; their mean and
variance, which then have another scale, are measured again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bwn.errors import CheckpointError
from bwn.ir.model_spec import Preprocess
from bwn.train.checkpoint import Checkpoint, Description
from bwn.train.fake_quant import RoundActivation
from bwn.train.layers import clip_weights, scheme_layers
from bwn.train.networks import NETWORKS
from bwn.train.preprocessing import as_input
from bwn.train.settings import Architecture

STEP = ".step"
"""How the names of RoundActivation's buffers end; a network without them may gain them."""
BATCHES = 10
"""Batches from which batch norms measure mean and variance."""


def keeps_last_layer(origin: Description, classes: tuple[str, ...]) -> bool:
    """Whether the classes are the checkpoint's; its last layer is of no use for others."""
    return origin.classes == classes


def load_weights(
    module: nn.Sequential, network: Architecture, classes: tuple[str, ...], checkpoint: Checkpoint
) -> None:
    """Load the checkpoint's weights into a fresh module, in the range of its scheme.

    Args:
        module: Built from `network`; changed in place.
        network: The new network.
        classes: Its classes. Where the checkpoint's are others, the last layer and its batch norm
            stay fresh.
        checkpoint: Whose weights to take.

    Raises:
        CheckpointError: The weights do not fit; the message names the difference.
    """
    end = None if keeps_last_layer(checkpoint.description, classes) else -2
    new, old = module[:end], checkpoint.module[:end]  # type: ignore[index]  # always Sequential
    expected, weights = (
        {name: tensor for name, tensor in m.state_dict().items() if not name.endswith(STEP)}
        for m in (new, old)
    )
    if _shapes(expected) != _shapes(weights):
        reason = _difference(checkpoint.description.architecture, network)
        raise CheckpointError(f"{checkpoint.path}: its weights do not fit: {reason}")
    fresh = {name: layer.weight.detach().clone() for name, layer in scheme_layers(new).items()}
    new.load_state_dict(weights, strict=False)  # steps are measured with the statistics
    with torch.no_grad():
        for (name, layer), source in zip(
            scheme_layers(new).items(), scheme_layers(old).values(), strict=True
        ):
            if layer.scheme.clip != source.scheme.clip:
                used = source.scheme.deploy(source.weight)
                layer.weight.copy_(used * (_rms(fresh[name]) / _rms(used).clamp_min(1e-30)))
    clip_weights(module)


def measure_statistics(
    module: nn.Module, images: Tensor, batch: int, preprocess: Preprocess
) -> None:
    """Measure mean and variance of batch norms, and steps of 8-bit activations.

    All other layers work as deployed.

    Args:
        module: Changed in place; left in evaluation mode.
        images: (N, ...) uint8, of which BATCHES shuffled batches are used.
        batch: Images per batch.
        preprocess: How the images are prepared.
    """
    norms = [
        layer for layer in module.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))
    ]
    roundings = [layer for layer in module.modules() if isinstance(layer, RoundActivation)]
    batch = min(batch, len(images))
    # Shuffled, as stored images may be sorted by class.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
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


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _rms(weight: Tensor) -> Tensor:
    """Root mean square."""
    return weight.double().square().mean().sqrt()


def _difference(old: Architecture, new: Architecture) -> str:
    """How two networks differ in what weights depend on, in words."""
    return "; ".join(
        f"{what} {get(old)} there, {get(new)} here"
        for what, get in (
            ("the network is", lambda a: a.name),
            ("the width is", lambda a: a.width or NETWORKS[a.name].width),
            ("images are", lambda a: " x ".join(str(extent) for extent in a.input_shape)),
            ("activations are", lambda a: a.activations),
        )
        if get(old) != get(new)
    )
