"""Penalties that draw real weights to -1 or +1, so that taking their signs changes little.

`margin` is our reading of the Binary-L2 regularization of Xu et al. (ICIG 2017), of which only the abstract was
available: that it constrains the real weights to minimize their margins to the boundaries is theirs, the formula is an
inference. `double-well` is the smooth alternative; it is ours as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from bwn.errors import BwnError


@dataclass(frozen=True)
class Penalty:
    """A function of the real weights. value(w): its sum, a scalar. gradient(w): its derivative, of w's shape."""

    name: str
    value: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]


PENALTIES = {
    penalty.name: penalty
    for penalty in (
        # sum (1 - |w|)^2: the squared distance to the nearer of -1 and +1.
        Penalty(
            "margin", lambda w: (1 - w.abs()).square().sum(), lambda w: w.sub(w.sign()).mul_(2)
        ),
        # sum (1 - w^2)^2: its pull vanishes at 0 too, so undecided weights are left to the loss.
        Penalty(
            "double-well",
            lambda w: (1 - w.square()).square().sum(),
            lambda w: -4 * w * (1 - w.square()),
        ),
    )
}


def find_penalty(name: str) -> Penalty:
    """The penalty of that name. Raises BwnError for an unknown one."""
    if name not in PENALTIES:
        raise BwnError(f"unknown penalty '{name}'; valid penalties are {', '.join(PENALTIES)}")
    return PENALTIES[name]


def mean_distance(weights: Iterable[Tensor]) -> float:
    """Mean of | 1 - |w| | over all weights of all tensors; 0 where there are none."""
    total, count = 0.0, 0
    with torch.no_grad():
        for weight in weights:
            total += float((1 - weight.abs()).abs().sum())
            count += weight.numel()
    return total / max(count, 1)
