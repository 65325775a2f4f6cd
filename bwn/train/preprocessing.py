"""What the network is fed: preparation measured on the training images, batches, held-out images, augmentation."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from bwn.data.datasets import Dataset, Labels, Resize
from bwn.errors import BwnError
from bwn.ir.model_spec import Preprocess

EVALUATION_BATCH = 500


def measure(data: Dataset, resize: Resize = "stretch") -> Preprocess:
    """Preparation that gives the training pixels mean 0 and standard deviation 1 per channel.

    resize: how images of other sizes are to be brought to the size of these.
    Raises BwnError where a channel is constant.
    """
    pixels = data.images.reshape(-1, 1 if data.color == "L" else 3)
    counts = np.stack(
        [np.bincount(channel, minlength=256) for channel in pixels.T]
    )  # (C, 256): exact sums
    level = np.arange(256) / 255
    mean = counts @ level / len(pixels)
    std = np.sqrt(np.maximum(counts @ level**2 / len(pixels) - mean**2, 0))
    if std.min() < 1e-6:
        raise BwnError("the training images are all of one colour: there is nothing to learn from")
    return Preprocess(
        size=data.size,
        resize=resize,
        color=data.color,
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
    )


def as_input(images: Tensor, preprocess: Preprocess) -> Tensor:
    """x = (pixel / 255 - mean) / std. images: (N, H, W) or (N, H, W, 3) uint8. Returns (N, C, H, W) float32."""
    x = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    mean, std = (
        _per_channel(values, images.device) for values in (preprocess.mean, preprocess.std)
    )
    return (x.float() / 255 - mean) / std


@lru_cache(maxsize=8)  # made anew, it would have the host wait for the device
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(-1, 1, 1)


def accuracy(module: nn.Module, data: Dataset, preprocess: Preprocess) -> float:
    """Part of the images whose class has the highest score, with the deployed weights (evaluation mode)."""
    return float((answers(module, data, preprocess) == data.labels).sum()) / max(
        len(data.labels), 1
    )


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def answers(module: nn.Module, data: Dataset, preprocess: Preprocess) -> Labels:
    """The class of highest score of each image, (N,) int64, with the deployed weights (evaluation mode)."""
    was_training = module.training
    module.eval()
    device = device_of(module)
    parts = torch.split(torch.from_numpy(data.images), EVALUATION_BATCH)
    with torch.no_grad():
        found = [module(as_input(images.to(device), preprocess)).argmax(1) for images in parts]
    module.train(was_training)
    return torch.cat(found).cpu().numpy()


def split(data: Dataset, part: float, seed: int) -> tuple[Dataset, Dataset]:
    """Training and held-out images: the `part` that a seeded shuffle puts last is held out. Raises BwnError."""
    count = int(len(data.images) * part)
    if len(data.images) - count < 2:
        raise BwnError(f"{len(data.images)} images are too few to train on")
    if count == 0:
        return data, Dataset(data.images[:0], data.labels[:0], data.classes)
    order = np.random.default_rng(seed).permutation(len(data.images))
    parts = np.sort(order[:-count]), np.sort(order[-count:])
    train, held_out = (
        Dataset(data.images[index], data.labels[index], data.classes) for index in parts
    )
    return train, held_out


def augmented(images: Tensor, augment: str) -> Tensor:
    """Images moved by up to a sixteenth of their size, each by its own draw, edges repeated; `flip` also mirrors."""
    if augment == "none":
        return images
    count, height, width = images.shape[:3]
    rows, columns = _moved(count, height, images.device), _moved(count, width, images.device)
    if augment == "flip":
        columns = torch.where(
            torch.rand(count, 1, device=images.device) < 0.5, columns.flip(1), columns
        )
    each = torch.arange(count, device=images.device).reshape(-1, 1, 1)
    return images[each, rows.unsqueeze(2), columns.unsqueeze(1)]


def _moved(count: int, extent: int, device: torch.device) -> Tensor:
    """(count, extent) int64: places along an axis, each row moved by its own draw of up to a sixteenth."""
    reach = max(1, extent // 16)
    shift = (torch.rand(count, 1, device=device) * (2 * reach + 1)).long() - reach
    return (torch.arange(extent, device=device) + shift).clamp(0, extent - 1)


def digest(data: Dataset) -> str:
    """SHA-256 of a data set's pixels and labels, in hexadecimal."""
    found = hashlib.sha256(repr((data.images.shape, data.classes)).encode())
    found.update(np.ascontiguousarray(data.images).data)
    found.update(np.ascontiguousarray(data.labels).data)
    return found.hexdigest()
