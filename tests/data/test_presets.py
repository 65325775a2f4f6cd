"""Preprocessing by name, and its exceptions."""

from __future__ import annotations

import numpy as np
import pytest

from bwn.data.preprocess_rule import choose_preprocess
from bwn.data.presets import ALIASES, PRESETS
from bwn.data.resizing import normalized
from bwn.errors import ArgumentError
from bwn.ir.model_spec import Preprocess
from bwn.tools.pack import size_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = np.random.default_rng(2).integers(0, 256, (224, 224, 3), np.uint8)


def chosen(preset, own=None, shape=(3, 224, 224), **fields):
    rule, notes = choose_preprocess(own, {"preset": preset} | fields, shape)
    assert notes == []
    return rule


@pytest.mark.parametrize("name", ["imagenet", "torchvision"])
def test_imagenet_is_that_of_torchvision(name):
    expected = Preprocess(size=(224, 224), resize=256, color="RGB", mean=MEAN, std=STD)
    assert chosen(name) == expected


@pytest.mark.parametrize(("size", "side"), [((224, 224), 256), ((384, 384), 438), ((96, 64), 109)])
def test_the_shorter_side_follows_the_size_as_in_timm(size, side):
    assert chosen("imagenet", shape=(3, *size)).resize == side


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["half", "0.5", "tf", "inception"])
def test_half_is_from_minus_1_to_1(name, channels):
    rule = chosen(name, shape=(channels, 224, 224))
    assert (rule.mean, rule.std, rule.resize) == ((0.5,) * channels, (0.5,) * channels, "stretch")
    pixels = PIXELS if channels == 3 else PIXELS[..., 0]
    keras = pixels.astype(np.float32) / np.float32(127.5) - 1
    x = normalized(pixels, rule)
    np.testing.assert_allclose(x, keras.reshape(224, 224, -1).transpose(2, 0, 1), atol=3e-7)


def test_caffe_is_that_of_keras():
    x = normalized(PIXELS, chosen("caffe"))
    keras = PIXELS[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    np.testing.assert_array_equal(x, keras.transpose(2, 0, 1))


def test_raw_pixels_stay_what_they_are():
    rule = chosen("raw")
    np.testing.assert_array_equal(normalized(PIXELS, rule), PIXELS.transpose(2, 0, 1))
    assert str(rule) == "RGB, stretched to 224 x 224, pixels 0 to 255"


def test_the_colors_keep_their_numbers_in_another_order():
    for name in ("imagenet", "caffe"):
        rgb, bgr = chosen(name, color="RGB"), chosen(name, color="BGR")
        assert (rgb.mean, rgb.std) == (bgr.mean[::-1], bgr.std[::-1])
        np.testing.assert_array_equal(normalized(PIXELS, rgb), normalized(PIXELS, bgr)[::-1])


def test_the_callers_fields_go_first():
    rule = chosen("imagenet", resize="crop", mean=(0.1, 0.2, 0.3), background="#0a0b0c")
    assert (rule.resize, rule.mean, rule.std) == ("crop", (0.1, 0.2, 0.3), STD)
    assert rule.background == (10, 11, 12)
    rule = chosen("imagenet", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), color="BGR")
    assert rule.mean == (0.1, 0.2, 0.3), "the caller's numbers are in the order of the channels"


def test_a_preset_replaces_what_the_source_says():
    own = Preprocess(
        size=(224, 224), resize="crop", color="RGB", mean=(0.0,) * 3, std=(1.0,) * 3, scale=1
    )
    caffe = Preprocess(size=(224, 224), color="BGR", mean=(9.0,) * 3, std=(1.0,) * 3, scale=1)
    assert chosen("imagenet", caffe) == chosen("imagenet")
    assert own.takes_pixels
    rule, (note,) = choose_preprocess(own, {"preset": "imagenet"}, (3, 224, 224))
    assert "mean and std of preset 'imagenet' are left out" in note
    assert (rule.resize, rule.mean, rule.scale) == (256, (0.0,) * 3, 1)
    with pytest.raises(ArgumentError, match="takes pixels from 0 to 255; leave out mean and std"):
        choose_preprocess(own, {"mean": MEAN, "std": STD}, (3, 224, 224))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match="no preset 'image'; presets: imagenet, half, caffe"):
        chosen("image")
    for name in ("imagenet", "caffe"):
        with pytest.raises(ArgumentError, match=f"'{name}' is for 3 channels, the input has 1"):
            chosen(name, shape=(1, 28, 28))
    with pytest.raises(ArgumentError, match=r"input of shape \(60,\) needs size and color"):
        chosen("raw", shape=(60,))
    rule = chosen("half", shape=(60,), size=(6, 10), color="L")
    assert rule.mean == (0.5,)


def test_a_preset_fills_a_size_that_is_left_open():
    assert size_of({"preset": "imagenet"}) == (224, 224)
    assert size_of({"preset": "imagenet", "size": (96, 64)}) == (96, 64)
    assert size_of({"preset": None}) is None


def test_every_preset_is_whole():
    assert {*ALIASES.values()} <= {*PRESETS}
    for name in PRESETS:
        rule = chosen(name)
        assert (len(rule.mean), len(rule.std)) == (3, 3)
