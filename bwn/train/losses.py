"""What training minimizes, apart from the penalty: two losses, and class weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bwn._text import count_noun
from bwn.data.datasets import Dataset
from bwn.errors import ArgumentError


def image_weights(
    chosen: Literal["none", "balanced"] | tuple[float, ...], data: Dataset
) -> Tensor | None:
    """The weight that each class's images have in the loss.

    Scaled to a mean of 1 over the N images: the loss keeps its size, and with it the learning rate
    and lambda their meaning.

    Args:
        chosen: A number above 0 for each class; `balanced`: N / (classes count), so that all
            classes together weigh the same; `none`.
        data: The training images.

    Returns:
        (classes,) float32, or None where all weights are 1.

    Raises:
        BwnError: There are not as many numbers as classes.
    """
    if chosen == "none":
        return None
    count = np.bincount(data.labels, minlength=len(data.classes))
    if chosen == "balanced":
        weights = 1 / np.maximum(count, 1)  # the weight of a class without images has no effect
    else:
        weights = np.array(chosen, np.float64)
        if len(weights) != len(count):
            raise ArgumentError(
                f"{count_noun(len(weights), 'class weight')} for {len(count)} classes: "
                f"{', '.join(data.classes)}"
            )
    return torch.from_numpy((weights * len(data.labels) / (weights @ count)).astype(np.float32))


def squared_hinge(
    scores: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean over images and classes of max(0, 1 - t y)^2.

    The target t is +1 for the image's class and -1 for the others. With smoothing s the loss is
    (1 - s) times that, plus s times its mean over all classes taken as the label.

    Args:
        scores: (N, classes) float, y.
        labels: (N,) int64, the right classes.
        weights: (classes,) float32, of the images of each class; None: all 1. The mean divides by
            the number of images, not by the sum of their weights.
        smoothing: Share of the label that is spread evenly over all classes, in 0 to 1.

    Returns:
        () float.
    """
    targets = torch.full_like(scores, -1.0).scatter_(1, labels.unsqueeze(1), 1.0)
    losses = F.relu(1 - targets * scores).square()
    if smoothing:
        share, other = smoothing / scores.shape[1], F.relu(1 + targets * scores).square()
        # A class is taken as the label with share s / classes, the label itself with 1 - s more.
        swapped = torch.where(targets > 0, smoothing - share, share)
        losses = losses + swapped * (other - losses)
    return losses.mean() if weights is None else (losses * weights[labels].unsqueeze(1)).mean()


def cross_entropy(
    scores: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean over images of -log softmax(y) at the image's class. Arguments as in `squared_hinge`.

    Smoothing s: Szegedy et al., arXiv:1512.00567, section 7.
    """
    if weights is None:
        return F.cross_entropy(scores, labels, label_smoothing=smoothing)
    losses = F.cross_entropy(scores, labels, reduction="none", label_smoothing=smoothing)
    return (losses * weights[labels]).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None, float], Tensor]] = {
    "hinge": squared_hinge,
    "cross-entropy": cross_entropy,
}
