"""Resizing and cropping as torchvision does; channels in any order; pixels on any scale."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bwn.data.images import as_image, read_image
from bwn.data.resizing import normalized, prepare, sized
from bwn.ir.model_spec import Preprocess

RNG = np.random.default_rng(14)
FILTERS = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
RAMP = (np.arange(13 * 9) * 89 % 256).astype(np.uint8).reshape(9, 13)
TORCHVISION = {
    "nearest": "bc6ec72079d241f34ca5fe574bfd56af0861d082db348de6550760b9126b",
    "box": "696ec72079d271b68f68c19a78fd56af08617d82db348de6820760b9126b",
    "bilinear": "6d799c62a7887198967bb989769d9b70578e7d89ad687699804f67894994",
    "hamming": "716faa40989770a98777c78876af8d7a418e8381bc517ba97c3c61a92589",
    "bicubic": "6971a356a98c689e9579cc886ea49c6d4396798bb85f7aa0804260933c9d",
    "lanczos": "6472a656a790609f9779da8967a0a26436a07294c05c7da484395f923da7",
}
"""RAMP after Resize(8, interpolation) and CenterCrop((5, 6)) of torchvision 0.28, in hexadecimal."""


def rule(size, resize, **fields):
    return Preprocess(
        **{"size": size, "resize": resize, "color": "RGB", "mean": (0.0,) * 3, "std": (1.0,) * 3}
        | fields
    )


def photo(height, width):
    """Smooth colors, as a camera gives them."""
    coarse = RNG.integers(0, 256, (height // 64 + 2, width // 64 + 2, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def resize_and_center_crop(image, side, size, method):
    """The calls of Pillow that torchvision's Resize(side) and CenterCrop(size) make."""
    width, height = image.size
    short, long = sorted(image.size)
    long = int(side * long / short)
    image = image.resize((side, long) if width <= height else (long, side), method)
    top = round((image.height - size[0]) / 2.0)
    left = round((image.width - size[1]) / 2.0)
    return image.crop((left, top, left + size[1], top + size[0]))


@pytest.mark.parametrize("interpolation", FILTERS)
def test_the_pixels_are_those_of_torchvision(interpolation):
    gray = {"color": "L", "mean": (0.0,), "std": (1.0,), "interpolation": interpolation}
    image = sized(Image.fromarray(RAMP), rule((5, 6), 8, **gray))
    assert image.tobytes().hex() == TORCHVISION[interpolation]


@pytest.mark.parametrize("interpolation", FILTERS)
def test_images_of_any_size_are_resized_and_cropped_as_torchvision_does(interpolation):
    method = Image.Resampling[interpolation.upper()]
    for _ in range(20):
        height, width, side = (int(n) for n in RNG.integers((10, 10, 30), (120, 120, 70)))
        size = (30, int(RNG.integers(1, 30)))
        image = Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))
        expected = resize_and_center_crop(image, side, size, method)
        got = sized(image, rule(size, side, interpolation=interpolation))
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_an_image_that_has_the_size_is_resized_all_the_same():
    image = photo(30, 30)
    expected = resize_and_center_crop(image, 40, (30, 30), Image.Resampling.BILINEAR)
    assert sized(image, rule((30, 30), 40)).tobytes() == expected.tobytes()
    assert sized(image, rule((30, 30), 30)).tobytes() == image.tobytes()
    assert sized(image, rule((30, 30), "crop")).tobytes() == image.tobytes()


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_every_way_to_resize_has_every_filter(resize, interpolation):
    image = photo(50, 30)
    box = (0, 10, 30, 40) if resize == "crop" else None
    method = Image.Resampling[interpolation.upper()]
    expected = image.resize((20, 20), method, box=box)
    got = sized(image, rule((20, 20), resize, interpolation=interpolation))
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [(3, 200_000), (200_000, 3)])
def test_an_image_that_is_long_and_thin_takes_little_memory(size):
    ramp = np.linspace(0, 255, 200_000).round().astype(np.uint8)
    pixels = np.broadcast_to(ramp.reshape(-1, 1) if size[1] > size[0] else ramp, size[::-1])
    image = Image.fromarray(np.ascontiguousarray(pixels))
    got = np.asarray(sized(image, rule((224, 224), 256)))
    assert got.shape == (224, 224, 3)
    assert np.abs(got.astype(int) - 127).max() <= 1


@pytest.mark.parametrize(
    ("size", "side", "decoded"),
    [
        ((1600, 2400), 64, (200, 300)),
        ((800, 1000), 150, (400, 500)),  # a side is at least twice as large as it will be
        ((1204, 1004), 64, (301, 251)),
        ((1206, 1004), 64, (603, 502)),  # 1206 is no multiple of 4
        ((1601, 2400), 64, (1601, 2400)),
    ],
)
def test_large_jpegs_are_decoded_smaller_where_the_crop_stays_the_same(size, side, decoded):
    stream = io.BytesIO()
    photo(*size).save(stream, "JPEG", quality=95)
    how = rule((56, 56), side)
    image = read_image(stream.getvalue(), rule=how)
    assert image.size == decoded[::-1]
    whole = resize_and_center_crop(
        Image.open(stream), how.resize, how.size, Image.Resampling.BILINEAR
    )
    assert np.abs(np.asarray(sized(image, how), int) - np.asarray(whole, int)).max() <= 3


def test_a_nearest_pixel_is_one_of_the_whole_jpeg():
    stream = io.BytesIO()
    photo(800, 800).save(stream, "JPEG")
    how = rule((28, 28), "stretch", interpolation="nearest")
    whole = Image.open(stream).resize((28, 28), Image.Resampling.NEAREST)
    assert sized(read_image(stream.getvalue(), rule=how), how).tobytes() == whole.tobytes()


def test_channels_are_in_the_order_of_the_network():
    pixels = RNG.integers(0, 256, (6, 5, 3), np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    rgb = rule((6, 5), "stretch", mean=mean, std=std)
    bgr = rule((6, 5), "stretch", color="BGR", mean=mean[::-1], std=std[::-1])
    x = prepare(as_image(pixels), bgr)
    np.testing.assert_array_equal(x, prepare(as_image(pixels), rgb)[::-1])
    assert x.flags.c_contiguous
    gray = Image.fromarray(pixels[..., 0])
    np.testing.assert_array_equal(prepare(gray, bgr), prepare(gray, rgb)[::-1])


def test_pixels_from_0_to_255_are_exact():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    gray = rule((16, 16), "stretch", color="L", mean=(0.0,), std=(1.0,), scale=1)
    assert (normalized(levels, gray)[0] == levels).all()
    caffe = rule((16, 16), "stretch", color="BGR", mean=(103.939, 116.779, 123.68), scale=1)
    x = prepare(Image.fromarray(levels), caffe)
    assert (x[0] == levels.astype(np.float32) - np.float32(103.939)).all()
