"""Augmentation of training images: shifts and mirror images."""

from __future__ import annotations

import torch
from torch import Tensor


def augmented(images: Tensor, augment: str) -> Tensor:
    """Images moved by up to a sixteenth of their size, each by its own draw, edges repeated.

    Args:
        images: (N, H, W) or (N, H, W, 3), any type.
        augment: `none`, `shift`, or `flip`, which also mirrors an image with probability 1/2.

    Returns:
        The shape of images.
    """
    if augment == "none":
        return images
    count, height, width = images.shape[:3]
    rows, columns = _shifted(count, height, images.device), _shifted(count, width, images.device)
    if augment == "flip":
        mirrored = torch.rand(count, 1, device=images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(count, device=images.device).reshape(-1, 1, 1)
    return images[index, rows.unsqueeze(2), columns.unsqueeze(1)]


def _shifted(count: int, extent: int, device: torch.device) -> Tensor:
    """(count, extent) int64: indices along an axis, each row shifted by its own draw."""
    reach = max(1, extent // 16)
    shift = (torch.rand(count, 1, device=device) * (2 * reach + 1)).long() - reach
    return (torch.arange(extent, device=device) + shift).clamp(0, extent - 1)
