"""What a folder of class folders holds is recognized, or refused where it is ambiguous."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from bwn.data import class_folders
from bwn.data.class_folders import look
from bwn.errors import DataError

PNG = b"\x89PNG"  # never decoded here


def make(root, *names):
    """Files by their paths; a name that ends in / is a folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PNG)
    return root


def classes_of(root, split="train"):
    """Class name to the names of its images, in one split."""
    folders = look(root)
    paths, labels = folders.images.get(split, ([], []))
    names = {}
    for path, label in zip(paths, labels, strict=True):
        names.setdefault(folders.classes[label], []).append(Path(path).name)
    return names


def refused(root):
    with pytest.raises(DataError) as caught:
        look(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"), ("Training", "Testing"), ("training_set", "test_set"), ("Train", "Val"),
        ("TRAIN", "validation"), ("trainset", "testset"), ("train_images", "eval"), ("train-data", "dev"),
        ("01_train", "02_test"), ("seg_train", "seg_test"), ("training-set", "validation set"),
    ],
)  # fmt: skip
def test_splits_are_recognized_in_any_spelling(tmp_path, train, test):
    make(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/cat/3.png")
    assert classes_of(tmp_path) == {"cat": ["1.png"], "dog": ["2.png"]}
    assert classes_of(tmp_path, "test") == {"cat": ["3.png"]}
    assert look(tmp_path).layout == f"train = {train}/, test = {test}/"


def test_test_is_preferred_to_validation_and_the_other_is_named(tmp_path):
    make(
        tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "val", "test") for name in "ab")
    )
    folders = look(tmp_path)
    assert folders.layout == "train = train/, test = test/"
    assert "not used: val/" in folders.notes


@pytest.mark.parametrize("name", ["train", "test", "Training", "val"])
def test_a_class_may_be_called_like_a_split(tmp_path, name):
    make(tmp_path, f"{name}/1.png", "bus/2.png", "car/3.png")
    assert set(classes_of(tmp_path)) == {name, "bus", "car"}


def test_a_test_split_alone_is_a_test_split(tmp_path):
    make(tmp_path, "test/a/1.png", "test/b/2.png")
    assert classes_of(tmp_path, "test") == {"a": ["1.png"], "b": ["2.png"]}
    assert classes_of(tmp_path) == {}


