"""What the caller of pack says of images and classes: scales of numbers, encodings of files."""

from __future__ import annotations

import codecs
import os

import numpy as np
import pytest
import torch

from bwn.errors import ArgumentError, DataError, FileError
from bwn.tools.pack import checked_names, choose_preprocess, read_class_names, size_of

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = {name: tuple(255 * value for value in values) for name, values in IMAGENET.items()}


def chosen(**fields):
    rule, notes = choose_preprocess(None, fields, (3, 8, 8))
    return rule, [note for note in notes if "255" in note]


def test_numbers_for_pixels_from_0_to_255_are_recognized():
    rule, notes = chosen(**PIXELS)
    assert rule.mean == pytest.approx(IMAGENET["mean"])
    assert rule.std == pytest.approx(IMAGENET["std"])
    assert notes == ["mean and std are of pixels from 0 to 255: they are stored divided by 255"]
    assert chosen(**IMAGENET) == (choose_preprocess(None, IMAGENET, (3, 8, 8))[0], [])


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ((123.7, 116.8, 103.9), (1.0, 1.0, 1.0), 1 / 255),  # means alone, as Caffe subtracts them
        ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), 1.0),
        ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), 0.5),
        ((-127.5, 0.0, 0.0), (255.0, 255.0, 255.0), 1.0),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0),
    ],
)
def test_the_scale_is_that_of_both(mean, std, expected):
    rule, _ = chosen(mean=mean, std=std)
    assert rule.std == pytest.approx((expected,) * 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"mean": PIXELS["mean"], "std": IMAGENET["std"]},
        {"mean": IMAGENET["mean"], "std": PIXELS["std"]},
        {"mean": PIXELS["mean"]},
        {"mean": (123.675, 0.456, 0.406), "std": (58.0, 57.0, 57.0)},
        {"mean": (485.0, 456.0, 406.0), "std": (58.0, 57.0, 57.0)},
    ],
)
def test_mixed_scales_are_refused(fields):
    with pytest.raises(ArgumentError, match="not both for pixels from 0 to 255"):
        chosen(**fields)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(kind):
    fields = {name: kind(values, dtype=kind([0.5]).dtype) for name, values in IMAGENET.items()}
    rule, _ = chosen(**fields, size=kind([8, 8]), scale=kind([255])[0])
    assert rule.mean == pytest.approx(IMAGENET["mean"])
    assert (rule.size, rule.scale) == ((8, 8), 255)
    assert size_of({"size": tuple(kind([8, 9]))}) == (8, 9)
    assert chosen(**{name: kind(values) for name, values in PIXELS.items()})[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_class_files_of_any_unicode_encoding(tmp_path, encoding, end):
    names = ("caf\u00e9", "\u732b", "ki\u1ebfm")
    path = tmp_path / "classes.txt"
    path.write_bytes(end.join([*names, ""]).encode(encoding))
    assert read_class_names(path) == names
    for mark, order in ((codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")):
        path.write_bytes(mark + "\n".join(names).encode(order))
        assert read_class_names(path) == names


def test_what_was_tried_is_said(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes("caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text; save the file as UTF-8"):
        read_class_names(path)
    path.write_bytes(codecs.BOM_UTF16_LE + b"a")
    with pytest.raises(DataError, match="not UTF-16 text"):
        read_class_names(path)


def test_class_files_that_never_end_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(FileError, match="not a regular file"):
            read_class_names(path)


def test_a_name_that_is_there_twice_is_refused():
    with pytest.raises(ArgumentError, match="'cat' is there twice"):
        checked_names(["cat", "dog", "cat"])
    with pytest.raises(ArgumentError, match="'caf\u00e9' is there twice"):  # in two Unicode forms
        checked_names(["caf\u00e9", "cafe\u0301"])
