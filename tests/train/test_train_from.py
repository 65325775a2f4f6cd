"""`bwn train --from`: what it prints, inherits and refuses."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bwn.cli.main import bwn
from bwn.data.datasets import load_dataset
from bwn.train import Settings, read_checkpoint
from bwn.train.run import start


def run(*args):
    return CliRunner().invoke(bwn, [str(arg) for arg in args])


def pictures(folder, levels):
    """A folder of class folders: 12 x 10 pixels in color, noise around a class's gray level."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for name, level in levels.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = (level + rng.integers(0, 60, (12, 10, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def photos(tmp_path):
    return pictures(tmp_path / "photos", {"dark": 0, "bright": 180})


FAST = ("--batch-size", 10, "--epochs", 2, "--lr", 0.01, "--threads", 1)


@pytest.fixture
def old(photos, tmp_path):
    """A trained float checkpoint, of a width and a size that are not the defaults."""
    path = tmp_path / "old.pt"
    options = (*FAST, "--epochs", 20, "--scheme", "float", "--width", 24, "--size", "8x6")
    result = run("train", "--data", photos, "-o", path, *options)
    assert result.exit_code == 0, result.output
    return path


def test_network_and_size_are_the_checkpoints_and_the_first_epoch_is_good(old, photos, tmp_path):
    new = tmp_path / "new.pt"
    result = run(
        "train", "--data", photos, "--from", old, "-o", new, *FAST, "--epochs", 1, "--lr", 0.001
    )
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[:2]
    assert first == f"Starting from {old}, scheme float"
    assert second == (
        "mlp, scheme margin, relu activations; 48 training images of 3 x 8 x 6 "
        "(44 to train on, 4 held out), 2 classes"
    )
    description = read_checkpoint(new).description
    assert (description.architecture.width, description.architecture.scheme) == (24, "margin")
    assert description.begun_from == str(old)
    assert description.test_accuracy > 0.8


def test_before_the_first_step_batch_norms_know_the_scale_of_the_signs(old, photos, tmp_path):
    origin, settings = read_checkpoint(old), Settings(batch_size=10)
    network = msgspec.structs.replace(origin.description.architecture, scheme="margin")
    new = start(
        load_dataset(photos, size=(8, 6)),
        network,
        settings,
        tmp_path / "new.pt",
        source=str(photos),
        origin=origin,
    )
    before, after = (module[2].running_var.mean() for module in (origin.module, new.trainer.module))
    assert float(after) > 50 * float(before), "weights of about 0.06 became 1"


def test_other_classes_are_reported_and_learned(old, tmp_path):
    data = pictures(tmp_path / "three", {"a": 0, "b": 90, "c": 190})
    new = tmp_path / "new.pt"
    result = run("train", "--data", data, "--from", old, "-o", new, *FAST, "--epochs", 4, "--json")
    assert result.exit_code == 0, result.output
    assert (
        f"Starting from {old}, scheme float; the last layer starts fresh, for 3 other classes\n"
        in result.stderr
    )
    assert result.stderr.startswith(f"{data}: 3 classes, 72 training and 24 test images")
    assert read_checkpoint(new).description.classes == ("a", "b", "c")
    assert read_checkpoint(new).description.test_accuracy > 0.6


def test_a_gray_network_reads_color_images_as_gray(photos, tmp_path):
    gray, new = tmp_path / "gray.pt", tmp_path / "new.pt"
    small = ("--width", 4, "--model", "mlp", *FAST, "--epochs", 1)
    assert (
        run("train", "--data", "mnist-sample", "-o", gray, *small, "--batch-size", 500).exit_code
        == 0
    )
    result = run("train", "--data", photos, "--from", gray, "-o", new, *FAST)
    assert result.exit_code == 0, result.output
    assert "training images of 1 x 28 x 28 (" in result.stdout


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (
            ("--width", 8),
            3,
            "Error: {old}: its weights do not fit: the width is 24 there, 8 here\n",
        ),
        (
            ("--size", "8x8"),
            3,
            "Error: {old}: its weights do not fit: images are 3 x 8 x 6 there, 3 x 8 x 8 here\n",
        ),
        (
            ("--model", "lenet", "--width", 24),
            3,
            "Error: {old}: its weights do not fit: the network is mlp there, lenet here\n",
        ),
        (("--resume", "none.pt"), 2, "leave out the option --from"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(old, photos, tmp_path, args, code, words):
    data = () if "--resume" in args else ("--data", photos)
    result = run("train", *data, "--from", old, "-o", tmp_path / "new.pt", *args)
    assert result.exit_code == code, result.output
    assert words.format(old=old) in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "new.pt").exists()


def test_a_checkpoint_that_is_not_there_is_refused(photos, tmp_path):
    result = run(
        "train", "--data", photos, "--from", tmp_path / "none.pt", "-o", tmp_path / "new.pt"
    )
    assert result.exit_code == 3
    assert result.stderr == f"Error: no such file: {tmp_path / 'none.pt'}\n"