def test_an_empty_test_split_leaves_its_place_to_the_validation_split(tmp_path):
    make(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/", "val/a/2.png", "val/b/2.png")
    assert classes_of(tmp_path, "test") == {"a": ["2.png"], "b": ["2.png"]}


def test_a_single_class_of_a_split_is_not_entered(tmp_path):
    make(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/black/2.png")
    make(tmp_path, "test/cat/white/3.png")
    assert classes_of(tmp_path, "test") == {"cat": ["2.png", "3.png"]}


def test_links_that_lead_nowhere_are_no_folders(tmp_path):
    make(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    assert set(classes_of(tmp_path)) == {"a", "b"}


def test_links_to_a_folder_that_is_read_anyway_are_no_classes(tmp_path):
    make(tmp_path / "data", "a/1.png", "b/2.png")
    make(tmp_path / "far", "3.png")
    for name, target in (("all", "."), ("c", "a"), ("d", "../far"), ("e", "../far"), ("up", "..")):
        (tmp_path / "data" / name).symlink_to(target)
    folders = look(tmp_path / "data")
    assert folders.classes == ("a", "b", "d")
    assert folders.notes == ("skipped, links to folders already included: all/, c/, e/, up/",)


def test_a_test_split_is_no_link_to_the_training_split(tmp_path):
    make(tmp_path, "train/a/1.png", "train/b/2.png")
    (tmp_path / "test").symlink_to("train")
    folders = look(tmp_path)
    assert folders.layout == "train = train/"
    assert "skipped, links to folders already included: test/" in folders.notes


def test_many_classes_are_looked_at_in_linear_time(tmp_path, monkeypatch):
    calls = []
    original = class_folders._composed
    monkeypatch.setattr(
        class_folders, "_composed", lambda name: calls.append(name) or original(name)
    )
    make(tmp_path, *(f"c{index}/1.png" for index in range(300)))
    assert len(look(tmp_path).classes) == 300
    assert len(calls) == 600


def test_a_class_of_a_split_may_be_called_train(tmp_path):
    make(tmp_path, "train/train/1.png", "train/bus/2.png", "test/train/3.png", "test/bus/4.png")
    assert set(classes_of(tmp_path)) == {"train", "bus"}
    assert classes_of(tmp_path, "test") == {"bus": ["4.png"], "train": ["3.png"]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/1.png", "test/2.png"), "test/, train/ hold no class folders"),
        (("train/a/1.png", "train/b/1.png", "car/2.png"), "car/ next to it holds images"),
        (("train/a/1.png", "train/b/1.png", "training/a/2.png"), "both look like the train split"),
        (("train/1.png", "test/2.png", "annotations/a.xml"), "hold no class folders"),
        (("01_train/1.png", "02_test/2.png", "03_other/x.txt"), "hold no class folders"),
        (("trainA/1.png", "trainB/1.png", "testA/2.png", "testB/2.png"), "look like splits"),
        (("train_cat/1.png", "train_dog/1.png", "test_cat/2.png"), "look like splits"),
        (("fold1/a/1.png", "fold1/b/1.png", "fold2/a/1.png", "fold2/b/1.png"), "all hold a/, b/"),
        (("cat/train/1.png", "cat/test/2.png", "dog/train/1.png", "dog/test/2.png"), "like splits"),
        (("train/a/1.png", "train/b/1.png", "test/c/2.png"), "class 'c' is not in"),
        (("a/1.png",), "has 1 class folder with images"),
        (("1.png",), "has 0 class folders with images"),
        (("1.png",), "images are of one class, give the folder that contains it"),
        ((), "has 0 class folders with images"),
        (("a\nb/1.png", "c/1.png"), r"class folder 'a b' has a control character"),
    ],
)
def test_what_is_ambiguous_or_incomplete_is_refused(tmp_path, names, message):
    assert message in refused(make(tmp_path, *names))


def test_sidecar_folders_are_never_classes(tmp_path):
    sidecars = (
        "__MACOSX",
        ".ipynb_checkpoints",
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "lost+found",
        ".thumbnails",
    )
    make(tmp_path, "a/1.png", "b/2.png", "a/@eaDir/3.png", "a/.AppleDouble/4.png", "a/._1.png")
    make(tmp_path, *(f"{name}/9.png" for name in sidecars))
    assert sum(map(len, classes_of(tmp_path).values())) == 2
    (note,) = look(tmp_path).notes
    assert note.startswith("skipped, made by programs: #recycle/, $RECYCLE.BIN/")
    assert "and 2 more" in note


def test_what_is_skipped_is_counted_and_named(tmp_path):
    make(tmp_path, "a/1.png", "a/notes.txt", "a/2.cr2", "a/3.cr2", "b/1.png", "empty/", "list.csv")
    assert look(tmp_path).notes == (
        "skipped, no images in it: empty/",
        "skipped, in no class folder: list.csv",
        "skipped, not named as images: 2 .cr2 (2.cr2, ...), 1 .txt (notes.txt)",
    )


@pytest.mark.parametrize(
    "suffix", ["jpe", "JFIF", "pnm", "jp2", "avif", "heic", "HEIF", "tiff", "dib"]
)
def test_every_ending_of_a_readable_format_counts(tmp_path, suffix):
    make(tmp_path, f"a/1.{suffix}", f"b/2.{suffix}")
    assert set(classes_of(tmp_path)) == {"a", "b"}


def test_an_archive_of_one_folder_is_entered(tmp_path):
    make(tmp_path, "photos/photos/a/1.png", "photos/photos/b/1.png", "__MACOSX/photos/a/1.png")
    assert set(classes_of(tmp_path)) == {"a", "b"}


def test_classes_of_the_test_split_may_have_other_capitals_or_unicode_forms(tmp_path):
    make(
        tmp_path,
        "train/cat/1.png",
        "train/caf\u00e9/1.png",
        "test/CAT/2.png",
        "test/cafe\u0301/3.png",
    )
    assert classes_of(tmp_path, "test") == {"cat": ["2.png"], "caf\u00e9": ["3.png"]}


def test_letters_in_both_cases_are_classes_of_their_own(tmp_path):
    make(tmp_path, "train/a/1.png", "train/A/2.png", "test/A/3.png", "test/a/4.png")
    assert classes_of(tmp_path, "test") == {"A": ["3.png"], "a": ["4.png"]}


@pytest.mark.parametrize(
    "name",
    [
        "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627",  # Persian, with a zero-width non-joiner
        "soft\u00adhyphen",
        "\U0001f469\u200d\U0001f52c",  # an emoji of two, joined
        "\u5168\u89d2\u3000\u7a7a\u767d",  # a wide space
        "no\u00a0break",
    ],
)
def test_names_of_any_script_are_classes(tmp_path, name):
    make(tmp_path, f"{name}/1.png", "b/2.png")
    assert name in look(tmp_path).classes


def test_names_that_are_not_utf8_are_classes(tmp_path):
    make(tmp_path, "b/2.png")
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    Path(os.fsdecode(folder), "1.png").write_bytes(PNG)
    assert look(tmp_path).classes == ("b", "caf\\xe9")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 30, 200])
