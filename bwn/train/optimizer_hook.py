"""Penalty, clip and learning-rate scale for any torch optimizer, as hooks on its steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from bwn.errors import ArgumentError
from bwn.train.layers import BinaryLayer, binary_layers
from bwn.train.penalties import Penalty, find_penalty, mean_distance
from bwn.train.settings import Settings

STATE_KEY = "bwn_margin_step"
"""Key of the steps done in the first parameter group of an optimizer's state_dict.

An optimizer keeps what it loads there, so `margin` may also be called after load_state_dict.
"""


class MarginHook:
    """The hooks that `margin` registered on an optimizer.

    Attributes:
        optimizer: The optimizer.
        step: Optimizer steps done. It is saved and restored with the optimizer's own state_dict,
            which may be loaded before or after `margin` is called.
        steps: Steps of the whole run.

    Example:
        >>> import torch
        >>> from bwn.train import BinaryLinear, MarginHook, margin
        >>> layer = BinaryLinear(4, 2)
        >>> optimizer = torch.optim.Adam(layer.parameters())
        >>> hook = margin(optimizer, layer, steps=100)
        >>> isinstance(hook, MarginHook), hook.step
        (True, 0)
        >>> hook.remove()
    """

    def __init__(
        self,
        optimizer: Optimizer,
        layers: Iterable[BinaryLayer],
        steps: int,
        penalty: Penalty | None,
        schedule: Settings,
        scale: bool,
    ) -> None:
        """Register the hooks; `margin` does."""
        self.optimizer, self.step, self.steps = optimizer, 0, steps
        self._layers = {layer.weight: layer for layer in layers}  # tied weights are moved once
        self._penalty, self._schedule, self._scale = penalty, schedule, scale
        self._groups: list[dict[str, Any]] | None = None  # the optimizer's own, within a step
        self._slopes: dict[Tensor, Tensor] = {}
        self._handles = (
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_post_hook(self._resume),
        )
        self._resume(optimizer)

    @property
    def strength(self) -> float:
        """Lambda of the next step: strength 10^(-ramp (1 - step / steps)); 0 without a penalty."""
        if self._penalty is None:
            return 0.0
        return self._schedule.lambda_at(min(self.step / self.steps, 1.0))

    @property
    def distance(self) -> float:
        """Mean distance of the real weights to the nearer of -1 and +1."""
        return mean_distance(self._layers)

    def remove(self) -> None:
        """Take the hooks off the optimizer again."""
        self._merge()
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> dict[str, int]:
        """The steps done, for loops that do not save the optimizer's state_dict."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue the ramp from a `state_dict()`."""
        self.step = int(state["step"])

    @torch.no_grad()
    def _before(self, _optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        self._merge()  # where the last step raised an exception
        penalty = self._penalty if self.strength else None
        self._slopes = {} if penalty is None else {w: penalty.gradient(w) for w in self._active()}
        if self._scale:
            self._split()

    @torch.no_grad()
    def _after(self, _optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        self._merge()
        pull = min(self.strength / self.steps, 1.0)
        for weight, layer in self._active().items():
            if weight.grad is not None:
                if (slope := self._slopes.get(weight)) is not None:
                    weight.sub_(slope, alpha=pull / 2)
                if layer.scheme.clip:
                    weight.clamp_(-1, 1)
        self._slopes = {}
        self.step += 1
        self.optimizer.param_groups[0].pop(STATE_KEY, None)  # of a loaded state: out of date

    def _active(self) -> dict[Tensor, BinaryLayer]:
        """The weights whose layers have not been turned into torch's own since."""
        return {w: layer for w, layer in self._layers.items() if isinstance(layer, BinaryLayer)}

    def _split(self) -> None:
        """Give each layer a group with its own learning rate, for the time of a step."""
        scales = {w: layer.learning_rate_scale for w, layer in self._active().items()}
        self._groups, groups = self.optimizer.param_groups, []
        for group in self._groups:
            parts: dict[float, list[Tensor]] = {}
            for parameter in group["params"]:
                parts.setdefault(scales.get(parameter, 1.0), []).append(parameter)
            groups += [
                {**group, "params": part, "lr": group["lr"] * scale if scale != 1 else group["lr"]}
                for scale, part in parts.items()
            ]
        self.optimizer.param_groups = groups

    def _merge(self) -> None:
        """Give the optimizer its own groups back."""
        if self._groups is not None:
            self.optimizer.param_groups, self._groups = self._groups, None

    def _save(self, _optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        first, *others = state["param_groups"]
        return {**state, "param_groups": [{**first, STATE_KEY: self.step}, *others]}

    def _resume(self, optimizer: Optimizer) -> None:
        """Continue from the steps of a state_dict that the optimizer has loaded."""
        self.step = int(optimizer.param_groups[0].get(STATE_KEY, self.step))


def margin(
    optimizer: Optimizer,
    module: nn.Module,
    steps: int,
    *,
    strength: float = 300.0,
    ramp: float = 6.0,
    penalty: str | Penalty | None = "margin",
    scale: bool = True,
) -> MarginHook:
    """Train one-bit weights with any torch optimizer, in any loop: hooks on its `step`.

    In a step the learning rate of each layer whose weights are clipped is multiplied by
    `learning_rate_scale`. After it each of its real weights moves by -(lambda / steps) / 2 dP/dw
    and is clipped to +-1, where lambda = strength 10^(-ramp (1 - step / steps)). This is what `fit`
    does: the penalty does not go through the optimizer, since Adam would divide it by the size of
    the loss's gradient. Steps are those of the optimizer: accumulated gradients make one, and one
    that GradScaler skips does not count.

    Args:
        optimizer: Any optimizer but LBFGS, with the module's parameters; also the wrapper of
            Lightning or Accelerate around one.
        module: The module, whose layers are binary already; see `binarize`.
        steps: Optimizer steps of the whole run.
        strength: Lambda at the end of the run.
        ramp: Powers of ten by which lambda grows over the run.
        penalty: A Penalty or its name; None: only clip and scale.
        scale: Whether learning rates are scaled.

    Returns:
        The hooks, to remove them, and to read the distance to +-1 and lambda.

    Raises:
        ArgumentError: The optimizer has no weight of a one-bit layer, has such hooks already, or is
            LBFGS or none of torch's; or a number is out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from bwn.train import BinaryLinear, margin
        >>> net = nn.Sequential(BinaryLinear(8, 8), nn.BatchNorm1d(8))
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        >>> hook = margin(optimizer, net, steps=50)
        >>> for _ in range(50):
        ...     optimizer.zero_grad()
        ...     net(torch.randn(16, 8)).square().mean().backward()
        ...     optimizer.step()
        >>> hook.distance < 0.01
        True
    """
    optimizer = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer is {type(optimizer).__name__}, expected Optimizer")
    if isinstance(optimizer, LBFGS):
        raise ArgumentError(
            "LBFGS searches along a line of losses, which signs of weights make a staircase; "
            "use Adam or SGD"
        )
    if steps < 1 or strength < 0 or ramp < 0:
        raise ArgumentError("steps must be 1 or more, strength and ramp 0 or more")
    _check_groups(optimizer, scale)
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    layers = [layer for layer in binary_layers(module).values() if id(layer.weight) in own]
    if not layers:
        raise ArgumentError(
            "the optimizer has no weight of a one-bit layer of this module: call "
            "bwn.train.binarize(module) first, and give the optimizer the module's parameters"
        )
    weights = {id(layer.weight) for layer in layers}
    for hook in optimizer._optimizer_step_post_hooks.values():
        other = getattr(hook, "__self__", None)
        if isinstance(other, MarginHook) and weights & {id(weight) for weight in other._layers}:
            raise ArgumentError("the optimizer has these hooks already; remove() them first")
    chosen = find_penalty(penalty) if isinstance(penalty, str) else penalty
    schedule = Settings(penalty="margin", strength=strength, ramp=ramp)
    return MarginHook(optimizer, layers, steps, chosen, schedule, scale)


def _check_groups(optimizer: Optimizer, scale: bool) -> None:
    if scale and any(group.get("lr") is None for group in optimizer.param_groups):
        raise ArgumentError(
            f"{type(optimizer).__name__} has no learning rate to scale; give it one, or scale=False"
        )
