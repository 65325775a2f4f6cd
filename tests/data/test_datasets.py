"""Data sets: what is read, and what is refused with which words."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bwn.data import decoding
from bwn.data.cifar import CIFAR_CLASSES
from bwn.data.class_folders import look
from bwn.data.datasets import load_dataset
from bwn.data.records import read_exactly
from bwn.errors import DataError


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write_idx(folder, images, labels, part="train", suffix="", dash="-"):
    folder.mkdir(exist_ok=True)
    for kind, array in (("images", images), ("labels", labels)):
        name = f"{part}-{kind}{dash}idx{array.ndim}-ubyte{suffix}"
        content = idx(array)
        (folder / name).write_bytes(gzip.compress(content, mtime=0) if suffix else content)
    return folder


def digits(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 5, 4), np.uint8), (np.arange(count) % 3).astype(np.uint8)


def refused(source, split="train", **more):
    with pytest.raises(DataError) as caught:
        load_dataset(source, split, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_sample_ships():
    train, test = load_dataset("mnist-sample"), load_dataset("mnist-sample", "test")
    assert train.images.shape == (7000, 28, 28)
    assert test.images.shape == (1000, 28, 28)
    assert train.classes == test.classes == tuple("0123456789")
    assert (train.color, train.size) == ("L", (28, 28))
    assert np.bincount(train.labels).min() > 600
    assert train.labels[:5].tolist() == [5, 1, 8, 2, 0]
    assert 0.12 < train.images.mean() / 255 < 0.14


@pytest.mark.parametrize(("suffix", "dash"), [("", "-"), (".gz", "-"), ("", ".")])
def test_idx_folders_are_read(tmp_path, suffix, dash):
    images, labels = digits()
    write_idx(tmp_path, images, labels, suffix=suffix, dash=dash)
    write_idx(tmp_path, images[:2], labels[:2], part="t10k", suffix=suffix, dash=dash)
    train, test = load_dataset(tmp_path), load_dataset(str(tmp_path), "test")
    np.testing.assert_array_equal(train.images, images)
    np.testing.assert_array_equal(train.labels, labels)
    np.testing.assert_array_equal(test.images, images[:2])
    assert train.classes == test.classes == ("0", "1", "2"), "classes come from both splits"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: b"\x00\x00\x0d" + c[3:], "magic is 00000d03, expected 00000803"),
        (lambda c: c[:10], "truncated inside its header"),
        (lambda c: c[:-1], "truncated, 119 of 120 bytes"),
        (lambda c: c + b"\x00", "more than the 120 bytes of data"),
        (lambda c: b"", "magic is absent, expected 00000803"),
        (
            lambda c: c[:4] + struct.pack(">3I", 2**31, 2**31, 2**31),
            "claims 9,903,520,314,283,042,199,192,993,792 bytes",
        ),
        (
            lambda c: c[:4] + struct.pack(">3I", 2**20, 30, 30) + c[16:],
            "truncated, 120 of 943,718,400 bytes",
        ),
        (
            lambda c: c[:4] + struct.pack(">3I", 2**13, 2**10, 2**10),
            "truncated, 0 of 8,589,934,592 bytes",
        ),
        (
            lambda c: c[:4] + struct.pack(">3I", 2**13 + 1, 2**10, 2**10),
            "claims 8,590,983,168 bytes; at most 8,589,934,592 are read",
        ),
        (lambda c: c[:4] + struct.pack(">3I", 0, 5, 4), "empty"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_broken_idx_files_are_refused(tmp_path, change, words, suffix):
    write_idx(tmp_path, *digits(), suffix=suffix)
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    content = change(idx(digits()[0]))
    path.write_bytes(gzip.compress(content) if suffix else content)
    message = refused(tmp_path)
    assert words in message
    assert str(path) in message


@pytest.mark.parametrize("count", [1, 2**20 - 1, 2**20, 2**20 + 1])
def test_exactly_so_many_bytes_are_read(count):
    content = bytes(range(256)) * (count // 256 + 2)
    path = Path("a file")
    assert read_exactly(io.BytesIO(content[:count]), count, path) == content[:count]
    with pytest.raises(DataError, match=f"a file: truncated, {count - 1:,} of {count:,} bytes"):
        read_exactly(io.BytesIO(content[: count - 1]), count, path)
    with pytest.raises(DataError, match=f"a file: more than the {count:,} bytes"):
        read_exactly(io.BytesIO(content[: count + 1]), count, path)


@pytest.mark.parametrize("cut", [0, 1, 9, 15, 40, -9, -1])
def test_truncated_and_flipped_gzip_files_are_refused(tmp_path, cut):
    write_idx(tmp_path, *digits(), suffix=".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    assert str(path) in refused(tmp_path)
    position = cut % len(content)
    path.write_bytes(
        content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]
    )
    if position != 9:  # the byte of the operating system, which nobody reads
        assert str(path) in refused(tmp_path)


def test_idx_parts_must_agree_and_be_there(tmp_path):
    images, labels = digits()
    write_idx(tmp_path, images, labels[:4])
    assert "6 training images but 4 labels" in refused(tmp_path)
    assert "no test images: t10k-images-idx3-ubyte (or .gz) is missing" in refused(tmp_path, "test")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "no training labels: train-labels-idx1-ubyte (or .gz) is missing" in refused(tmp_path)


def write_cifar(folder, name, labels, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, 32, 32), np.uint8)
    records = np.concatenate(
        [np.array(labels, np.uint8)[:, None], pixels.reshape(len(labels), -1)], axis=1
    )
    (folder / name).write_bytes(records.tobytes())
    return pixels


def test_cifar_folders_are_read_in_order(tmp_path):
    second = write_cifar(tmp_path, "data_batch_2.bin", [9], seed=2)
    first = write_cifar(tmp_path, "data_batch_1.bin", [3, 0], seed=1)
    write_cifar(tmp_path, "test_batch.bin", [7])
    data = load_dataset(tmp_path)
    assert data.labels.tolist() == [3, 0, 9]
    assert data.images.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(data.images[0, :, :, 1], first[0, 1])
    np.testing.assert_array_equal(data.images[2, :, :, 2], second[0, 2])
    assert load_dataset(tmp_path, "test").labels.tolist() == [7]
    assert data.classes == CIFAR_CLASSES
    assert data.color == "RGB"


def test_broken_cifar_files_are_refused(tmp_path):
    write_cifar(tmp_path, "data_batch_1.bin", [1, 2])
    assert "has no test_batch.bin" in refused(tmp_path, "test")
    path = tmp_path / "data_batch_1.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert "6,145 bytes, expected a multiple of 3073" in refused(tmp_path)
    path.write_bytes(b"")
    assert "0 bytes, expected a multiple of 3073" in refused(tmp_path)
    write_cifar(tmp_path, "data_batch_1.bin", [1, 10])
    assert "record 1 has label 10, expected 0 to 9" in refused(tmp_path)
    write_cifar(tmp_path, "data_batch_1.bin", [1, 12])
    assert "record 1 has label 12, expected 0 to 9" in refused(tmp_path)


def test_no_more_of_a_cifar_file_is_read_than_of_a_split(tmp_path, monkeypatch):
    write_cifar(tmp_path, "data_batch_1.bin", [1, 2])
    monkeypatch.setattr("bwn.data.cifar.MAX_BYTES", 2 * 3073)
    assert load_dataset(tmp_path).labels.tolist() == [1, 2]
    monkeypatch.setattr("bwn.data.cifar.MAX_BYTES", 2 * 3073 - 1)
    assert "6,146 bytes; at most 6,145 are read" in refused(tmp_path)


def picture(path, color, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if isinstance(color, tuple) else "L", size, color).save(path)


def test_class_folders_become_a_data_set(tmp_path):
    for index in range(2):
        picture(tmp_path / "train" / "cat" / f"{index}.png", (200, 10, index))
        picture(tmp_path / "train" / "dog" / f"{index}.jpg", (10, 200, 10), size=(12, 8))
    data = load_dataset(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.images.shape == (4, 8, 8, 3), "sizes differ: a square of the usual shorter side"
    assert data.images[1, 0, 0].tolist() == [200, 10, 1]
    assert load_dataset(tmp_path, size=(8, 6), color="L").images.shape == (4, 8, 6)
    assert "has no test images (train = train/)" in refused(tmp_path, "test")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(6, 4), (6, 4)], (4, 6)),  # (width, height): kept as they are
        ([(6, 4), (6, 5)], (5, 5)),
        ([(640, 480), (640, 480)], (64, 64)),
        ([(100, 30), (640, 480), (100, 30)], (30, 30)),
    ],
)
def test_a_sensible_size_is_picked(tmp_path, sizes, expected):
    for index, size in enumerate(sizes):
        picture(tmp_path / "train" / "a" / f"{index}.png", 9, size=size)
        picture(tmp_path / "train" / "b" / f"{index}.png", 9, size=size)
    assert load_dataset(tmp_path).size == expected


def test_gray_folders_stay_gray(tmp_path):
    picture(tmp_path / "train" / "a" / "1.png", 7)
    picture(tmp_path / "train" / "b" / "1.png", (9, 9, 9))
    data = load_dataset(tmp_path)
    assert data.color == "L"
    assert data.images[:, 0, 0].tolist() == [7, 9]
    picture(tmp_path / "train" / "b" / "2.png", (9, 9, 8))
    assert load_dataset(tmp_path).color == "RGB"


def test_all_broken_images_are_named_at_once_or_left_out(tmp_path, caplog):
    for name in ("a", "b"):
        for index in range(10):
            picture(tmp_path / "train" / name / f"{index}.png", index)
    for index in (3, 4, 8, 9):
        (tmp_path / "train" / "b" / f"{index}.png").write_bytes(b"no image")
    message = refused(tmp_path)
    assert "4 of 20 images cannot be read" in message
    assert "3.png: not an image" in message
    assert "and 1 more; repair them, or leave them out with skip_bad" in message
    data = load_dataset(tmp_path, skip_bad=True)
    assert data.labels.tolist() == [0] * 10 + [1] * 6
    assert data.images[:, 0, 0].tolist() == [*range(10), 0, 1, 2, 5, 6, 7]
    assert "left out: 4 of 20 images" in caplog.text


def test_a_class_without_a_readable_image_is_refused(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "train" / name / "1.png", 1)
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "1.png").write_bytes(b"no image")
    assert "no training image of class 'c' can be read" in refused(tmp_path, skip_bad=True)


def cut_short(path):
    """An image whose header is whole and whose pixels end early."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def broken(path):
    path.write_bytes(b"no image")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp", "ppm", "jp2"])