def test_the_hold_out_leaves_both_splits_an_image_of_each_class(tmp_path, count):
    make(tmp_path, *(f"{name}/{index}.png" for name in ("a", "b", "c") for index in range(count)))
    train, test = classes_of(tmp_path), classes_of(tmp_path, "test")
    for name in ("a", "b", "c"):
        held = test.get(name, [])
        assert sorted([*train[name], *held]) == sorted(f"{index}.png" for index in range(count))
        assert len(held) == 0 if count == 1 else 1 <= len(held) <= max(count / 3, 1)


def test_new_images_move_none_of_the_others(tmp_path):
    make(tmp_path, *(f"a/{index}.png" for index in range(50)), "b/1.png")
    before = set(classes_of(tmp_path, "test")["a"])
    make(tmp_path, *(f"a/new{index}.png" for index in range(50)))
    assert {name for name in classes_of(tmp_path, "test")["a"] if "new" not in name} == before


def test_an_unreadable_folder_is_named(tmp_path):
    message = refused(tmp_path / "none")
    assert message == f"no such file: {tmp_path / 'none'}"


def test_images_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_a, **_k: pytest.fail("opened"))
    look(make(tmp_path, "a/1.png", "b/1.png"))


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target, target_is_directory=True)


@pytest.mark.parametrize("target", [".", "..", "../photos", "a", "b/deep", "deep/..", "/"])
def test_a_link_to_a_folder_around_it_or_next_to_it_is_no_class(tmp_path, target):
    root = make(tmp_path / "photos", "a/1.png", "b/2.png", "b/deep/3.png")
    link(root / "all", "b/deep/../.." if target == "deep/.." else target)
    folders = look(root)
    assert folders.classes == ("a", "b")
    assert "skipped, links to folders already included: all/" in folders.notes


def test_an_absolute_link_to_the_folder_is_no_class(tmp_path):
    make(tmp_path, "a/1.png", "b/2.png")
    link(tmp_path / "all", tmp_path)
    link(tmp_path / "c", tmp_path / "all")
    assert look(tmp_path).classes == ("a", "b")
    assert "skipped, links to folders already included: all/, c/" in look(tmp_path).notes


def test_links_to_folders_elsewhere_are_classes_once(tmp_path):
    make(
        tmp_path, "other/cats/1.png", "other/dogs/2.png", "other/dogs/old/3.png", "data/bird/4.png"
    )
    data = make(tmp_path / "data", ".store/fox/1.png")
    link(data / "cat", "../other/cats")
    link(data / "dog", "../other/dogs")
    link(data / "fox", ".store/fox")
    link(data / "hound", "../other/dogs")
    link(data / "old", "../other/dogs/old")
    folders = look(data)
    assert folders.classes == ("bird", "cat", "dog", "fox")
    assert "skipped, links to folders already included: hound/, old/" in folders.notes


def test_links_of_splits_are_followed_and_cycles_in_them_named(tmp_path):
    make(tmp_path, "store/a/1.png", "store/b/2.png", "data/test/a/3.png", "data/test/b/4.png")
    link(tmp_path / "data" / "train", "../store")
    link(tmp_path / "store" / "all", ".")
    link(tmp_path / "data" / "test" / "up", "../..")
    link(tmp_path / "data" / "val", "test")
    folders = look(tmp_path / "data")
    assert folders.layout == "train = train/, test = test/"
    assert folders.classes == ("a", "b")
    for names in ("val/", "train/all/", "test/up/"):
        assert f"skipped, links to folders already included: {names}" in folders.notes


