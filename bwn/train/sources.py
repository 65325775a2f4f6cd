"""torch's Datasets and DataLoaders, and those of Hugging Face, read into a `Dataset` of bwn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from bwn._types import Labels
from bwn.data.datasets import Dataset
from bwn.data.images import as_image
from bwn.data.records import Pixels
from bwn.errors import DataError

IMAGE_KEYS, LABEL_KEYS = ("image", "img"), ("label", "labels")


def as_dataset(data: Any) -> Dataset:
    """Labeled images of any data set, read into memory once as 8-bit pixels.

    Items are pairs (image, label), or mappings with `image` (or `img`) and `label` (or `labels`).
    An image is a PIL image, or an array or tensor: (H, W), (H, W, C) or (C, H, W), uint8 or float
    in 0 to 1, C 1 or 3. Leave out Normalize, since bwn measures mean and std, and random
    augmentation, which would be drawn once (`Settings.augment` draws anew).

    Args:
        data: A torch Dataset; a DataLoader around one, of which only the data set is used; a data
            set of Hugging Face; a list; or a `bwn.data.datasets.Dataset`, which is returned.

    Returns:
        The images. Class names are those of `classes` (torchvision), or of the feature `label`
        (Hugging Face), else numbers.

    Raises:
        DataError: An item is of another form, images differ in size or are not in 0 to 1, labels
            are no class numbers, or a DataLoader draws its samples in its own way.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from bwn.train import as_dataset
        >>> images, labels = torch.rand(10, 3, 8, 8), torch.arange(10) % 2
        >>> data = as_dataset(TensorDataset(images, labels))
        >>> data.images.shape, data.classes
        ((10, 8, 8, 3), ('0', '1'))
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, DataLoader):
        streamed = isinstance(data.dataset, IterableDataset)
        if not streamed and type(data.sampler) not in (SequentialSampler, RandomSampler):
            raise DataError(
                f"the DataLoader's {type(data.sampler).__name__} would not be used: bwn shuffles "
                "by itself; give its data set, and see Settings.class_weights"
            )
        data = data.dataset
    images, labels = [], []
    for index, item in enumerate(_items(data)):
        image, label = _pair(index, item)
        images.append(_pixels(index, image))
        labels.append(_label(index, label))
        if images[-1].shape != images[0].shape:
            raise DataError(
                f"item {index}: the image has shape {images[-1].shape}, item 0 {images[0].shape}; "
                "resize all to one size"
            )
    if not images:
        raise DataError("the data set is empty")
    numbers = np.array(labels, np.int64)
    return Dataset(np.stack(images), numbers, _classes(data, numbers))


def _items(data: Any) -> Iterator[Any]:
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return (data[index] for index in range(len(data)))
    if hasattr(data, "__iter__"):
        return iter(data)
    raise DataError(f"data is {type(data).__name__}, expected a data set with items (image, label)")


def _pair(index: int, item: Any) -> tuple[Any, Any]:
    """The image and the label of an item."""
    if isinstance(item, Mapping):
        image, label = (
            next((key for key in keys if key in item), None) for keys in (IMAGE_KEYS, LABEL_KEYS)
        )
        if image is None or label is None:
            raise DataError(f"item {index} has {', '.join(item)}, expected image and label")
        return item[image], item[label]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"item {index} is {type(item).__name__}, expected (image, label)")
    return item[0], item[1]


def _pixels(index: int, image: Any) -> Pixels:
    """(H, W) or (H, W, 3) uint8 of a PIL image, an array or a tensor."""
    if hasattr(image, "getbands"):  # of PIL
        image = as_image(image, f"item {index}")
    tensor = isinstance(image, torch.Tensor)
    pixels = image.numpy(force=True) if tensor else np.asarray(image)
    if pixels.ndim == 3 and (pixels.shape[0] in (1, 3)) and (tensor or pixels.shape[2] > 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(
            f"item {index}: the image has shape {pixels.shape}, expected 1 or 3 channels"
        )
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(
            f"item {index}: pixels are {pixels.dtype}, expected uint8, or float in 0 to 1"
        )
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(
            f"item {index}: pixels are {pixels.min():g} to {pixels.max():g}, expected 0 to 1; "
            "leave out Normalize, as bwn measures mean and std"
        )
    rounded: Pixels = np.rint(pixels * 255).astype(np.uint8)
    return rounded


def _label(index: int, label: Any) -> int:
    value = np.asarray(label)
    if value.size != 1 or not np.issubdtype(value.dtype, np.integer) or int(value.item()) < 0:
        raise DataError(f"item {index}: the label is {label!r}, expected a class number from 0")
    return int(value.item())


def _classes(data: Any, labels: Labels) -> tuple[str, ...]:
    """The names of the classes; numbers where the data set has none."""
    names = getattr(data, "classes", None)
    features = getattr(data, "features", None)
    if names is None and isinstance(features, Mapping):
        names = next(
            (getattr(features[key], "names", None) for key in LABEL_KEYS if key in features), None
        )
    count = int(labels.max()) + 1
    if names is None and hasattr(data, "dataset"):  # a Subset
        return _classes(data.dataset, labels)
    if names is None:
        return tuple(map(str, range(count)))
    if len(names) < count:
        raise DataError(f"a label is {count - 1}, but the data set names {len(names)} classes")
    return tuple(map(str, names))
