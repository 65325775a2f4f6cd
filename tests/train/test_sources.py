"""Data sets of torch and Hugging Face, and of any object like them, train as bwn's own do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from bwn.data.datasets import Dataset
from bwn.errors import DataError
from bwn.train import BinaryLinear, Settings, accuracy, as_dataset, fit


class Pairs:
    """As torchvision's data sets: (image, label), and `classes`."""

    def __init__(self, data, form):
        self.data, self.form, self.classes = data, form, list(data.classes)

    def __len__(self):
        return len(self.data.labels)

    def __getitem__(self, index):
        return self.form(self.data.images[index]), int(self.data.labels[index])


class Names:
    def __init__(self, names):
        self.names = names


class Rows(Pairs):
    """As Hugging Face's: mappings, and `features`."""

    def __init__(self, data, form, image="image", label="label"):
        super().__init__(data, form)
        self.keys, self.features = (image, label), {label: Names(self.classes)}
        del self.classes

    def __getitem__(self, index):
        return dict(zip(self.keys, super().__getitem__(index), strict=True))


class Stream(IterableDataset):
    def __init__(self, data):
        self.pairs = Pairs(data, torch.from_numpy)

    def __iter__(self):
        return (self.pairs[index] for index in range(len(self.pairs)))


def to_tensor(image):
    """As torchvision's ToTensor."""
    return torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1).float() / 255


FORMS = [Image.fromarray, to_tensor, torch.from_numpy, np.asarray, lambda image: image / 255]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("kind", [Pairs, Rows])
def test_every_form_gives_the_same_images(shapes_set, kind, color, form):
    data = shapes_set(9)
    if color:
        data = Dataset(np.stack([data.images] * 3, -1), data.labels, data.classes)
    if color and form is torch.from_numpy:
        form = lambda image: torch.from_numpy(image).permute(2, 0, 1)  # noqa: E731
    read = as_dataset(kind(data, form))
    assert np.array_equal(read.images, data.images)
    assert read.images.dtype == np.uint8
    assert np.array_equal(read.labels, data.labels)
    assert read.classes == data.classes


def test_other_keys_wrappers_and_streams(shapes_set):
    data = shapes_set(9)
    assert as_dataset(data) is data
    for other in (
        Rows(data, Image.fromarray, "img", "labels"),
        DataLoader(Pairs(data, to_tensor), batch_size=4, shuffle=True),
        Subset(Pairs(data, to_tensor), range(9)),
        DataLoader(Rows(data, np.asarray)),
    ):
        read = as_dataset(other)
        assert np.array_equal(read.images, data.images)
        assert read.classes == data.classes
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    for other in (
        TensorDataset(images, labels),
        Stream(data),
        DataLoader(Stream(data)),
        list(zip(data.images, data.labels, strict=True)),
    ):
        read = as_dataset(other)
        assert np.array_equal(read.images, data.images)
        assert read.classes == ("0", "1", "2")
    palette = Image.fromarray(data.images[0]).convert("P")
    assert as_dataset([(palette, 0)]).color == "RGB"


GRAY = np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the data set is empty"),
        (3, "data is int, expected a data set with items"),
        ([GRAY], r"item 0 is ndarray, expected \(image, label\)"),
        ([{"pixels": GRAY, "label": 0}], "item 0 has pixels, label, expected image and label"),
        ([(GRAY, 0), (GRAY[:2], 0)], r"item 1: the image has shape \(2, 4\), item 0 \(4, 4\)"),
        ([(GRAY - 1.0, 0)], "item 0: pixels are -1 to -1, expected 0 to 1; leave out Normalize"),
        ([(GRAY + np.nan, 0)], "pixels are nan to nan"),
        ([(GRAY.astype(np.int32), 0)], "pixels are int32, expected uint8"),
        ([(np.zeros((4, 4, 2), np.uint8), 0)], "expected 1 or 3 channels"),
        ([(GRAY, 0.5)], "item 0: the label is 0.5, expected a class number"),
        ([(GRAY, -1)], "the label is -1"),
        ([(GRAY, "cat")], "the label is 'cat'"),
    ],
)
def test_what_is_no_image_or_label_is_refused_in_one_line(data, message):
    with pytest.raises(DataError, match=message) as caught:
        as_dataset(data)
    assert "\n" not in str(caught.value)


def test_samplers_and_missing_names_are_refused(shapes_set):
    pairs = Pairs(shapes_set(9), to_tensor)
    sampler = WeightedRandomSampler([1.0] * 9, 9)
    with pytest.raises(DataError, match="WeightedRandomSampler would not be used"):
        as_dataset(DataLoader(pairs, sampler=sampler))
    pairs.classes = ["only", "two"]
    with pytest.raises(DataError, match="a label is 2, but the data set names 2 classes"):
        as_dataset(pairs)


def test_hugging_face(shapes_set):
    datasets = pytest.importorskip("datasets")
    data = shapes_set(9)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(data.classes))}
    )
    rows = {"image": [Image.fromarray(image) for image in data.images], "label": data.labels}
    read = as_dataset(datasets.Dataset.from_dict(rows, features=features))
    assert np.array_equal(read.images, data.images)
    assert read.classes == data.classes


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), BinaryLinear(64, 3), nn.BatchNorm1d(3))


def test_fit_gives_the_same_bits_whatever_holds_the_images(shapes_set):
    data = shapes_set()
    states = []
    for source in (data, DataLoader(Rows(data, Image.fromarray), batch_size=7)):
        net = network()
        preprocess = fit(net, source, Settings(epochs=2, batch_size=20))
        states.append({name: t.numpy().tobytes() for name, t in net.state_dict().items()})
        assert accuracy(net, source, preprocess) == accuracy(net, data, preprocess)
    assert states[0] == states[1]


def test_a_callback_sees_every_epoch_and_may_stop(shapes_set):
    seen, every = [], []
    settings = Settings(epochs=4, batch_size=20)
    fit(network(), shapes_set(), settings, on_epoch=seen.append, report=every.append)
    assert [(p.epoch, p.epoch_done) for p in seen] == [(n, True) for n in (1, 2, 3, 4)]
    assert [p for p in every if p.epoch_done] == seen
    assert all(p.loss > 0 and 0 <= p.accuracy <= 1 and p.seconds > 0 for p in seen)
    assert seen[0].learning_rate > seen[-1].learning_rate
    seen = []
    net = network()
    fit(net, shapes_set(), settings, on_epoch=lambda p: seen.append(p) or p.epoch == 2)
    assert [p.epoch for p in seen] == [1, 2]
    assert not net.training

    def fail(progress):
        raise KeyError(progress.epoch)

    with pytest.raises(KeyError, match="1"):
        fit(network(), shapes_set(), settings, on_epoch=fail)
