"""What the network is fed: measured preprocessing, batches, held-out images."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bwn._types import Labels
from bwn.data.datasets import Dataset, Resize
from bwn.errors import BwnError
from bwn.ir.model_spec import Preprocess
from bwn.train.sources import as_dataset

EVALUATION_BATCH = 500
CHANNELS = {"L": ("gray",), "RGB": ("red", "green", "blue")}


def image_shape(data: Dataset) -> tuple[int, int, int]:
    """(C, H, W) of the images, in pixels."""
    return 1 if data.color == "L" else 3, *data.size


def measure(data: Dataset, resize: Resize = "stretch") -> Preprocess:
    """Preprocessing that gives the training pixels mean 0 and standard deviation 1 per channel.

    Args:
        data: The training images.
        resize: How images of other sizes are to be brought to the size of these: `stretch` to the
            size, or `crop`: shorter side to the size, then the center.

    Returns:
        The preprocessing: the images' size and colors, and mean and std of pixel / 255.

    Raises:
        BwnError: A channel is constant.

    Example:
        >>> from bwn.data.datasets import load_dataset
        >>> from bwn.train import measure
        >>> measure(load_dataset("mnist-sample")).size
        (28, 28)
    """
    pixels = data.images.reshape(-1, image_shape(data)[0])
    # (C, 256): a histogram gives exact sums.
    counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
    level = np.arange(256) / 255
    mean = counts @ level / len(pixels)
    std = np.sqrt(np.maximum(counts @ level**2 / len(pixels) - mean**2, 0))
    constant = [
        name for name, spread in zip(CHANNELS[data.color], std, strict=True) if spread < 1e-6
    ]
    if len(constant) == len(std):
        raise BwnError("the training images are all of one color: there is nothing to learn from")
    if constant:
        raise BwnError(
            f"the training images have only one value of {' and '.join(constant)}: convert them to "
            "grayscale"
        )
    return Preprocess(
        size=data.size,
        resize=resize,
        color=data.color,
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
    )


def as_input(images: Tensor, preprocess: Preprocess) -> Tensor:
    """x = (pixel / 255 - mean) / std.

    Args:
        images: (N, H, W) or (N, H, W, 3) uint8.
        preprocess: Mean and std, per channel.

    Returns:
        (N, C, H, W) float32.
    """
    x = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    mean, std = (
        _per_channel(values, images.device) for values in (preprocess.mean, preprocess.std)
    )
    return (x.float() / 255 - mean) / std


@lru_cache(maxsize=8)  # making it in each step would make the host wait for the device
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(-1, 1, 1)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def predictions(module: nn.Module, data: Dataset, preprocess: Preprocess) -> Labels:
    """The class of highest score of each image, in evaluation mode.

    Args:
        module: (N, C, H, W) float32 to scores (N, classes); its mode is left as it was.
        data: The images.
        preprocess: How they are prepared.

    Returns:
        (N,) int64.
    """
    return scores_of(module, data, preprocess).argmax(1).cpu().numpy()


def scores_of(module: nn.Module, data: Dataset, preprocess: Preprocess) -> Tensor:
    """(N, classes) scores of images, in evaluation mode. Arguments as in `predictions`."""
    was_training = module.training
    module.eval()
    device = device_of(module)
    batches = torch.split(torch.from_numpy(data.images), EVALUATION_BATCH)
    with torch.no_grad():
        scores = [module(as_input(images.to(device), preprocess)) for images in batches]
    module.train(was_training)
    return torch.cat(scores)


def accuracy(module: nn.Module, data: Any, preprocess: Preprocess) -> float:
    """Fraction of the images whose class has the highest score, with the deployed weights.

    Args:
        module: (N, C, H, W) float32 to scores (N, classes), on any device. It is run in evaluation
            mode and left in the mode that it was in.
        data: Images and their classes, in any form that `fit` takes.
        preprocess: How the images are prepared, as `measure` or `fit` returned it.

    Returns:
        The accuracy, in 0 to 1; 0 without images.

    Example:
        >>> from bwn.data.datasets import load_dataset
        >>> from bwn.train import Architecture, accuracy, build, measure
        >>> data = load_dataset("mnist-sample", "test")
        >>> net = build(Architecture(name="mlp", input_shape=(1, 28, 28), classes=10, width=16))
        >>> 0 <= accuracy(net, data, measure(data)) <= 1
        True
    """
    images = as_dataset(data)
    right = int((predictions(module, images, preprocess) == images.labels).sum())
    return right / max(len(images.labels), 1)


def split(data: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Training and held-out images: a seeded shuffle's last `fraction` is held out.

    Raises BwnError where fewer than two images are left to train on.
    """
    count = int(len(data.images) * fraction)
    if len(data.images) - count < 2:
        raise BwnError(f"too few images to train on: {len(data.images)}")
    if count == 0:
        return data, Dataset(data.images[:0], data.labels[:0], data.classes)
    order = np.random.default_rng(seed).permutation(len(data.images))
    indices = np.sort(order[:-count]), np.sort(order[-count:])
    train, held_out = (
        Dataset(data.images[index], data.labels[index], data.classes) for index in indices
    )
    return train, held_out


def digest(data: Dataset) -> str:
    """SHA-256 of a data set's pixels, labels and class names, in hexadecimal."""
    sha256 = hashlib.sha256(repr((data.images.shape, data.classes)).encode())
    sha256.update(np.ascontiguousarray(data.images).data)
    sha256.update(np.ascontiguousarray(data.labels).data)
    return sha256.hexdigest()
