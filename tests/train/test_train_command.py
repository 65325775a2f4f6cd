"""`bwn train` and `bwn export`: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bwn.cli.main import bwn
from bwn.cli.train_report import bar, row, text
from bwn.train import Progress, read_checkpoint
from bwn.train.losses import LOSSES, squared_hinge


def run(*args):
    return CliRunner().invoke(bwn, [str(arg) for arg in args])


@pytest.fixture
def photos(tmp_path):
    """A folder of class folders: bright and dark noise, 12 x 10 pixels in color."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 10)):
        for name, level in (("dark", 0), ("bright", 150)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = level + rng.integers(0, 100, (12, 10, 3), np.uint8)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "photos"


SMALL = ("--model", "mlp", "--width", 32, "--batch-size", 10, "--lr", 0.01, "--threads", 1)


def test_photos_train_and_export(photos, tmp_path):
    model = tmp_path / "m.pt"
    result = run("train", "--data", photos, "-o", model, *SMALL, "--epochs", 4)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "mlp, scheme margin, relu activations; 80 training images "
        "of 3 x 12 x 10 (72 to train on, 8 held out), 2 classes"
    )
    header = "    epoch    loss  accuracy: training  held-out  distance to +-1  images/s     left"
    assert lines.pop(1) == header
    assert all(len(line) == len(header) for line in lines[1:5])
    assert [line.split()[0] for line in lines[1:5]] == [f"{n}/4" for n in (1, 2, 3, 4)]
    assert re.fullmatch(r" +4/4 +[\d.]+ +[\d.]+% +[\d.]+% +0\.\d{3} +[\d,]+ +0:00", lines[4]), (
        lines[4]
    )
    assert lines[5].startswith("Accuracy ")
    assert lines[5].endswith(
        "on 20 test images (95% interval 83.9% to 100.0%), with the weights to be packed."
    )
    best = read_checkpoint(tmp_path / "m.best.pt").description
    assert lines[6].startswith(f"Best epoch {best.best.epoch}: {best.test_accuracy:.2%} (error ")
    assert lines[6].endswith(f", held-out {best.best.accuracy:.2%}, in {tmp_path / 'm.best.pt'}")
    assert lines[-1].endswith(f"Next: bwn pack {model} -o {tmp_path / 'm.bwn'}")
    checkpoint = read_checkpoint(model)
    assert checkpoint.description.finished
    assert checkpoint.description.classes == ("bright", "dark")
    assert checkpoint.description.test_accuracy > 0.9

    result = run("export", model)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Wrote {tmp_path / 'm.onnx'}, ")
    result = run("export", model, "-o", tmp_path / "n.onnx", "--json")
    assert json.loads(result.stdout)["bytes"] == (tmp_path / "n.onnx").stat().st_size
    result = run("export", model, "-o", tmp_path / "q.onnx", "--qonnx")
    assert result.exit_code == 0, result.output
    assert b"BipolarQuant" in (tmp_path / "q.onnx").read_bytes()


def test_json_lines(photos, tmp_path):
    options = (
        "--scheme",
        "float",
        "--size",
        "8x6",
        "--epochs",
        2,
        "--json",
        "--validation",
        0,
        "--loss",
        "cross-entropy",
    )
    result = run("train", "--data", photos, "-o", tmp_path / "m.pt", *SMALL, *options)
    assert result.exit_code == 0, result.output
    first, second, end = [json.loads(line) for line in result.stdout.splitlines()]
    assert (first["event"], first["epoch"], second["epoch"]) == ("epoch", 1, 2)
    assert first["validation"] is None
    assert first["distance"] is None, "a float network has no margin"
    assert end["event"] == "finished"
    assert 0.5 < end["test_accuracy"] <= 1
    assert np.array(end["confusion"]).sum(1).tolist() == [10, 10], "a row for each right class"
    assert np.trace(end["confusion"]) == round(20 * end["test_accuracy"])
    assert end["best"] is None, "nothing was held out"
    assert not (tmp_path / "m.best.pt").exists()
    assert read_checkpoint(tmp_path / "m.pt").description.architecture.input_shape == (3, 8, 6)


