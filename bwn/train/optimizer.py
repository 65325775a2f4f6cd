"""Adam, the penalty and the clip: what moves real weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from bwn.train import compiled_update
from bwn.train.layers import scheme_layers
from bwn.train.penalties import find_penalty
from bwn.train.settings import Settings

Four = tuple[Tensor, Tensor, Tensor, Tensor]
"""A parameter, its gradient, and the gradient's first and second moment."""


class Kind(NamedTuple):
    """How a parameter is treated.

    scale: factor on the learning rate. decays: whether weight decay applies. clipped: to +-1. binary: whether the
    penalty applies.
    """

    scale: float = 1.0
    decays: bool = False
    clipped: bool = False
    binary: bool = False


class Adam:
    """Adam (Kingma and Ba, arXiv:1412.6980) with the penalty and weight decay decoupled from the loss's gradient.

    Neither goes through Adam, which would divide it by the gradient's size (Loshchilov and Hutter, arXiv:1711.05101):
    the penalty moves w by -drawn/2 dP/dw a step, drawn = lambda / steps, whatever the loss does.
    steps: of the whole run. parameters: all trainable ones of the module. first, second: their moments.
    """

    def __init__(self, module: nn.Module, settings: Settings, steps: int) -> None:
        self.settings, self.steps = settings, steps
        self.parameters = [
            parameter for parameter in module.parameters() if parameter.requires_grad
        ]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._groups = groups(module)
        self._penalty = find_penalty(settings.penalty) if settings.penalty else None

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """The gradients that the last backward pass left."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    @torch.no_grad()
    def step(self, done: int) -> None:
        """Move all parameters that have a gradient. done: steps before this one."""
        part, count = done / self.steps, done + 1
        tensors = {
            parameter: (parameter, parameter.grad, first, second)
            for parameter, first, second in zip(
                self.parameters, self.first, self.second, strict=True
            )
            if parameter.grad is not None
        }
        for kind, members in self._groups.items():
            rate = self.settings.learning_rate_at(part) * kind.scale
            decay = self.settings.weight_decay if kind.decays else 0.0
            drawn = min(self.settings.strength_at(part) / self.steps, 1.0) if kind.binary else 0.0
            group = [tensors[parameter] for parameter in members if parameter in tensors]
            if all(compiled_update.fits(tensor) for four in group for tensor in four):
                self._compiled(group, kind, count, rate, decay, drawn)
            else:
                self._plain(group, kind, count, rate, decay, drawn)

    def _compiled(
        self, group: Sequence[Four], kind: Kind, count: int, rate: float, decay: float, drawn: float
    ) -> None:
        pull = compiled_update.PULLS[self.settings.penalty if drawn else None]
        clip = 1.0 if kind.clipped else np.inf
        numbers = drawn, rate, rate * decay, 1 / (1 - 0.9**count), (1 - 0.999**count) ** -0.5, clip
        for four in group:
            arrays = [compiled_update.flat(tensor) for tensor in four]
            compiled_update.adam(*arrays, pull, *(np.float32(number) for number in numbers))

    def _plain(
        self, group: Sequence[Four], kind: Kind, count: int, rate: float, decay: float, drawn: float
    ) -> None:
        """The same in torch's operations, for other devices and types."""
        weights, gradients, first, second = (list(column) for column in zip(*group, strict=True))
        pulls = (
            [self._penalty.gradient(weight) for weight in weights]
            if self._penalty is not None and drawn
            else []
        )
        counts = [
            torch.full((), count - 1.0, device=weight.device) for weight in weights
        ]  # adamw adds the 1
        adamw(
            weights, gradients, first, second, [], counts, fused=True, amsgrad=False, beta1=0.9, beta2=0.999,
            lr=rate, weight_decay=decay, eps=1e-8, maximize=False,
        )  # fmt: skip
        for weight, pull in zip(weights, pulls, strict=False):
            weight.sub_(pull, alpha=drawn / 2)
        if kind.clipped:
            for weight in weights:
                weight.clamp_(-1, 1)

    def load(self, moments: Sequence[Sequence[Tensor]]) -> None:
        """Go on with these (first, second), a pair for each parameter. Raises ValueError where they do not fit."""
        if len(moments) != len(self.parameters):
            raise ValueError(f"moments of {len(moments)} parameters for {len(self.parameters)}")
        for parameter, first, second, pair in zip(
            self.parameters, self.first, self.second, moments, strict=True
        ):
            if not all(
                isinstance(m, Tensor) and m.shape == parameter.shape and m.dtype == parameter.dtype
                for m in pair
            ):
                raise ValueError("moments of another shape than the weights")
            first.copy_(pair[0])
            second.copy_(pair[1])


def groups(module: nn.Module) -> dict[Kind, list[nn.Parameter]]:
    """The trainable parameters by how they are treated; weight decay leaves biases and batch norm alone."""
    special = {
        layer.weight: Kind(layer.learning_rate_scale, True, layer.scheme.clip, layer.scheme.binary)
        for layer in scheme_layers(module).values()
    }
    found: dict[Kind, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            kind = special.get(parameter, Kind(decays=parameter.ndim > 1))
            found.setdefault(kind, []).append(parameter)
    return found
