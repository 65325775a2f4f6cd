"""Augmentation of training images: shifts, mirror images and cutout."""

from __future__ import annotations

import torch
from torch import Tensor

from bwn.errors import ArgumentError
from bwn.ir.node import Pair
from bwn.train.settings import Settings


class Augmentation:
    """The augmentation of a run; it draws from torch's global generators.

    Args:
        settings: `augment` and `cutout` of the run.
        count: Number of training images.
        size: (H, W) of an image.
        seed: Of the draw that alternating mirror images begin with.
        device: Where the images are.

    Raises:
        ArgumentError: The cutout is as large as the images.
    """

    def __init__(
        self, settings: Settings, count: int, size: Pair, seed: int, device: torch.device
    ) -> None:
        if settings.cutout >= min(size):
            raise ArgumentError(
                f"a cutout of {settings.cutout} pixels covers images of {size[0]} x {size[1]}: "
                f"choose at most {min(size) - 1}"
            )
        self._augment, self._cutout, self._size = settings.augment, settings.cutout, size
        generator = torch.Generator().manual_seed(seed)
        self._mirrored = (torch.rand(count, generator=generator) < 0.5).to(device)

    def images(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """The augmented images of these indices in an epoch, but for the cutout."""
        alternating = self._augment == "alternating"
        mirrored = self._mirrored[index] ^ bool(epoch % 2) if alternating else None
        return augmented(images, self._augment, mirrored)

    def holes(self, index: Tensor) -> Tensor | None:
        """(N, 1, H, W) bool: what is cut out of the images of these indices; None: nothing.

        A square with its center anywhere in the image; what lies outside is lost.
        Source: DeVries and Taylor, arXiv:1708.04552.
        """
        if not self._cutout:
            return None
        rows, columns = (
            _band(len(index), extent, self._cutout, index.device) for extent in self._size
        )
        return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def augmented(images: Tensor, augment: str, mirrored: Tensor | None = None) -> Tensor:
    """Images moved by up to a sixteenth of their size, each by its own draw, edges repeated.

    Args:
        images: (N, H, W) or (N, H, W, 3), any type.
        augment: `none`, `shift`, `flip`, which also mirrors an image with probability 1/2, or
            `alternating`, which mirrors those that are given.
        mirrored: (N,) bool, for `alternating`.

    Returns:
        The shape of images.
    """
    if augment == "none":
        return images
    count, height, width = images.shape[:3]
    rows, columns = _shifted(count, height, images.device), _shifted(count, width, images.device)
    if augment == "flip":
        mirrored = torch.rand(count, device=images.device) < 0.5
    if mirrored is not None:
        columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    index = torch.arange(count, device=images.device).reshape(-1, 1, 1)
    return images[index, rows.unsqueeze(2), columns.unsqueeze(1)]


def _band(count: int, extent: int, side: int, device: torch.device) -> Tensor:
    """(count, extent) bool: `side` places of an axis, each row around its own center."""
    first = (torch.rand(count, 1, device=device) * extent).long() - side // 2
    place = torch.arange(extent, device=device)
    return (place >= first) & (place < first + side)


def _shifted(count: int, extent: int, device: torch.device) -> Tensor:
    """(count, extent) int64: indices along an axis, each row shifted by its own draw."""
    reach = max(1, extent // 16)
    shift = (torch.rand(count, 1, device=device) * (2 * reach + 1)).long() - reach
    return (torch.arange(extent, device=device) + shift).clamp(0, extent - 1)