def test_without_test_images_the_reason_is_printed(photos, tmp_path):
    os.rename(photos / "test", tmp_path / "elsewhere")
    result = run("train", "--data", photos, "-o", tmp_path / "m.pt", *SMALL, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert f"Note: no accuracy measured: {photos} has no test images\n" in result.stdout


def test_a_stopped_run_prints_its_command_quoted():
    run = SimpleNamespace(checkpointer=SimpleNamespace(output="my m.pt"))
    assert text(SimpleNamespace(finished=False), run) == (
        "Stopped; my m.pt is a checkpoint. To resume: bwn train --resume 'my m.pt'"
    )


def test_a_finished_run_resumes_to_itself_and_refuses_other_images(photos, tmp_path):
    model = tmp_path / "my m.pt"
    run("train", "--data", photos, "-o", model, *SMALL, "--epochs", 1)
    before = model.read_bytes()
    result = run("train", "--resume", model)
    assert result.exit_code == 0, result.output
    assert "This run is already complete: there was nothing left to train." in result.stdout
    assert "Accuracy " in result.stdout
    assert "Wrote " not in result.stdout
    packed = tmp_path / "my m.bwn"
    assert result.stdout.splitlines()[-1] == f"Next: bwn pack '{model}' -o '{packed}'"
    assert model.read_bytes() == before
    result = run("train", "--resume", model, "--json")
    assert json.loads(result.stdout)["already_complete"]
    os.remove(photos / "train" / "dark" / "0.png")
    result = run("train", "--resume", model)
    assert result.exit_code == 3
    assert f"{model} was trained on other images than those now in {photos}\n" in result.stderr


def test_ctrl_c_leaves_a_checkpoint_that_resumes_to_the_same_network(photos, tmp_path):
    options = [
        str(o)
        for o in ("--data", photos, *SMALL, "--epochs", 60, "--scheme", "stochastic", "--json")
    ]
    command = [sys.executable, "-m", "bwn.cli", "train", *options, "-o", str(tmp_path / "cut.pt")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    seen = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0].splitlines()
    assert json.loads(seen)["epoch"] == 1
    assert process.returncode == 130
    assert json.loads(rest[-1])["event"] == "stopped"
    assert 0 < read_checkpoint(tmp_path / "cut.pt").training["step"] < 60 * 7
    result = run(
        "train", "--resume", tmp_path / "cut.pt", "-o", tmp_path / "resumed.pt", "--threads", 1
    )
    assert result.exit_code == 0, result.output
    run("train", *options, "-o", tmp_path / "whole.pt")
    resumed, whole = (read_checkpoint(tmp_path / f"{name}.pt") for name in ("resumed", "whole"))
    expected = whole.module.state_dict()
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in resumed.module.state_dict().items()
    )
    assert resumed.description == whole.description


