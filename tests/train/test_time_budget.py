"""`bwn train --time`: the epochs that fit, and a run that is like any other of as many."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.train import Architecture, Settings, measure, read_checkpoint
from bwn.train.architectures import build_seeded
from bwn.train.time_budget import plan_epochs
from bwn.train.trainer import Trainer


def run(*args):
    return CliRunner().invoke(bwn, [str(arg) for arg in args])


class Clock:
    """A clock that each step moves by 0.5 s, and each evaluation by 4 s for 1,000 images."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        step = Trainer._train_on

        def slow_step(trainer, index):
            self.now += 0.5 if trainer.step >= 3 else 20.0
            step(trainer, index)

        def slow_accuracy(_module, data, _preprocess):
            self.now += 0.004 * len(data.labels)
            return 0.5

        monkeypatch.setattr(Trainer, "_train_on", slow_step)
        monkeypatch.setattr("bwn.train.time_budget.accuracy", slow_accuracy)
        monkeypatch.setattr("bwn.train.trainer.accuracy", slow_accuracy)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("validation", "batch", "seconds", "epochs"),
    [
        # Steps of 0.5 s: 60 for warming up, 5 measured, 0.1 for validation; 9 x 0.5 + 0.12 each.
        (0.25, 10, 600, (0.95 * 600 - 62.5 - 0.12) // 4.62),
        (0, 10, 600, (0.95 * 600 - 62.5) // 6),
        (0, 120, 600, (0.95 * 600 - 62.5) // 0.5),
        (0, 10, 30, 1),
        # Measured for 30 s: 60 and 1 step to notice that this is over, not fewer than 5.
        (0, 10, 7200, (0.95 * 7200 - 62.5) // 6),
    ],
)
def test_the_epochs_are_those_that_fit(validation, batch, seconds, epochs, monkeypatch, shapes_set):
    data = shapes_set(120)
    network = Architecture(name="mlp", input_shape=(1, 8, 8), classes=3, width=8)
    settings = Settings(batch_size=batch, validation=validation)
    Clock(monkeypatch)
    plan = plan_epochs(seconds, build_seeded(network, 0), data, measure(data), settings)
    assert plan.epochs == epochs


SMALL = ("--data", "mnist-sample", "--width", 8, "--batch-size", 500, "--threads", 1)


def test_a_run_with_a_time_is_one_with_its_number_of_epochs(tmp_path):
    start = time.monotonic()
    result = run("train", *SMALL, "--time", "2s", "-o", tmp_path / "a.pt")
    assert time.monotonic() - start < 60
    assert result.exit_code == 0, result.output
    words = re.match(
        r"(\d+) epochs? of about [\d.e-]+ s: the same as --epochs (\d+)\n", result.output
    )
    assert words
    assert words[1] == words[2]
    first = read_checkpoint(tmp_path / "a.pt")
    assert first.description.settings.epochs == int(words[1]) >= 1
    assert run("train", *SMALL, "--epochs", words[1], "-o", tmp_path / "b.pt").exit_code == 0
    second = read_checkpoint(tmp_path / "b.pt")
    assert first.description == second.description
    for name, tensor in first.module.state_dict().items():
        assert np.array_equal(tensor, second.module.state_dict()[name]), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--time", "30"), "'30' is not a time such as 30m, 1h30m or 90s."),
        (("--time", ""), "is not a time"),
        (("--time", "0m"), "is not a time"),
        (("--time", "1m", "--epochs", 2), "--time and --epochs both say how long to train"),
        (("--time", "1m", "--resume", "m.pt"), "leave out the option --time"),
    ],
)
def test_what_is_refused(options, words):
    result = run("train", "--data", "mnist-sample", *options)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("90s", 90)])
def test_times(text, seconds):
    from bwn.cli.params import Duration

    assert Duration().convert(text, None, None) == seconds