def test_a_test_image_cut_short_is_found_before_training(tmp_path, suffix):
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "1.png", 1)
    cut_short(tmp_path / "test" / "a" / f"2.{suffix}")
    message = refused(tmp_path)
    assert "1 of 5 images cannot be read" in message
    assert f"2.{suffix}" in message
    assert len(load_dataset(tmp_path, skip_bad=True).images) == 2


def test_a_held_out_image_cut_short_is_found_before_training(tmp_path):
    for name in ("a", "b"):
        for index in range(12):
            picture(tmp_path / name / f"{index}.png", 1)
    paths, _ = look(tmp_path).images["test"]
    cut_short(Path(paths[0]))
    assert paths[0] in refused(tmp_path)


def test_broken_images_of_both_splits_are_named_at_once(tmp_path, caplog):
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "1.png", 1)
        broken(tmp_path / split / "a" / "2.png")
    message = refused(tmp_path)
    assert "2 of 6 images cannot be read" in message
    assert "train/a/2.png" in message
    assert "test/a/2.png" in message
    assert "repair them, or leave them out with skip_bad" in message
    load_dataset(tmp_path, skip_bad=True)
    assert "left out: 2 of 6 images" in caplog.text


def test_a_class_without_a_readable_test_image_is_found_before_training(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "1.png", 1)
    broken(tmp_path / "test" / "b" / "1.png")
    assert "no test image of class 'b' can be read" in refused(tmp_path, skip_bad=True)


