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

ParameterState = tuple[Tensor, Tensor, Tensor, Tensor]
"""A parameter, its gradient, and the gradient's first and second moment."""


class Kind(NamedTuple):
    """How a parameter is treated.

    Attributes:
        scale: Factor of the learning rate.
        decays: Whether weight decay applies.
        clipped: Whether it is clipped to +-1.
        binary: Whether the penalty applies.
    """

    scale: float = 1.0
    decays: bool = False
    clipped: bool = False
    binary: bool = False


class Update(NamedTuple):
    """The numbers of one step for one kind of parameter.

    Attributes:
        number: Of the step, from 1.
        rate: Learning rate, the layer's scale included.
        decay: Weight decay, 0 where none applies.
        pull: lambda / steps, at most 1; 0 where no penalty applies.
        clipped: Whether the parameters are clipped to +-1.
    """

    number: int
    rate: float
    decay: float
    pull: float
    clipped: bool


class Adam:
    """Adam with penalty and weight decay, both decoupled from the loss's gradient.

    Neither goes through Adam, which would divide it by the gradient's size: each step moves w by
    -(lambda / steps) / 2 dP/dw, whatever the loss does.
    Sources: Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101.

    Args:
        module: Module to train.
        settings: Schedules, penalty and weight decay.
        steps: Steps of the whole run.

    Attributes:
        parameters: All trainable parameters of the module.
        first: Their first moments.
        second: Their second moments.
    """

    def __init__(self, module: nn.Module, settings: Settings, steps: int) -> None:
        self.settings, self.steps = settings, steps
        self.parameters = [
            parameter for parameter in module.parameters() if parameter.requires_grad
        ]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._groups = parameter_groups(module)
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
        states = {
            parameter: (parameter, parameter.grad, first, second)
            for parameter, first, second in zip(
                self.parameters, self.first, self.second, strict=True
            )
            if parameter.grad is not None
        }
        for kind, members in self._groups.items():
            group = [states[parameter] for parameter in members if parameter in states]
            if all(compiled_update.supported(tensor) for state in group for tensor in state):
                self._compiled_step(group, self._update(kind, done))
            else:
                self._torch_step(group, self._update(kind, done))

    def _update(self, kind: Kind, done: int) -> Update:
        progress, settings = done / self.steps, self.settings
        return Update(
            number=done + 1,
            rate=settings.learning_rate_at(progress) * kind.scale,
            decay=settings.weight_decay if kind.decays else 0.0,
            pull=min(settings.lambda_at(progress) / self.steps, 1.0) if kind.binary else 0.0,
            clipped=kind.clipped,
        )

    def _compiled_step(self, group: Sequence[ParameterState], update: Update) -> None:
        number, rate, decay, pull, clipped = update
        penalty = compiled_update.PENALTY_CODES[self.settings.penalty if pull else None]
        corrections = 1 / (1 - 0.9**number), (1 - 0.999**number) ** -0.5
        numbers = pull, rate, rate * decay, *corrections, 1.0 if clipped else np.inf
        for state in group:
            arrays = [compiled_update.flat(tensor) for tensor in state]
            compiled_update.adam(*arrays, penalty, *(np.float32(value) for value in numbers))

    def _torch_step(self, group: Sequence[ParameterState], update: Update) -> None:
        """The same in torch's operations, for other devices and types."""
        number, rate, decay, pull, clipped = update
        weights, gradients, first, second = (list(column) for column in zip(*group, strict=True))
        slopes = (
            [self._penalty.gradient(weight) for weight in weights]
            if self._penalty is not None and pull
            else []
        )
        # adamw adds 1 to the counts.
        counts = [torch.full((), number - 1.0, device=weight.device) for weight in weights]
        adamw(
            weights, gradients, first, second, [], counts, fused=True, amsgrad=False,
            beta1=0.9, beta2=0.999, lr=rate, weight_decay=decay, eps=1e-8, maximize=False,
        )  # fmt: skip
        for weight, slope in zip(weights, slopes, strict=False):
            weight.sub_(slope, alpha=pull / 2)
        if clipped:
            for weight in weights:
                weight.clamp_(-1, 1)

    def load(self, moments: Sequence[Sequence[Tensor]]) -> None:
        """Continue with these moments: (first, second) of each parameter.

        Raises ValueError where they do not fit.
        """
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


def parameter_groups(module: nn.Module) -> dict[Kind, list[nn.Parameter]]:
    """The trainable parameters by kind; weight decay spares biases and batch norm."""
    layer_kinds = {
        layer.weight: Kind(layer.learning_rate_scale, True, layer.scheme.clip, layer.scheme.binary)
        for layer in scheme_layers(module).values()
    }
    groups: dict[Kind, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            kind = layer_kinds.get(parameter, Kind(decays=parameter.ndim > 1))
            groups.setdefault(kind, []).append(parameter)
    return groups
