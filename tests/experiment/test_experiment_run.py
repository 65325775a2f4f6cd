"""One run: its record, and that stopping changes nothing in it."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from bwn.data.datasets import load_dataset
from bwn.errors import CheckpointError, FileError
from bwn.experiment.jobs import locked
from bwn.experiment.run_job import perform
from bwn.train import binary_layers, read_checkpoint
from bwn.train.checkpoint import write_checkpoint
from bwn.train.preprocessing import as_input


def quiet(_progress):
    pass


def plain(record):
    """A record without what differs from one session to the next."""
    return msgspec.structs.replace(record, seconds=0.0)


def test_a_record_says_what_the_checkpoint_does(planned, shapes):
    _, (job,) = planned()
    record = perform(job, quiet)
    checkpoint = read_checkpoint(job.checkpoint)
    test = load_dataset(shapes, "test")
    x, labels = (
        as_input(torch.from_numpy(test.images), checkpoint.description.preprocess),
        torch.from_numpy(test.labels),
    )
    with torch.no_grad():
        assert record.test_error == pytest.approx(
            float((checkpoint.module(x).argmax(1) != labels).double().mean())
        )
        for layer in binary_layers(checkpoint.module).values():
            layer.binarized = lambda layer=layer: layer.weight
        real = float((checkpoint.module(x).argmax(1) != labels).double().mean())
    assert record.test_error_real_weights == pytest.approx(real)
    weights = np.concatenate(
        [w.weight.detach().numpy().ravel() for w in binary_layers(checkpoint.module).values()]
    )
    assert record.near == pytest.approx(np.mean(np.abs(weights) >= 0.95))
    assert record.distance == pytest.approx(np.mean(1 - np.abs(weights)), rel=1e-5)
    last = np.array(record.epochs[-1].histogram)
    assert last.sum() == weights.size
    assert last[0] == np.sum(weights < -0.95)
    assert [epoch.epoch for epoch in record.epochs] == [0, 1, 2, 3, 4]
    assert record.validation_error == record.epochs[-1].validation_error
    errors = [epoch.validation_error for epoch in record.epochs[1:]]
    assert record.best_epoch == len(errors) - errors[::-1].index(min(errors)), (
        "of equal ones the last"
    )
    best = read_checkpoint(Path(job.checkpoint).with_suffix(".best.pt"))
    with torch.no_grad():
        assert record.best_test_error == pytest.approx(
            float((best.module(x).argmax(1) != labels).double().mean())
        )
    assert (record.source, record.train_images, record.validation_images, record.test_images) == (
        "shapes",
        81,
        9,
        30,
    )
    assert (record.scheme, record.strength, record.settings["augment"]) == (
        "stochastic",
        None,
        "none",
    )
    assert record.seconds > 0


def test_the_first_histogram_is_of_the_fresh_weights(planned):
    _, (job,) = planned(schemes=("margin",))
    start = np.array(perform(job, quiet).epochs[0].histogram)
    expected = start.sum() / len(start)
    assert np.all(np.abs(start - expected) < 6 * math.sqrt(expected)), "uniform over -1 to +1"


def test_a_float_network_has_no_margin(planned):
    _, (job,) = planned(schemes=("float",))
    record = perform(job, quiet)
    assert (record.distance, record.near, record.epochs[-1].histogram) == (None, None, None)


def test_a_stopped_run_gives_the_record_of_a_whole_one(planned):
    _, (job,) = planned("whole")
    whole = perform(job, quiet)
    _, (job,) = planned("stopped")

    def stop(progress):
        if progress.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    assert perform(job, stop) is None
    assert 0 < read_checkpoint(job.checkpoint).training["step"] < 32
    assert plain(perform(job, quiet)) == plain(whole)
    assert plain(perform(job, quiet)) == plain(whole), "the record was lost, the checkpoint was not"


@pytest.mark.parametrize("saved", [0, 1e9], ids=["after each epoch", "never"])
def test_a_crashed_run_gives_the_record_of_a_whole_one(planned, monkeypatch, saved):
    monkeypatch.setattr("bwn.train.checkpointing.SAVE_SECONDS", saved)
    _, (job,) = planned("whole")
    whole = perform(job, quiet)
    _, (job,) = planned("crashed")

    def crash(progress):
        if progress.epoch_done and progress.epoch == 3:
            raise MemoryError

    with pytest.raises(MemoryError):
        perform(job, crash)
    assert Path(job.checkpoint).exists() == (saved == 0)
    assert plain(perform(job, quiet)) == plain(whole)


def test_a_checkpoint_without_its_epochs_is_refused(planned):
    _, (job,) = planned()
    perform(job, quiet)
    checkpoint = read_checkpoint(job.checkpoint)
    old = {key: value for key, value in checkpoint.training.items() if key != "history"}
    write_checkpoint(job.checkpoint, checkpoint.description, checkpoint.module, old)
    with pytest.raises(CheckpointError, match="lacks some of its epochs; remove it"):
        perform(job, quiet)


def test_a_checkpoint_of_other_settings_is_refused(planned):
    _, (job,) = planned()
    perform(job, quiet)
    other = msgspec.structs.replace(job, settings=msgspec.structs.replace(job.settings, epochs=5))
    with pytest.raises(CheckpointError, match="of other images or settings"):
        perform(other, quiet)


def test_the_plan_keeps_seeds_together_and_sweeps_last(planned):
    basis, jobs = planned(
        schemes=("float", "margin"),
        seeds=(0, 1),
        lambdas=(1e-6, 300, 1e-6),
        weight_decays=(0.5,),
        weight_decay=0.1,
        penalty="double-well",
    )
    assert [job.name for job in jobs] == [
        "float-seed0",
        "margin-seed0",
        "float-seed1",
        "margin-seed1",
        "margin-lambda1e-06-seed0",
        "margin-lambda1e-06-seed1",
        "float-weight-decay0.5-seed0",
        "float-weight-decay0.5-seed1",
    ]
    assert [job.settings.strength for job in jobs[3:6]] == [300, 1e-6, 1e-6]
    assert [job.sweep for job in jobs] == [False] * 4 + [True] * 4
    assert [job.settings.weight_decay for job in jobs] == [0.1, 0, 0.1, 0, 0, 0, 0.5, 0.5], (
        "for float alone"
    )
    assert [job.settings.penalty for job in jobs[:4]] == [None, "double-well"] * 2, (
        "for margin alone"
    )
    assert basis.weight_decay == 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 5}, "was made with --epochs 4, not 5: choose another folder"),
        ({"learning_rate": 0.5}, "was made with --lr 0.01, not 0.5"),
        ({"strength": 0.5}, "was made with --lambda 300.0, not 0.5"),
        ({"weight_decay": 0.5}, "was made with --weight-decay 0.0, not 0.5"),
        ({"patience": 5}, "was made with --patience unset, not 5"),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_one_of_more_runs_is_not(
    planned, tmp_path, change, words
):
    folder = tmp_path / "out"
    with locked(folder, planned()[0]):
        pass
    with locked(folder, planned(schemes=("float", "margin"), seeds=(3, 4), lambdas=(0.1,))[0]):
        pass
    with pytest.raises(FileError, match=words), locked(folder, planned(**change)[0]):
        pass


def test_a_folder_that_cannot_be_made_is_refused(planned, tmp_path):
    (tmp_path / "file").write_text("")
    words = "file/runs: cannot be made: Not a directory"
    with pytest.raises(FileError, match=words), locked(tmp_path / "file", planned()[0]):
        pass


def test_a_folder_of_other_images_and_one_in_use_are_refused(planned, shapes, tmp_path):
    folder = tmp_path / "out"
    with (
        locked(folder, planned()[0]),
        pytest.raises(FileError, match="in use by another `bwn experiment`"),
        locked(folder, planned()[0]),
    ):
        pass
    images = shapes / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + b"\0")
    with pytest.raises(FileError, match="was made with other images"), locked(folder, planned()[0]):
        pass
    (folder / "experiment.json").write_text("{")
    with (
        pytest.raises(FileError, match="cannot be read as an experiment's basis"),
        locked(folder, planned()[0]),
    ):
        pass