def test_ctrl_c_while_testing_keeps_the_training(photos, tmp_path, monkeypatch):
    def stopped(*_args):
        raise KeyboardInterrupt

    model = tmp_path / "m.pt"
    with monkeypatch.context() as patch:
        patch.setattr("bwn.train.run.predictions", stopped)
        assert run("train", "--data", photos, "-o", model, *SMALL, "--epochs", 2).exit_code == 130
    result = run("train", "--resume", model)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "mlp,",
        "Accuracy",
        "Best",
        "Wrote",
    ]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "Missing option '--data' (or '--resume'). To try: --data mnist-sample"),
        (("my photos",), 2, "unexpected argument: my photos. Did you mean --data 'my photos'?"),
        (("--data", "a", "b"), 2, "Got an unexpected argument: b\n"),
        (("--data", "nowhere"), 3, "no such folder: nowhere"),
        (("--data", "mnist-sample", "--scheme", "ternary"), 2, "'ternary' is not one of"),
        (
            ("--data", "mnist-sample", "--size", "big"),
            2,
            "'big' is not a size such as 32 or 224x320",
        ),
        (
            ("--data", "mnist-sample", "--size", "4", "--model", "vgg"),
            2,
            "vgg needs images of at least 8 x 8 pixels",
        ),
        (
            ("--data", "mnist-sample", "--lr", "0"),
            2,
            "Invalid value for '--lr': 0.0 is not in the range above 0, at most 1,000,000.",
        ),
        (("--data", "mnist-sample", "--lambda", "-1"), 2, "Invalid value for '--lambda'"),
        (("--data", "mnist-sample", "--validation", "1"), 2, "Invalid value for '--validation'"),
        (
            ("--data", "mnist-sample", "--scheme", "float", "--penalty", "margin"),
            2,
            "scheme 'float' does not use",
        ),
        *(
            (("--data", "mnist-sample", "--scheme", scheme, option, value), 2, words)
            for scheme, option, value, words in (
                (
                    "scaled",
                    "--lambda",
                    "3",
                    "lambda has no effect without a penalty: leave it out, or choose",
                ),
                (
                    "float",
                    "--ramp",
                    "3",
                    "ramp has no effect without a penalty: scheme 'float' has none",
                ),
                ("margin", "--weight-decay", "0.1", "weight decay is for scheme 'float'"),
                ("float", "--float-ends", "--json", "its ends cannot be chosen"),
                ("margin", "--final-lr", "0.5", "final learning rate, 0.5, is above the first, 0."),
            )
        ),
        (("--data", "mnist-sample", "--patience", "0"), 2, "Invalid value for '--patience'"),
        (
            ("--data", "mnist-sample", "--patience", "2", "--validation", "0"),
            2,
            "patience needs held-out images, and a validation fraction of 0 holds out none",
        ),
        (
            ("--data", "mnist-sample", "--class-weights", "much"),
            2,
            "'much' is not none or balanced, nor a list of",
        ),
        (("--data", "mnist-sample", "--class-weights", "1,0"), 2, "a list of numbers above 0"),
        (
            ("--data", "mnist-sample", "--class-weights", "1,2"),
            2,
            "2 class weights for 10 classes: 0, 1, 2, ",
        ),
        (("--resume", "none.pt"), 3, "no such file: none.pt"),
        (
            ("--resume", "none.pt", "--epochs", "3"),
            2,
            "--resume continues with the settings of its run; leave out the option --epochs",
        ),
    ],
)
def test_wrong_usage_is_one_line(args, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("train", *args)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_refused_before_training(photos, tmp_path):
    began = time.monotonic()
    for output in (tmp_path / "no" / "m.pt", photos):
        result = run("train", "--data", photos, "-o", output, *SMALL, "--epochs", 100_000)
        assert result.exit_code == 3
        assert "cannot be written" in result.stderr
        assert result.stdout == ""
    assert time.monotonic() - began < 20


def test_export_does_not_replace_its_checkpoint(photos, tmp_path):
    model, link = tmp_path / "m.pt", tmp_path / "link.onnx"
    run("train", "--data", photos, "-o", model, *SMALL, "--epochs", 1)
    link.symlink_to(model)
    before = model.read_bytes()
    result = run("export", model, "-o", model)
    assert result.exit_code == 2
    assert result.stderr.endswith(
        f"{model}: an ONNX model cannot be named .pt, which is for checkpoints; "
        f"use -o {tmp_path / 'm.onnx'}\n"
    )
    result = run("export", model, "-o", link)
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"Error: {link}: source and output are the same file; name another output\n"
    )
    assert model.read_bytes() == before


def test_export_refuses_what_is_no_checkpoint(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04 not really")
    result = run("export", tmp_path / "m.pt")
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["model.pt", "model.best.pt"])
def test_the_default_name_is_never_written_over(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"hours of work")
    result = run("train", "--data", "mnist-sample", *SMALL)
    assert result.exit_code == 2
    assert f"{name} exists: --resume model.pt continues" in result.output
    assert (tmp_path / name).read_bytes() == b"hours of work"


