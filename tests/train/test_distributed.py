"""Two processes that share a run end where one process ends. As a script, this is one of them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from bwn.cli.main import bwn
from bwn.data.datasets import Dataset
from bwn.errors import BwnError
from bwn.train import (
    Architecture,
    BinaryConv2d,
    BinaryLinear,
    Settings,
    Trainer,
    measure,
    read_checkpoint,
)
from bwn.train.architectures import build_seeded
from bwn.train.distributed import local_rank, process_group, rank, started

CASES = ("mlp", "int8", "float", "double")


class Own(nn.Module):
    """A user's module: a norm of each kind, draws. No pooling, whose ties rounding would break."""

    def __init__(self, dtype=torch.float32) -> None:
        super().__init__()
        self.first = nn.Sequential(
            BinaryConv2d(1, 4, 3, scheme="stochastic"), nn.BatchNorm2d(4, momentum=None)
        )
        self.last = nn.Sequential(
            BinaryLinear(4 * 36, 3, scheme="scaled"), nn.BatchNorm1d(3, affine=False)
        )
        self.dtype = dtype
        self.to(dtype)

    def forward(self, x):
        return self.last(torch.relu(self.first(x.to(self.dtype))).flatten(1))


def images(count=120):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    pixels = rng.integers(0, 120, (count, 8, 8)) + 60 * labels[:, None, None]
    return Dataset(pixels.astype(np.uint8), labels, ("a", "b", "c"))


def make(case):
    """A trainer of 2 epochs of 3 steps."""
    more = {"epochs": 2, "batch_size": 30, "validation": 0.2, "learning_rate": 0.003}
    if case in ("mlp", "int8"):
        kind = "int8" if case == "int8" else "relu"
        network = Architecture(
            name="mlp", input_shape=(1, 8, 8), classes=3, scheme="margin", width=8, activations=kind
        )
        module = build_seeded(network, 0)
        more |= {"penalty": "margin", "strength": 0.01, "ramp": 1}
    else:
        torch.manual_seed(rank())  # rank 0's weights are to count
        module = Own({"float": torch.float32, "double": torch.float64}[case])
        more |= {"loss": "cross-entropy", "class_weights": "balanced", "augment": "flip"}
    return Trainer(module, images(), measure(images()), Settings(**more))


def outcome(trainer, stop=None):
    """Train, and return all that can be compared."""
    reports = []
    trainer.run(reports.append, stop)
    epochs = [dataclasses.asdict(report) for report in reports if report.epoch_done]
    return {"reports": epochs, "weights": trainer.module.state_dict(), "state": trainer.state()}


def process(folder):
    """What each of the two does: all cases, a run that rank 1 alone stops, one that resumes."""
    torch.set_num_threads(1)
    with process_group():
        outcomes = {case: outcome(make(case)) for case in CASES}
        trainer = make("double")
        outcomes["stopped"] = outcome(trainer, lambda: rank() == 1 and trainer.step == 4)
        trainer = make("double")
        trainer.module.load_state_dict(torch.load(folder / "one.pt")["weights"])
        trainer.restore(torch.load(folder / "one.pt")["state"])
        outcomes["resumed"] = outcome(trainer)
        try:
            Trainer(Own(), images(), measure(images()), Settings(batch_size=25))
        except Exception as error:  # whatever it is, the test shows it
            outcomes["odd batch"] = f"{type(error).__name__}: {error}"
    outcomes["threads"] = [
        path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")
    ]
    torch.save(outcomes, folder / f"rank{os.environ['RANK']}.pt")


def two_processes(command, **options):
    """Start the command twice, as torchrun would on one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    ranks = [{**common, "RANK": number, "LOCAL_RANK": number} for number in "01"]
    return [
        subprocess.Popen([sys.executable, *map(str, command)], env=env, text=True, **options)
        for env in ranks
    ]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    trainer = make("double")
    torch.save(outcome(trainer, lambda: trainer.step == 4), folder / "one.pt")
    running = two_processes([__file__, folder], stderr=subprocess.PIPE)
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    return [torch.load(folder / f"rank{number}.pt") for number in range(2)]


def assert_near(actual, expected):
    """Nested numbers and tensors, equal within 64 eps of a tensor's largest number; times aside."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected.keys() - {"seconds", "left", "images_per_second"}:
            if key == "history":
                assert_near(json.loads(actual[key]), json.loads(expected[key]))
            elif key == "histogram":  # a weight on a bin's edge may be rounded across it
                moved = np.abs(np.subtract(actual[key], expected[key])).sum()
                assert moved <= 0.001 * sum(expected[key]) + 4
            else:
                assert_near(actual[key], expected[key])
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for value, other in zip(actual, expected, strict=True):
            assert_near(value, other)
    elif isinstance(expected, torch.Tensor) and expected.is_floating_point():
        assert actual.dtype == expected.dtype
        limit = 64 * torch.finfo(expected.dtype).eps * float(expected.abs().max())
        assert float((actual - expected).abs().max()) <= limit
    elif isinstance(expected, float):
        assert actual == pytest.approx(
            expected, rel=64 * 2**-23
        )  # losses and distances are float32
    else:
        assert (
            torch.equal(actual, expected)
            if isinstance(expected, torch.Tensor)
            else actual == expected
        )


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_ends(outcomes, case):
    single = outcome(make(case))
    assert len(single["reports"]) == 2
    assert_near(outcomes[0][case], single)


