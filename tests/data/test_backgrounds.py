"""Transparent pixels are laid over any background."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from bwn.data.images import as_image, read_image
from bwn.data.pixels import to_8_bit
from bwn.errors import DataError
from bwn.ir.model_spec import Preprocess
from tests.support.made_images import COLOR, LEVELS, png

BACKGROUNDS = [(255, 255, 255), (90, 90, 90), (10, 200, 30)]
FAINT = 51
"""An opacity of one fifth."""


def levels(bits):
    return np.tile(np.rint(LEVELS * (2**bits - 1)), (4, 1))


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "PA", "P"])
def test_opacity_is_laid_over_any_background(mode, background):
    alpha = np.array([[0, FAINT, 255, 128]])
    gray = np.tile(np.array([200, 100, 40, 255]), (1, 1))
    gray_mode = mode in ("LA", "La")
    color = gray[..., None] if gray_mode else np.stack([gray, gray // 2, 255 - gray], -1)
    straight = np.concatenate([color, alpha[..., None]], -1).astype(np.uint8)
    image = Image.fromarray(straight)
    if mode in ("PA", "P"):
        image = Image.fromarray(np.arange(4, dtype=np.uint8)[None]).convert("P")
        image.putpalette(color[0].astype(np.uint8).tobytes())
        image.info["transparency"] = bytes(alpha[0].tolist())
    elif mode.endswith("a"):
        image = image.convert(mode)
    opacity = alpha[..., None] / 255
    expected = color * opacity + np.array(background) * (1 - opacity)
    got = to_8_bit(image, "image", background)
    assert got.mode == ("L" if gray_mode and len({*background}) == 1 else "RGB")
    depth = np.asarray(got, float).reshape(1, 4, -1)
    assert np.abs(depth - (expected if got.mode == "RGB" else expected[..., :1])).max() <= 2


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_level_becomes_the_background(bits, background):
    stored = levels(bits)
    level = int(stored[0, 1])
    image = Image.open(io.BytesIO(png(stored, bits=bits, transparent=struct.pack(">H", level))))
    expected = np.rint(stored / (2**bits - 1) * 255)[..., None]
    expected = np.where((stored == level)[..., None], np.array(background), expected)
    got = np.asarray(to_8_bit(image, "image", background), float)
    assert np.abs(got.reshape(*stored.shape, -1) - expected).max() <= 1


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_transparent_color_becomes_the_background(background):
    clear = struct.pack(">HHH", *COLOR[0, 3].astype(int))
    image = Image.open(io.BytesIO(png(COLOR, color=2, transparent=clear)))
    hole = (COLOR[0, 3] == COLOR).all(-1, keepdims=True)
    got = np.asarray(to_8_bit(image, "image", background))
    assert (got == np.where(hole, np.array(background), COLOR)).all()


def test_a_decoded_image_is_refused_only_where_its_transparent_level_matters():
    made = png(levels(4), bits=4, transparent=struct.pack(">H", 5))
    image = Image.open(io.BytesIO(made))
    image.load()
    image = image.copy()
    image.info.pop("bwn_storage", None)
    # the level is 5 or, of 4 bits, 85: these differ from white
    with pytest.raises(DataError, match="pass the file"):
        to_8_bit(image, "image", (255, 255, 255))


def test_the_background_is_that_of_the_preprocessing(tmp_path):
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    clear.save(tmp_path / "clear.png")
    rule = Preprocess(
        size=(2, 2), color="RGB", mean=(0.0,) * 3, std=(1.0,) * 3, background=(255, 254, 253)
    )
    raw = (tmp_path / "clear.png").read_bytes()
    for image in (
        read_image(tmp_path / "clear.png", rule=rule),
        *(as_image(source, rule=rule) for source in (clear, raw, io.BytesIO(raw))),
    ):
        assert (np.asarray(image) == rule.background).all()
    assert not np.asarray(read_image(raw)).any()