def test_test_images_are_checked_for_memory_before_training(tmp_path, monkeypatch):
    for name in ("a", "b"):
        picture(tmp_path / "train" / name / "1.png", 1)
        for index in range(9):
            picture(tmp_path / "test" / name / f"{index}.png", 1)
    monkeypatch.setattr("bwn.data.datasets.available_memory", lambda: 9000)
    assert "18 images of 30 x 30 pixels take" in refused(tmp_path, size=(30, 30))


@pytest.mark.parametrize("part", ["images", "labels"])
def test_test_records_cut_short_are_found_before_training(tmp_path, part):
    for split in ("train", "t10k"):
        write_idx(tmp_path, *digits(), part=split)
    (path,) = tmp_path.glob(f"t10k-{part}*")
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated" in refused(tmp_path)


def test_test_records_of_cifar_are_looked_at_before_training(tmp_path):
    write_cifar(tmp_path, "data_batch_1.bin", [0, 1])
    write_cifar(tmp_path, "test_batch.bin", [1, 2])
    load_dataset(tmp_path)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert "test_batch.bin" in refused(tmp_path)


def test_images_of_the_test_split_are_decoded_once_in_the_same_pass(tmp_path, monkeypatch):
    for split in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / split / name / "1.png", 1)
    read = []
    original = decoding.read_image
    monkeypatch.setattr(
        decoding, "read_image", lambda path, **more: read.append(path) or original(path, **more)
    )
    lines = []
    load_dataset(tmp_path, progress=lines.append)
    assert len(read) == len(set(read)) == 4
    assert lines == ["Reading images: 1 of 4", ""]