@pytest.mark.parametrize("case", [*CASES, "stopped", "resumed"])
def test_all_processes_have_the_same_bits(outcomes, case):
    first, second = (rank[case]["weights"] for rank in outcomes)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert outcomes[0][case]["state"]["running"] == outcomes[1][case]["state"]["running"]


def test_a_stop_of_one_process_stops_all_after_the_same_step(outcomes):
    assert [rank["stopped"]["state"]["step"] for rank in outcomes] == [4, 4]


def test_a_run_continues_with_another_number_of_processes(outcomes):
    whole = outcome(make("double"))
    assert_near(outcomes[0]["resumed"], {**whole, "reports": whole["reports"][1:]})
    trainer = make("double")
    trainer.module.load_state_dict(outcomes[0]["stopped"]["weights"])
    trainer.restore(outcomes[0]["stopped"]["state"])
    assert_near(outcome(trainer), {**whole, "reports": whole["reports"][1:]})


def test_a_batch_that_cannot_be_divided_evenly_is_refused(outcomes):
    expected = "ArgumentError: a batch of 25 images cannot be divided evenly among 2 processes; change the batch size"
    assert [rank["odd batch"] for rank in outcomes] == [expected] * 2


def test_no_thread_of_the_group_outlives_it(outcomes):
    # One that does may abort the process while it ends.
    assert not [name for rank in outcomes for name in rank["threads"] if "gloo" in name]


def long_run(path, **pipes):
    """Two processes of a run of `bwn train` that has to be ended."""
    options = (
        "--width",
        8,
        "--batch-size",
        100,
        "--epochs",
        5000,
        "--threads",
        1,
        "--json",
        "-o",
        path,
    )
    command = ["-m", "bwn.cli", "train", "--data", "mnist-sample", *options]
    return two_processes(command, stdout=subprocess.PIPE, **pipes)


def test_the_command_prints_and_saves_once_and_stops_everywhere(tmp_path):
    path = tmp_path / "m.pt"
    first, second = long_run(path)
    seen = json.loads(first.stdout.readline())
    second.send_signal(signal.SIGTERM)
    rest, nothing = (process.communicate(timeout=120)[0] for process in (first, second))
    assert (first.returncode, second.returncode) == (130, 143)
    assert (seen["event"], seen["epoch"], seen["steps"]) == ("epoch", 1, 63 * 5000)
    assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
    assert nothing == ""
    assert sorted(os.listdir(tmp_path)) == ["m.best.pt", "m.pt"]
    assert 63 <= read_checkpoint(path).training["step"] < 63 * 5000


def test_a_process_that_lost_the_others_says_so(tmp_path):
    first, second = long_run(tmp_path / "m", stderr=subprocess.PIPE)
    first.stdout.readline()
    second.kill()
    error = first.communicate(timeout=120)[1]
    second.communicate()
    assert first.returncode == 1
    assert "Error: rank 0 lost the other processes; their own output says why\n" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK"])
def test_a_variable_that_is_no_number_is_named(name, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "two")
    with pytest.raises(BwnError, match=f"{name} is 'two', expected a number: start the processes"):
        local_rank()


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "")
    assert not started()


def test_half_a_group_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(
        bwn, ["train", "--data", "mnist-sample", "-o", str(tmp_path / "m.pt")]
    )
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: WORLD_SIZE is set, but not LOCAL_RANK, MASTER_ADDR, MASTER_PORT: start the"
    )
    assert result.stderr.count("\n") == 1


if __name__ == "__main__":
    process(Path(sys.argv[1]))