def test_class_weights_are_a_word_a_list_or_a_file(photos, tmp_path):
    (tmp_path / "weights.txt").write_text("1\n2.5\n")
    wanted = (
        ("balanced", "balanced"),
        ("none", "none"),
        ("1, 2.5", (1.0, 2.5)),
        (tmp_path / "weights.txt", (1, 2.5)),
    )
    for choice, stored in wanted:
        model = tmp_path / "m.pt"
        result = run(
            "train", "--data", photos, "-o", model, *SMALL, "--epochs", 1, "--class-weights", choice
        )
        assert result.exit_code == 0, result.output
        assert read_checkpoint(model).description.settings.class_weights == stored


def test_the_best_epoch_is_packed_and_exported_but_not_resumed(photos, tmp_path):
    assert (
        run("train", "--data", photos, "-o", tmp_path / "m.pt", *SMALL, "--epochs", 2).exit_code
        == 0
    )
    best = tmp_path / "m.best.pt"
    for command in ("pack", "export"):
        result = run(command, best)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "m.best.bwn").exists()
    assert (tmp_path / "m.best.onnx").exists()
    result = run("train", "--resume", best)
    assert result.exit_code == 3
    assert "holds the weights of the best epoch, not the state of the training" in result.stderr


def test_a_loss_that_is_no_number_ends_in_one_line(photos, tmp_path, monkeypatch):
    model = tmp_path / "m.pt"
    monkeypatch.setattr("bwn.train.checkpointing.SAVE_SECONDS", 0)
    steps = []

    def poisoned(scores, labels, weights, smoothing):
        steps.append(len(labels))
        return squared_hinge(scores, labels, weights) * (float("nan") if len(steps) > 2 * 7 else 1)

    monkeypatch.setitem(LOSSES, "hinge", poisoned)
    result = run(
        "train", "--data", photos, "-o", model, *SMALL, "--epochs", 4, "--precision", "float32"
    )
    assert result.exit_code == 1
    expected = "the loss became NaN or infinite in epoch 3; restart with a lower learning rate; "
    assert f"\nError: {expected}" in result.stderr
    assert f"; {model} holds the state of step " in result.stderr
    assert result.stderr.count("\n") == 3, "two lines on the data, one on the error"
    assert read_checkpoint(model).training["step"] in (7, 14)


def test_a_run_in_bfloat16_that_diverges_is_advised_float32(photos, tmp_path, monkeypatch):
    def nan(scores, _labels, _weights, _smoothing):
        return scores.sum() * float("nan")

    monkeypatch.setitem(LOSSES, "hinge", nan)
    options = ("--data", photos, "-o", tmp_path / "m.pt", *SMALL, "--precision", "bfloat16")
    result = run("train", *options)
    assert result.exit_code == 1
    assert "restart with a lower learning rate or with precision float32; " in result.stderr
    assert result.stderr.endswith("; no checkpoint has been saved\n")