def test_a_folder_is_described_before_it_is_read(tmp_path, caplog):
    caplog.set_level("INFO", "bwn.data")
    picture(tmp_path / "a" / "1.png", 1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.png").write_bytes(b"no image")
    assert "1 of 2 images cannot be read" in refused(tmp_path)
    assert "2 classes, 2 training and 0 test images (one in five of each class" in caplog.text


def test_images_that_do_not_fit_in_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    picture(tmp_path / "a" / "1.png", 1)
    picture(tmp_path / "b" / "1.png", 1)
    monkeypatch.setattr("bwn.data.datasets.available_memory", lambda: 5000)
    message = refused(tmp_path, size=(30, 30))
    assert "2 images of 30 x 30 pixels take 5.3 KiB, 4.9 KiB are available" in message


def test_progress_is_shown_and_cleared(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png", 1)
    lines = []
    load_dataset(tmp_path, progress=lines.append)
    assert lines == ["Reading images: 1 of 2", ""]


def test_other_sizes_and_colours_on_demand(tmp_path):
    images, labels = digits()
    write_idx(tmp_path, images, labels)
    data = load_dataset(tmp_path, size=(10, 8), color="RGB")
    assert data.images.shape == (6, 10, 8, 3)
    assert (data.images[..., 0] == data.images[..., 2]).all()
    np.testing.assert_array_equal(load_dataset(tmp_path, size=(5, 4)).images, images)


def test_unknown_sources_name_what_is_near_and_what_is_accepted(tmp_path):
    assert (
        "no such folder: mnist-sampel (did you mean mnist-sample?); expected 'mnist-sample' (bundled)"
        in refused("mnist-sampel")
    )
    (tmp_path / "photos").mkdir()
    assert f"(did you mean {tmp_path / 'photos'}?)" in refused(tmp_path / "fotos")
    (tmp_path / "file.zip").write_bytes(b"")
    assert "is a file, expected" in refused(tmp_path / "file.zip")
