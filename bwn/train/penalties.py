"""Penalties that pull real weights to -1 or +1, so that taking their signs changes little.

`margin` is our reading of the Binary-L2 regularization of Xu et al. (ICIG 2017). We had access only
to its abstract, which says that it constrains the real weights to minimize their margins to the
boundaries; the formula is our reconstruction. `double-well` is a smooth alternative of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from bwn.errors import ArgumentError


@dataclass(frozen=True)
class Penalty:
    """A function of the real weights.

    Attributes:
        name: Name of the penalty.
        value: P(w), summed over all weights: any shape, float, to a scalar.
        gradient: dP/dw, of w's shape.

    Example:
        >>> import torch
        >>> from bwn.train import Penalty
        >>> quartic = Penalty(
        ...     "quartic",
        ...     lambda w: (1 - w.abs()).pow(4).sum(),
        ...     lambda w: -4 * w.sign() * (1 - w.abs()).pow(3),
        ... )
        >>> float(quartic.value(torch.tensor([0.0, 1.0])))
        1.0
    """

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
"""The built-in penalties by name: `margin` and `double-well`.

Example:
    >>> import torch
    >>> from bwn.train import PENALTIES
    >>> PENALTIES["margin"].gradient(torch.tensor([0.5, -1.0])).tolist()
    [-1.0, 0.0]
"""


def find_penalty(name: str) -> Penalty:
    """The penalty of that name. Raises BwnError for an unknown one."""
    if name not in PENALTIES:
        raise ArgumentError(f"unknown penalty '{name}'; valid penalties are {', '.join(PENALTIES)}")
    return PENALTIES[name]


def mean_distance(weights: Iterable[Tensor]) -> float:
    """Mean distance of all weights to the nearer of -1 and +1, |1 - |w||; 0 if there are none."""
    total, count = 0.0, 0
    with torch.no_grad():
        for weight in weights:
            total += float((1 - weight.abs()).abs().sum())
            count += weight.numel()
    return total / max(count, 1)