def test_patience_ends_the_run_and_says_so(photos, tmp_path):
    model = tmp_path / "m.pt"
    result = run("train", "--data", photos, "-o", model, *SMALL, "--epochs", 90, "--patience", 2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    epochs = sum("/90 " in line for line in lines)
    assert epochs < 90
    expected = (
        f"Stopped early, after epoch {epochs} of 90: held-out accuracy had not risen for 2 epochs."
    )
    assert lines[epochs + 2] == expected
    assert read_checkpoint(model).description.finished
    again = run("train", "--resume", model)
    assert again.exit_code == 0, again.output
    assert expected in again.stdout


def test_a_checkpoint_is_not_named_like_a_packed_model(photos, tmp_path):
    result = run("train", "--data", photos, "-o", tmp_path / "x.bwn", *SMALL, "--epochs", 1)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(
        f"{tmp_path / 'x.bwn'}: a checkpoint cannot be named .bwn, which is for packed models; "
        f"use -o {tmp_path / 'x.pt'}\n"
    )


def test_the_data_are_checked_before_the_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").touch()
    result = run("train", "--data", "nope")
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: no such folder: nope")


def test_a_folder_that_is_missing_is_named_as_bwn_pack_names_it(photos, tmp_path):
    output = tmp_path / "none" / "x.pt"
    result = run("train", "--data", photos, "-o", output, *SMALL, "--epochs", 1)
    assert result.exit_code == 3
    assert result.stderr.endswith(f"Error: {output}: cannot be written: no such folder\n")


def test_a_long_run_prints_some_epochs_and_replaces_a_file(photos, tmp_path):
    model = tmp_path / "m.pt"
    model.touch()
    command = ("train", "--data", photos, "-o", model, "--width", 4, "--size", 4, "--threads", 1)
    result = run(*command, "--epochs", 130)
    assert result.exit_code == 0, result.output
    assert f"\nReplacing {model}\n" in result.stderr
    epochs = [int(line.partition("/")[0]) for line in result.stdout.splitlines() if "/130 " in line]
    assert epochs == [1, *range(3, 130, 3), 130]
    result = run(*command, "--epochs", 70, "--json")
    assert result.stdout.count('"event": "epoch"') == 70


def test_a_long_run_that_ends_early_prints_its_last_epoch(photos, tmp_path):
    options = ("--width", 4, "--size", 4, "--epochs", 300, "--patience", 1, "--threads", 1)
    result = run("train", "--data", photos, "-o", tmp_path / "m.pt", *options)
    assert result.exit_code == 0, result.output
    last = read_checkpoint(tmp_path / "m.pt").training["step"] // 7
    assert f" {last}/300 " in result.stdout
    assert result.stdout.count("held-out  distance to +-1  images/s") == 1


def test_ctrl_c_before_the_first_step_says_that_nothing_was_written(photos, tmp_path, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bwn.tools.train.load_dataset", interrupted)
    result = run("train", "--data", photos, "-o", tmp_path / "m.pt")
    assert result.exit_code == 130
    assert result.stderr.endswith("Interrupted; nothing was written.\n")
    assert not (tmp_path / "m.pt").exists()


def test_packing_an_interrupted_run_says_so(photos, tmp_path, monkeypatch):
    model = tmp_path / "m.pt"
    monkeypatch.setattr("bwn.train.run.stop_requested", lambda: nullcontext(lambda: True))
    result = run("train", "--data", photos, "-o", model, *SMALL, "--epochs", 2)
    assert result.exit_code == 130, result.output
    result = run("pack", model)
    assert result.exit_code == 0, result.output
    assert (
        "note: the training run was interrupted, with weights still far from +-1 (0."
        in result.stdout
    )
    assert " on average), so accuracy will suffer\n" in result.stdout
    assert f"To finish the run: bwn train --resume {model}\n" in result.stdout


def test_packing_a_finished_run_does_not_warn_of_its_weights(photos, tmp_path):
    model = tmp_path / "m.pt"
    options = (*SMALL, "--epochs", 1, "--scheme", "deterministic")
    run("train", "--data", photos, "-o", model, *options)
    result = run("pack", model)
    assert result.exit_code == 0, result.output
    assert "interrupted" not in result.stdout


def test_the_progress_bar_shows_how_far_the_run_is():
    progress = Progress(
        epoch=3, epochs=4, step=25, steps=50, epoch_done=False, loss=0.5, accuracy=0.9,
        validation=None, distance=None, learning_rate=1e-3, strength=0.0, seconds=10.0, left=95.0,
        images_per_second=12345.6,
    )  # fmt: skip
    assert bar(progress) == (
        f"epoch 3/4  [{'#' * 12}{'-' * 12}]   50%  loss 0.5000  12,346 images/s  1:35 left"
    )
    assert row(progress) == (
        "      3/4  0.5000              90.00%         -                -    12,346     1:35"
    )


def test_images_a_second_are_those_of_the_session(photos, tmp_path):
    options = ("--data", photos, "-o", tmp_path / "m.pt", *SMALL, "--epochs", 2, "--json")
    result = run("train", *options)
    for line in result.stdout.splitlines()[:2]:
        epoch = json.loads(line)
        expected = epoch["step"] * 10 / epoch["seconds"]
        assert epoch["images_per_second"] == pytest.approx(expected)
