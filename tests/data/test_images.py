"""Images are found in order, read safely, and prepared exactly."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bwn.data import images
from bwn.data.folders import find_images
from bwn.data.resizing import _center, prepare
from bwn.errors import DataError
from bwn.ir.model_spec import Preprocess

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (28, 28), np.uint8)
COLOR = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(image, **options):
    return np.asarray(images.read_image(encoded(image, **options)))


def prep(size, color="L", resize="stretch", mean=0.0, std=1.0):
    count = 1 if color == "L" else 3
    return Preprocess(
        size=size, color=color, resize=resize, mean=(mean,) * count, std=(std,) * count
    )


def test_grey_digit_passes_bit_for_bit(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "digit.png")
    x = prepare(images.read_image(tmp_path / "digit.png"), prep((28, 28), mean=0.25, std=0.5))
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((1, 28, 28), np.float32, True)
    assert (
        x[0] == (GREY.astype(np.float32) / np.float32(255) - np.float32(0.25)) / np.float32(0.5)
    ).all()


def test_color_is_channels_first():
    x = prepare(images.read_image(encoded(Image.fromarray(COLOR))), prep((6, 9), "RGB"))
    assert (x == COLOR.transpose(2, 0, 1).astype(np.float32) / np.float32(255)).all()


def test_color_is_made_grey_by_luma_and_grey_made_color_by_copies():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    np.testing.assert_allclose(prepare(red, prep((2, 2))), 0.299, atol=1 / 255)
    x = prepare(Image.fromarray(GREY), prep((28, 28), "RGB"))
    assert (x[0] == x[1]).all()
    assert (x[0] == x[2]).all()


def test_shrinking_averages():
    board = np.indices((64, 64)).sum(0) % 2 * 255  # the nearest pixel would be 0 or 255
    x = prepare(Image.fromarray(board.astype(np.uint8)), prep((4, 4)))
    np.testing.assert_allclose(x, 0.5, atol=0.02)


def test_crop_takes_the_centre_and_stretch_the_whole():
    thirds = np.zeros((10, 30), np.uint8)
    thirds[:, 10:20] = 200
    cropped = prepare(Image.fromarray(thirds), prep((10, 10), resize="crop"))
    assert (cropped * 255 == 200).all()
    stretched = prepare(Image.fromarray(thirds), prep((10, 10)))
    assert stretched[0, 5, 0] == 0
    tall = prepare(Image.fromarray(thirds.T.copy()), prep((5, 5), resize="crop"))
    assert (
        tall[:, 1:4] * 255 == 200
    ).all()  # as if resized, then cropped: the border rows see their neighbours
    assert (tall[:, [0, 4]] * 255 > 150).all()


@pytest.mark.parametrize("side", [28, 112, 224, 299])
def test_photos_of_any_size_can_be_cropped(side):
    for width in range(side, 1600, 7):
        for shape in ((width, 900), (900, width)):
            box = _center(shape, (side, side))
            assert 0 <= box[0] < box[2] <= shape[0]
            assert 0 <= box[1] < box[3] <= shape[1]
    assert prepare(Image.new("L", (1600, 900), 51), prep((224, 224), resize="crop")).shape[1] == 224


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["crop", "stretch"]),
)
def test_any_size_of_one_colour_stays_that_colour(width, height, out_height, out_width, resize):
    image = Image.new("L", (width, height), 51)
    x = prepare(image, prep((out_height, out_width), resize=resize))
    assert x.shape == (1, out_height, out_width)
    assert (x == np.float32(51) / np.float32(255)).all()


def test_sixteen_bits_are_rounded_to_eight():
    deep = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    assert pixels(Image.fromarray(deep)).tolist() == [[0, 0, 1, 1, 255]]


def test_modes_become_grey_or_color():
    assert pixels(Image.fromarray(GREY > 99)).tolist() == ((GREY > 99) * 255).tolist()
    assert pixels(Image.fromarray(COLOR).quantize(54)).tolist() == COLOR.tolist()
    cmyk = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    assert pixels(cmyk, kind="TIFF").tolist() == [[[255, 0, 0]]]
    with pytest.raises(DataError, match="range is not known"):
        pixels(Image.new("F", (2, 2)), kind="TIFF")


def test_transparency_is_laid_over_black():
    clear = np.array([[[200, 100, 40, 255], [200, 100, 40, 0], [200, 100, 40, 51]]], np.uint8)
    assert pixels(Image.fromarray(clear)).tolist() == [[[200, 100, 40], [0, 0, 0], [40, 20, 8]]]
    assert (
        pixels(
            Image.fromarray(clear[..., [0, 3]], "LA")
            if False
            else Image.fromarray(clear).convert("LA")
        ).ndim
        == 2
    )
    grey = Image.fromarray(np.array([[9, 7]], np.uint8))
    assert pixels(grey, transparency=9).tolist() == [[0, 7]]


def test_animation_gives_its_first_frame():
    frames = [Image.new("L", (3, 3), value) for value in (10, 200)]
    assert (pixels(frames[0], kind="GIF", save_all=True, append_images=frames[1:]) == 10).all()


STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: a[::-1, ::-1],
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}
"""EXIF orientation to how an upright image is stored with it."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100}),
    ],
)
def test_an_image_is_turned_upright_once_whatever_the_way_in(tmp_path, orientation, kind, options):
    upright = np.kron(GREY[:4, :6] // 128 * 255, np.ones((8, 8), np.uint8))  # blocks, for JPEG
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    raw = encoded(stored, kind, exif=exif, **options)
    path = tmp_path / "photo"
    path.write_bytes(raw)
    ways = (raw, path, str(path), io.BytesIO(raw), Image.open(path), Image.open(io.BytesIO(raw)))
    # Pillow itself scrambles uncompressed TIFFs that lie on their side, if it opens their path.
    if (kind, options) != ("TIFF", {}):
        loaded = Image.open(path)
        loaded.load()
        ways += loaded, Image.open(path).copy()
    for source in ways:
        image = images.as_image(source).convert("L")
        assert np.abs(np.asarray(image, int) - upright).max() <= 2
    assert images.image_size(path) == upright.shape
    assert (np.asarray(images.as_image(upright)) == upright).all(), "pixels are upright already"


@pytest.mark.parametrize(("side", "scale"), [(100, 1), (130, 2), (300, 4), (4000, 8)])
def test_large_jpegs_are_decoded_smaller(side, scale):
    ramp = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
    raw = encoded(Image.fromarray(ramp), "JPEG", quality=95)
    image = images.read_image(raw, rule=prep((20, 32)))
    assert image.size == (-(-side // scale),) * 2
    rule = prep((20, 32))
    whole = prepare(images.read_image(raw), rule)
    assert np.abs(prepare(image, rule) - whole).max() < 2 / 255


def test_a_large_jpeg_needs_little_memory():
    raw = encoded(Image.new("RGB", (4000, 3000), (9, 90, 200)), "JPEG")
    tracemalloc.start()
    assert images.read_image(raw, rule=prep((28, 28))).size == (500, 375)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_broken_exif_is_passed_over():
    assert (pixels(Image.fromarray(GREY), exif=b"Exif\0\0II*\0\xff\xff\xff\xff") == GREY).all()


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    header = encoded(Image.new("1", (100_000, 1)))
    assert images.read_image(header).size == (100_000, 1)
    bomb = bytearray(encoded(Image.new("1", (8, 8))))
    for claimed, message in ((9_000, "9,000 x 9,000 pixels"), (60_000, "far more pixels")):
        bomb[16:24] = claimed.to_bytes(4, "big") * 2
        bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
        monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
        with pytest.raises(DataError, match=message):
            images.read_image(bytes(bomb))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_gives_an_image_or_one_line(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    raw = bytearray(encoded(Image.fromarray(COLOR), kind))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    with suppress(DataError):  # anything else fails
        assert images.read_image(bytes(raw)).mode in ("L", "RGB")


def test_files_that_are_no_image(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "run.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "cut.png").write_bytes(encoded(Image.fromarray(GREY))[:200])
    os.mkfifo(tmp_path / "pipe.png")
    cases = {
        "empty.png": "the file is empty",
        "text.png": "not an image",
        "run.png": "not an image",
        "cut.png": "truncated",
        "pipe.png": "not a regular file",
        ".": "a folder",
        "none.png": "no such file: ",
        "a\0b": "cannot be read",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message):
            images.read_image(tmp_path / name)


def test_as_image_takes_arrays_paths_and_images(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for source in (
        GREY,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(GREY),
        GREY.T.copy().T,
    ):
        assert (np.asarray(images.as_image(source)) == GREY).all()
    assert images.as_image(COLOR).mode == "RGB"
    for wrong in (GREY / 255, GREY[None], COLOR[..., :2], GREY[:0]):
        with pytest.raises(DataError, match="expected one image of uint8 pixels"):
            images.as_image(wrong)


class Endless(io.RawIOBase):
    """A device or a connection that never ends."""

    def readable(self):
        return True

    def readinto(self, buffer):
        return len(buffer)


class Broken(io.RawIOBase):
    """A member of a damaged archive."""

    def read(self, size=-1):
        raise zipfile.BadZipFile("Bad CRC-32 for file 'a.png'")


def test_open_files_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_FILE", 2**21)
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    closed = path.open("rb")
    closed.close()
    with path.open() as text, (tmp_path / "new").open("wb") as written:
        for source, message in {
            io.StringIO(str(path)): "opened in text mode; open it with mode 'rb'",
            text: "opened in text mode; open it with mode 'rb'",
            closed: "cannot be read: read of closed file",
            written: "cannot be read: read",
            Broken(): "cannot be read: Bad CRC-32 for file 'a.png'",
            Endless(): "more than 2,097,152 bytes, which is the most that is read",
            io.BytesIO(): "the file is empty, expected an image",
        }.items():
            with pytest.raises(DataError) as caught:
                images.as_image(source)
            assert str(caught.value).startswith(f"image: {message}")


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(size):
    with pytest.raises(DataError, match=f"image: {size[0]} x {size[1]} pixels, expected an image"):
        images.as_image(Image.new("L", size))


def test_folders_are_searched_in_order(tmp_path):
    for name in (
        "b/2.PNG",
        "b/1.jpg",
        "b/sub/0.gif",
        "b/.hidden.png",
        "b/note.txt",
        "a.png",
        "z.dat",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b")
    given_paths = [
        tmp_path / "z.dat",
        str(tmp_path / "b"),
        tmp_path / "missing.png",
        tmp_path / "a.png",
    ]
    found = [str(p.relative_to(tmp_path)) for p in find_images(given_paths)]
    assert found == ["z.dat", "b/1.jpg", "b/2.PNG", "b/sub/0.gif", "missing.png", "a.png"]
    assert "b/sub/0.gif" not in [
        str(p.relative_to(tmp_path)) for p in find_images(given_paths, recursive=False)
    ]


def test_paths_are_taken_one_at_a_time():
    endless = (f"{n}.png" for n in iter(int, 1))
    assert len(list(islice(find_images(endless), 3))) == 3


def test_names_that_lead_nowhere_are_tried_like_others(tmp_path):
    loop, long = tmp_path / "loop.png", "a" * 5000
    loop.symlink_to("loop.png")
    found = list(find_images([tmp_path, long, "a\0b"]))
    assert [str(path) for path in found] == [str(loop), long, "a\0b"]
    for path, reason in zip(
        found, ("Too many levels", "File name too long", "embedded null byte"), strict=True
    ):
        with pytest.raises(DataError, match=f"cannot be read: {reason}"):
            images.read_image(path)