def test_a_link_to_itself_beside_a_single_folder_does_no_harm(tmp_path):
    make(tmp_path, "photos/a/1.png", "photos/b/2.png")
    link(tmp_path / "all", ".")
    assert look(tmp_path).classes == ("a", "b")
    link(tmp_path / "lonely" / "all", ".")
    assert "has 0 class folders" in refused(tmp_path / "lonely")


def test_links_that_lead_nowhere_are_named(tmp_path):
    make(tmp_path, "a/1.png", "b/2.png")
    for name in ("cat", "dog"):
        link(tmp_path / name, "gone")
    link(tmp_path / "x", "x")
    assert look(tmp_path).notes == ("skipped, links that lead nowhere: cat, dog, x",)
    make(tmp_path / "split", "train/a/1.png", "train/b/1.png")
    link(tmp_path / "split" / "train" / "c", "gone")
    assert look(tmp_path / "split").notes == ("skipped, links that lead nowhere: train/c",)


def test_links_inside_classes_are_counted_and_named(tmp_path):
    make(tmp_path, "a/1.png", "b/2.png", "more/3.png")
    for name in ("a/deep/more", "a/more", "b/more"):
        link(tmp_path / name, tmp_path / "more")
    link(tmp_path / "b" / "up", "..")
    link(tmp_path / "b" / "gone", "nowhere")
    notes = look(tmp_path).notes
    assert "skipped, links to folders: 4 (a/deep/more, ...)" in notes
    assert "skipped, links that lead nowhere: 1 (b/gone)" in notes
    assert sum(len(paths) for paths, _ in look(tmp_path).images.values()) == 3


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (
            ("cat/2019/1.png", "cat/2020/2.png", "dog/3.png"),
            "images in folders inside a class are of that class: 2 (cat/2019/, cat/2020/)",
        ),
        (
            ("cat/2019/1.png", "cat/2020/2.png", "dog/2019/3.png", "dog/2020/4.png"),
            "images in folders inside a class are of that class: 4 (cat/2019/, cat/2020/, "
            "dog/2019/, dog/2020/)",
        ),
        (
            ("train/cat/in/doors/1.png", "train/cat/out/2.png", "train/dog/3.png"),
            "images in folders inside a class are of that class: 2 (cat/in/doors/, cat/out/)",
        ),
    ],
)
def test_images_in_folders_inside_a_class_are_of_that_class(tmp_path, names, note):
    folders = look(make(tmp_path, *names))
    assert folders.classes == ("cat", "dog")
    assert note in folders.notes


@pytest.mark.parametrize(
    "names",
    [
        ("cat/2019/1.png", "cat/2020/2.png"),
        ("cat/2019-01/1.png", "cat/2019-02/2.png", "cat/20200101/2.png"),
        ("cat/in/1.png", "cat/out/2.png", "cat/3.png"),
        ("train/cat/in/1.png", "train/cat/out/2.png"),
    ],
)
def test_folders_inside_a_single_class_are_not_classes(tmp_path, names):
    assert "has 1 class folder with images" in refused(make(tmp_path, *names))


def test_the_only_folder_that_is_entered_is_named(tmp_path):
    make(tmp_path, "photos/pets/in/1.png", "photos/pets/out/2.png")
    note = "the only folder is photos/pets/, so the folders in it are taken"
    assert note in look(tmp_path).notes
    make(tmp_path / "split", "train/train/a/1.png", "train/train/b/1.png")
    note = "the only folder is train/train/, so the folders in it are taken"
    assert note in look(tmp_path / "split").notes


def test_files_next_to_the_classes_of_a_split_are_named(tmp_path):
    make(tmp_path, "train/a/1.png", "train/b/1.png", "train/2.png", "read.me")
    assert "skipped, in no class folder: read.me, train/2.png" in look(tmp_path).notes


def test_a_refusal_says_what_was_skipped(tmp_path):
    make(tmp_path, "a/1.png", "b/1.raw", *(f"empty{index}/" for index in range(9)))
    link(tmp_path / "c", "gone")
    message = refused(tmp_path)
    assert "has 1 class folder with images" in message
    assert "skipped, links that lead nowhere: c" in message
    assert "skipped, no images in it: b/, empty0/, empty1/, empty2/, empty3/ and 5 more" in message
    assert "1 .raw (1.raw)" in message
