"""Every pixel format that Pillow can open is right or refused by name.

Truth: made images whose gray or color ramp is known, one for each mode, depth, sign, byte order and
photometric meaning.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tracemalloc
import types

import numpy as np
import pytest
from PIL import Image

from bwn.data import pixels
from bwn.data.images import as_image, read_image
from bwn.errors import DataError
from tests.support.made_images import COLOR, GRAY, LEVELS, png, pnm, tiff

BITS = np.tile(np.arange(16) % 2, (4, 1))
FAINT = 51
"""An opacity of one fifth."""


def with_alpha(pixels, alpha):
    pixels = np.atleast_3d(pixels)
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), alpha)], 2)


def levels(bits):
    return np.tile(np.rint(LEVELS * (2**bits - 1)), (4, 1))


def same(source, expected):
    pixels = np.asarray(read_image(source) if isinstance(source, bytes) else as_image(source))
    expected = np.asarray(expected)
    if pixels.ndim > expected.ndim:  # gray stored as color
        expected = np.repeat(expected[..., None], 3, 2)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - np.rint(expected)).max() <= 1
    return pixels


def refused(source):
    with pytest.raises(DataError) as caught:
        read_image(source) if isinstance(source, bytes) else as_image(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def decoded(made):
    image = Image.open(io.BytesIO(made))
    image.load()
    return image


def pickled(made):
    return pickle.loads(pickle.dumps(decoded(made)))


def same_or_refused(image, expected):
    """Whether an image is read; it is as expected, or refused with advice."""
    try:
        as_image(image)
    except DataError:
        assert "pass the file" in refused(image)
        return False
    same(image, expected)
    return True


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_gray_tiffs(bits, photometric, endian):
    white = 2**bits - 1
    stored = white - levels(bits) if photometric == 0 else levels(bits)
    made = tiff(stored, bits=bits, photometric=photometric, endian=endian)
    try:
        Image.open(io.BytesIO(made))
    except OSError:  # Pillow does not open this combination
        assert "a TIFF image in a pixel format that bwn cannot read" in refused(made)
    else:
        same(made, levels(bits) / white * 255)
        for form in (decoded, pickled, lambda made: decoded(made).copy()):
            assert same_or_refused(form(made), levels(bits) / white * 255) or bits > 8


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_color_tiffs(bits, endian):
    unit = (2**bits - 1) // 255
    store = {"bits": bits, "endian": endian}
    same(tiff(COLOR * unit, photometric=2, **store), COLOR)
    same(tiff((255 - with_alpha(COLOR, 255)) * unit, photometric=5, **store), COLOR)
    same(tiff(with_alpha(COLOR, FAINT) * unit, photometric=2, extra=2, **store), COLOR / 5)
    same(tiff(with_alpha(COLOR / 5, FAINT) * unit, photometric=2, extra=1, **store), COLOR / 5)
    same(tiff(with_alpha(COLOR, FAINT) * unit, photometric=2, extra=0, **store), COLOR)
    planes = tiff(COLOR * unit, photometric=2, planar=2, **store)
    if bits == 8:
        same(planes, COLOR)
        same(tiff(with_alpha(GRAY, FAINT), extra=2, **store), GRAY / 5)
    else:
        assert "16-bit color in separate planes" in refused(planes)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize(("bits", "sample_format"), [(8, 2), (16, 2), (32, 1), (32, 2), (32, 3)])
def test_samples_of_unknown_range_are_refused_by_name(bits, sample_format, endian):
    made = tiff(levels(8), bits=bits, sample_format=sample_format, endian=endian)
    kind = {1: "32-bit", 2: "signed", 3: "floating-point"}[sample_format]
    try:
        Image.open(io.BytesIO(made))
    except OSError:
        assert "a TIFF image in a pixel format that bwn cannot read" in refused(made)
    else:
        assert f"{kind} pixels, whose range is not known" in refused(made)
        assert f"{kind} pixels, whose range is not known" in refused(Image.open(io.BytesIO(made)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(bits):
    count = min(2**bits, 16)
    index = np.tile(np.arange(16) % count, (4, 1))
    colors = COLOR[0, :count].astype(int)
    expected = colors[index]
    table = np.zeros((3, 2**bits), int)
    table[:, :count] = colors.T * 257
    same(tiff(index, bits=bits, photometric=3, colormap=table.ravel().tolist()), expected)
    stored = {"bits": bits, "color": 3, "palette": colors.ravel().tolist()}
    same(png(index, **stored), expected)
    faint = np.where((index == 0)[..., None], expected / 5, expected)
    same(png(index, transparent=bytes([FAINT]), **stored), faint)


def test_other_meanings_of_tiffs():
    same(tiff(GRAY, fill=2), GRAY)
    same(tiff(BITS, bits=1, fill=2), BITS * 255)
    gray = np.stack([GRAY, np.full_like(GRAY, 128), np.full_like(GRAY, 128)], 2)
    same(tiff(gray, photometric=6), GRAY)  # YCbCr
    assert "CIELAB" in refused(tiff(COLOR, photometric=8))
    assert "a TIFF image in a pixel format" in refused(tiff(BITS, bits=1, photometric=4))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_pngs_with_and_without_a_transparent_level(bits):
    white = 2**bits - 1
    expected = levels(bits) / white * 255
    same(png(levels(bits), bits=bits), expected)
    for level in {0, int(levels(bits)[0, 5]), white}:
        made = png(levels(bits), bits=bits, transparent=struct.pack(">H", level))
        same(made, np.where(levels(bits) == level, 0, expected))
        same(Image.open(io.BytesIO(made)), np.where(levels(bits) == level, 0, expected))


@pytest.mark.parametrize("bits", [8, 16])
def test_color_pngs(bits):
    unit = (2**bits - 1) // 255
    same(png(COLOR * unit, bits=bits, color=2), COLOR)
    hole = COLOR.copy()
    hole[:, 3] = 0
    odd = 0x34 if bits == 16 else 0  # low bytes that are not copies of the high ones
    stored = COLOR * 256 + odd if bits == 16 else COLOR
    clear = struct.pack(">HHH", *(int(value) for value in stored[0, 3]))
    same(png(stored, bits=bits, color=2, transparent=clear), hole)
    same(png(with_alpha(COLOR, FAINT) * unit, bits=bits, color=6), COLOR / 5)
    same(png(with_alpha(GRAY, FAINT) * unit, bits=bits, color=4), GRAY / 5)


@pytest.mark.parametrize("white", [1, 7, 100, 255, 256, 1000, 65535])
def test_portable_maps(white):
    stored = np.tile(np.rint(LEVELS * white), (4, 1))
    color = np.stack([stored, white - stored, stored], 2)
    for kind, samples in (("P2", stored), ("P5", stored), ("P3", color), ("P6", color)):
        same(pnm(kind, samples, white), samples / white * 255)
    assert "floating-point" in refused(b"Pf\n16 4\n-1.0\n" + np.zeros((4, 16), "<f4").tobytes())


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_sixteen_bits_in_every_format(format_name):
    stream = io.BytesIO()
    wide = np.repeat(levels(16).astype(np.uint16), 4, 0)
    Image.fromarray(wide).save(stream, format_name)
    same(stream.getvalue(), np.repeat(GRAY, 4, 0))


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("JPEG2000", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
        ("AVIF", {"quality": 100}),
    ],
)
def test_files_of_other_formats(format_name, options):
    if format_name == "AVIF" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow has no AVIF")
    large = np.repeat(np.repeat(GRAY, 8, 0), 8, 1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(large).convert("RGB").save(stream, format_name, **options)
    pixels = np.asarray(read_image(stream.getvalue()).convert("L"), int)
    assert np.abs(pixels - large).max() <= 2


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBX", "RGBA", "RGBa", "LA", "La", "PA", "CMYK", "YCbCr", "HSV"]
)
def test_images_of_every_mode(mode):
    ramp = Image.fromarray(BITS.astype(np.uint8) * 255)
    if mode in ("La", "RGBa"):
        ramp = ramp.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    image = as_image(ramp.convert(mode))
    assert image.mode in ("L", "RGB")
    assert (np.asarray(image.convert("L")) == BITS * 255).all()


def test_deep_modes_without_a_file():
    same(Image.fromarray(levels(16).astype(np.uint16)), GRAY)
    assert "32-bit pixels" in refused(Image.fromarray(levels(16).astype(np.int32)))
    assert "floating-point pixels" in refused(Image.fromarray(levels(8).astype(np.float32)))
    assert "CIELAB" in refused(Image.new("LAB", (2, 2)))


def test_foreign_files_are_named():
    assert "a HEIC image; to read it, pip install pillow-heif" in refused(
        b"\0\0\0\x18ftypheic" + bytes(99)
    )
    assert "looks like a PDF" in refused(b"%PDF-1.7")


def test_heic_is_read_where_its_package_is_installed(monkeypatch):
    plugin = types.ModuleType("pillow_heif")

    def register():
        Image.register_open(
            "HEIF", lambda stream, name: Image.new("L", (3, 2), 7), lambda head: True
        )

    plugin.register_heif_opener = register
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert read_image(b"\0\0\0\x18ftypheic" + bytes(99)).size == (3, 2)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_tiff_palettes_of_8_bits_are_taken_as_such(bits, endian):
    count = min(2**bits, 16)
    index = np.tile(np.arange(16) % count, (4, 1))
    colors = COLOR[0, :count].astype(int)
    table = np.zeros((3, 2**bits), int)
    table[:, :count] = colors.T
    store = {"bits": bits, "photometric": 3, "endian": endian}
    made = tiff(index, colormap=table.ravel().tolist(), **store)
    same(made, colors[index])
    loaded = Image.open(io.BytesIO(made))
    loaded.load()
    same(loaded, colors[index])
    same(loaded, colors[index])
    assert "palette" in refused(loaded.copy())
    table[2, -1] = 256  # one entry of more than 8 bits: all are of 16
    dark = tiff(index, colormap=table.ravel().tolist(), **store)
    assert np.asarray(read_image(dark)).max() <= 1


def test_copies_of_tiffs_with_palettes():
    index = np.tile(np.arange(16), (4, 1))
    colors = COLOR[0].astype(int)
    table = np.zeros((3, 16), int)
    table[:] = colors.T * 257
    image = Image.open(io.BytesIO(tiff(index, bits=4, photometric=3, colormap=table.ravel())))
    same(image.copy(), colors[index])
    black = Image.new("P", (4, 4))
    black.putpalette(bytes(768))
    same(black, np.zeros((4, 4)))


@pytest.mark.parametrize("form", [decoded, lambda made: decoded(made).copy(), pickled])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_decoded_gray_pngs_with_a_transparent_level_are_right_or_refused(bits, form):
    expected = levels(bits) / (2**bits - 1) * 255
    answers = []
    for level in range(2 ** min(bits, 8)):
        made = png(levels(bits), bits=bits, transparent=struct.pack(">H", level))
        if same_or_refused(form(made), np.where(levels(bits) == level, 0, expected)):
            answers.append(level)
    always = {1: {0, 1}, 2: {0}, 4: {0}, 8: {0, *range(16, 256)}, 16: set(range(256))}[bits]
    assert always <= {*answers}


@pytest.mark.parametrize("form", [decoded, lambda made: decoded(made).copy(), pickled])
@pytest.mark.parametrize("bits", [8, 16])
def test_decoded_color_pngs_with_a_transparent_color_are_right_or_refused(bits, form):
    unit = (2**bits - 1) // 255
    for column in range(16):
        for color in (COLOR[0, column] * unit, COLOR[0, column], np.array([0, 0, 0])):
            clear = struct.pack(">HHH", *(int(value) for value in color))
            made = png(COLOR * unit, bits=bits, color=2, transparent=clear)
            expected = np.where((COLOR * unit == color).all(-1)[..., None], 0, COLOR)
            if not same_or_refused(form(made), expected):
                assert color.any()
                assert color.max() < 256


def test_an_image_that_was_passed_before_is_the_same_again():
    for made in (
        png(levels(4), bits=4, transparent=struct.pack(">H", 5)),
        png(levels(2), bits=2, transparent=struct.pack(">H", 3)),
        png(levels(8), bits=8, transparent=struct.pack(">H", int(levels(8)[0, 1]) - 2)),
        png(COLOR, color=2, transparent=struct.pack(">HHH", *COLOR[0, 3].astype(int))),
    ):
        image = Image.open(io.BytesIO(made))
        first = np.asarray(as_image(image))
        same(image, first)
        same(image.copy(), first)


def test_a_decoded_gif_keeps_its_transparent_level():
    stream = io.BytesIO()
    index = np.tile(np.arange(16), (4, 1))
    Image.fromarray(index.astype(np.uint8)).save(stream, "GIF", transparency=5)
    same(decoded(stream.getvalue()), np.where(index == 5, 0, index))


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_copies_of_deep_gray_tiffs_are_refused(bits, photometric):
    white = 2**bits - 1
    stored = white - levels(bits) if photometric == 0 else levels(bits)
    try:
        image = decoded(tiff(stored, bits=bits, photometric=photometric))
    except OSError:
        return  # Pillow does not open this combination
    same(image, levels(bits) / white * 255)
    for copy in (image.copy(), image.crop((0, 0, 4, 4)), image.resize((8, 2), 0)):
        message = refused(copy)
        assert "a copy of a TIFF" in message
        assert "pass the file" in message


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa", "PA", "P"])
def test_opacity_is_laid_over_black_a_few_rows_at_a_time(mode, monkeypatch):
    alpha = np.random.default_rng(3).integers(0, 256, (4, 16))
    straight = Image.fromarray(np.concatenate([COLOR, alpha[..., None]], 2).astype(np.uint8))
    gray = straight.convert("LA")
    image = {
        "LA": gray, "La": gray.convert("La"), "PA": straight.convert("P").convert("PA"),
        "RGBa": straight.convert("RGBa"), "P": straight.quantize(16), "RGBA": straight,
    }[mode]  # fmt: skip
    whole = np.asarray(as_image(image))
    composed, original = [], Image.alpha_composite
    monkeypatch.setattr(pixels, "ROWS", 3)
    monkeypatch.setattr(
        Image, "alpha_composite", lambda a, b: composed.append(b.size) or original(a, b)
    )
    assert (np.asarray(as_image(image)) == whole).all()
    assert composed == [(16, 3), (16, 1)]


def test_deep_gray_takes_little_more_memory_than_its_pixels():
    image = Image.fromarray(np.zeros((2000, 2000), np.uint16))
    tracemalloc.start()
    try:
        as_image(image)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2000**2
    finally:
        tracemalloc.stop()
