"""What a run leaves behind: its last state and its best epoch, whatever numbers or disk do."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.errors import BwnError, DivergedError, FileError
from bwn.train import Architecture, Settings, Trainer, checkpointing, measure, read_checkpoint
from bwn.train import run as run_module
from bwn.train.architectures import build_seeded
from bwn.train.checkpoint import Description
from bwn.train.checkpointing import Checkpointer, best_path
from bwn.train.preprocessing import accuracy, digest
from bwn.train.run import Run, resume, start

STEPS = 9  # of an epoch
NETWORK = Architecture(name="mlp", input_shape=(1, 8, 8), classes=3, width=4)


@pytest.fixture(autouse=True)
def _saved_at_every_chance(monkeypatch):
    monkeypatch.setattr(checkpointing, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SAVE_SHARE", 0)


@pytest.fixture
def data(shapes_set, monkeypatch):
    """Noisy images, so that held-out accuracy goes up and down: what every source names here."""
    noisy = shapes_set(120)
    noise = np.random.default_rng(1).integers(0, 256, noisy.images.shape)
    noisy.images[:] = noise // 2 + noisy.images // 2
    monkeypatch.setattr("bwn.train.run.load_dataset", lambda *_args, **_more: noisy)
    return noisy


def fresh(output, **settings):
    chosen = {
        "epochs": 8,
        "batch_size": 10,
        "validation": 0.25,
        "learning_rate": 0.02,
        "penalty": "margin",
        "seed": 3,
    }
    data = run_module.load_dataset("nowhere")
    return start(data, NETWORK, Settings(**{**chosen, **settings}), output, source="nowhere")


def weights(path):
    return {
        name: tensor.numpy().tobytes()
        for name, tensor in read_checkpoint(path).module.state_dict().items()
    }


def stopping_at(run, step):
    """Go until a step, then stop as Ctrl-C does."""
    inner = run.trainer.run
    run.trainer.run = lambda report, stop: inner(report, lambda: run.trainer.step >= step)
    return run.go()


def test_the_best_epoch_is_kept_beside_the_last_state(data, tmp_path):
    seen = []
    run = fresh(tmp_path / "m.pt")
    outcome = run.go(seen.append)
    accuracies = [progress.validation for progress in seen if progress.epoch_done]
    assert len(set(accuracies)) > 2, "else this shows nothing"
    epoch = max(
        range(1, 9), key=lambda number: (accuracies[number - 1], number)
    )  # of equal ones the last
    assert epoch < 8, "else this shows nothing"
    best = read_checkpoint(tmp_path / "m.best.pt")
    assert (best.description.best.epoch, best.description.best.accuracy) == (epoch, max(accuracies))
    assert best.description == outcome.best
    assert best.training == {}
    assert accuracy(best.module, run.trainer.held_out, best.description.preprocess) == max(
        accuracies
    )
    assert best.description.test_accuracy == accuracy(
        best.module, data, best.description.preprocess
    )
    stopped = fresh(tmp_path / "other.pt")
    stopping_at(stopped, epoch * STEPS)
    assert weights(tmp_path / "other.pt") == weights(tmp_path / "m.best.pt"), (
        "of the end of its epoch"
    )


@pytest.mark.parametrize("step", [1, STEPS, 3 * STEPS, 3 * STEPS + 4, 7 * STEPS])
def test_a_resumed_run_keeps_the_same_best(data, tmp_path, step):
    os.mkdir(tmp_path / "other")
    whole, cut, gone_on = tmp_path / "whole.pt", tmp_path / "cut.pt", tmp_path / "other" / "cut.pt"
    fresh(whole, patience=6).go()
    stopping_at(fresh(cut, patience=6), step)
    resume(cut, gone_on).go()
    assert gone_on.read_bytes() == whole.read_bytes().replace(b"whole/", b"cut/"), (
        "torch names the archive in it"
    )
    assert weights(best_path(gone_on)) == weights(best_path(whole))
    assert (
        read_checkpoint(best_path(gone_on)).description
        == read_checkpoint(best_path(whole)).description
    )


def test_a_best_file_that_is_missing_is_warned_of(data, tmp_path):
    path, warnings = tmp_path / "m.pt", []
    stopping_at(fresh(path), 3 * STEPS)
    os.remove(best_path(path))
    resume(path, warn=warnings.append)
    assert len(warnings) == 1
    assert "m.best.pt does not hold this run's best epoch, " in warnings[0]


def test_a_best_file_ahead_of_the_state_is_taken(data, tmp_path):
    """Killed between the two writes."""
    path = tmp_path / "m.pt"
    stopping_at(fresh(path), STEPS)
    before = path.read_bytes()
    resume(path).go()
    path.write_bytes(before)
    warnings = []
    run = resume(path, warn=warnings.append)
    assert warnings == []
    assert run.checkpointer.best.description.best.epoch > 1


def test_another_runs_best_does_not_stay(data, tmp_path):
    path = tmp_path / "m.pt"
    fresh(path).go()
    fresh(path, seed=1, validation=0).go()
    assert not best_path(path).exists()


def test_a_run_that_ends_before_its_first_save_leaves_another_runs_files(data, tmp_path):
    path = tmp_path / "m.pt"
    fresh(path).go()
    before = path.read_bytes(), best_path(path).read_bytes()
    run = fresh(path, seed=1)
    with torch.no_grad():
        run.trainer.module[1].weight[0, 0] = float("nan")
    with pytest.raises(DivergedError, match="no checkpoint has been saved"):
        run.go()
    assert (path.read_bytes(), best_path(path).read_bytes()) == before


def test_patience_counts_epochs_without_a_rise(data, tmp_path):
    seen = []
    outcome = fresh(tmp_path / "m.pt", epochs=60, patience=3).go(seen.append)
    accuracies = [progress.validation for progress in seen if progress.epoch_done]
    rises = [
        n for n, value in enumerate(accuracies, 1) if value > max(accuracies[: n - 1], default=-1)
    ]
    assert outcome.early
    assert outcome.finished
    assert outcome.epochs == len(accuracies) == rises[-1] + 3 < 60
    assert all(later - earlier <= 3 for earlier, later in pairwise(rises))
    again = resume(tmp_path / "m.pt").go()
    assert (again.early, again.epochs) == (True, len(accuracies))


def test_patience_needs_held_out_images(data, tmp_path):
    with pytest.raises(BwnError, match="patience needs held-out images"):
        fresh(tmp_path / "m.pt", patience=3, validation=0)


def test_numbers_that_are_not_finite_end_the_run_and_leave_the_good_state(data, tmp_path):
    path = tmp_path / "m.pt"
    run = fresh(path)

    good = {}

    def report(progress):
        if progress.epoch == 3 and progress.epoch_done:
            good.update(weights(path))  # of epoch 2: an epoch is saved after it is reported
            with torch.no_grad():
                run.trainer.module[1].weight[0, 0] = float("nan")

    with pytest.raises(DivergedError) as caught:
        run.go(report)
    message = str(caught.value)
    assert message.startswith(
        "the weights became NaN or infinite in epoch 3; restart with a lower learning rate"
    )
    assert f"; {path} holds the state of step {2 * STEPS}, epoch 2, " in message
    assert f", {best_path(path)} holds the best epoch, " in message
    assert caught.value.exit_code == 1
    assert weights(path) == good


def test_signs_hide_a_weight_that_is_no_number_and_the_epochs_end_finds_it(data, tmp_path):
    run = fresh(tmp_path / "m.pt", epochs=2)
    with torch.no_grad():
        run.trainer.module[1].weight[0, 0] = float("nan")
    with pytest.raises(
        DivergedError,
        match=r"the weights became NaN or infinite in epoch 1; .*; no checkpoint has been saved",
    ):
        run.go()
    assert not list(tmp_path.iterdir())


def test_a_stop_does_not_save_what_is_not_finite(data, tmp_path):
    path = tmp_path / "m.pt"
    stopping_at(fresh(path), STEPS)
    before = path.read_bytes()
    run = resume(path)
    with torch.no_grad():
        run.trainer.module[1].weight[0, 0] = float("inf")
    with pytest.raises(DivergedError, match=f"holds the state of step {STEPS}, epoch 1"):
        stopping_at(run, STEPS + 2)
    assert path.read_bytes() == before


def test_scores_that_overflow_end_the_run(data, tmp_path):
    run = fresh(tmp_path / "m.pt")
    run.trainer.module[-1].weight.data.fill_(1e38)
    with pytest.raises(DivergedError, match="the loss became NaN or infinite in epoch 1"):
        run.go()


class FullDisk:
    """Lets fsync fail for a while, as a full disk does."""

    def __init__(self, failures):
        self.failures, self.calls = failures, 0

    def __call__(self, _handle):
        self.calls += 1
        if self.calls in self.failures:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_goes_on_while_the_disk_is_full(data, tmp_path, monkeypatch):
    path, warnings, during = tmp_path / "m.pt", [], []
    run = fresh(path)

    def report(progress):
        if progress.epoch_done:
            monkeypatch.setattr(
                os,
                "fsync",
                FullDisk(range(100)) if 3 <= progress.epoch <= 5 else lambda _handle: None,
            )
            during.append(read_checkpoint(path).training["step"] if progress.epoch > 1 else 0)

    outcome = run.go(report, warnings.append)
    assert outcome.finished
    assert [step // STEPS for step in during] == [0, 1, 2, 2, 2, 2, 6, 7], (
        "a whole checkpoint at every time"
    )
    assert len(warnings) == 2
    assert (
        "No space left on device; training continues and tries again after each epoch"
        in warnings[0]
    )
    assert warnings[1] == f"{path} is being saved again"
    assert sorted(os.listdir(tmp_path)) == ["m.best.pt", "m.pt"], "no half-written file stays"


def test_at_the_end_it_waits_for_space(data, tmp_path, monkeypatch):
    path, warnings = tmp_path / "m.pt", []
    monkeypatch.setattr(checkpointing, "RETRY_SECONDS", 0.0)
    run = fresh(path, epochs=1, validation=0)
    monkeypatch.setattr(os, "fsync", FullDisk({1, 2, 3, 4}))
    assert run.go(warn=warnings.append).finished
    assert [line.partition("; ")[2][:8] for line in warnings] == ["training", "retrying"]
    assert read_checkpoint(path).description.finished


def test_a_disk_that_stays_full_ends_in_one_line_with_the_old_state(data, tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    stopping_at(fresh(path), 2 * STEPS)
    before = path.read_bytes()
    monkeypatch.setattr(checkpointing, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "GIVE_UP_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", FullDisk(range(1000)))
    with pytest.raises(FileError) as caught:
        resume(path).go()
    message = str(caught.value)
    assert "cannot be written: No space left on device" in message
    assert f"; {path} holds the state of step {2 * STEPS}, epoch 2" in message
    assert "\n" not in message
    assert path.read_bytes() == before


def test_saves_take_a_small_part_of_the_time(data, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpointing, "SAVE_SECONDS", 15.0)
    monkeypatch.setattr(checkpointing, "SAVE_SHARE", 20)
    written = []

    def slow(path, *_more):
        now[0] += 2
        written.append((now[0], os.path.basename(path)))

    monkeypatch.setattr(checkpointing, "write_checkpoint", slow)
    trainer = Trainer(build_seeded(NETWORK, 0), data, measure(data), Settings(batch_size=10))
    description = Description(
        architecture=NETWORK,
        settings=trainer.settings,
        preprocess=trainer.preprocess,
        classes=data.classes,
        source="nowhere",
        digest=digest(data),
    )
    checkpointer = Checkpointer(trainer, tmp_path / "m.pt")
    Run(trainer, description, checkpointer)
    for epoch in range(1, 31):
        now[0] += 5
        trainer.step = epoch * trainer.steps_per_epoch
        if epoch < 4:
            checkpointer.record_best(description, 0.5)
        checkpointer.save_if_due(description, warn=lambda text: pytest.fail(text))
    assert [name for _, name in written] == ["m.best.pt", "m.pt", "m.pt", "m.pt"], (
        "the best one only when it changed"
    )
    times = [moment for moment, name in written if name == "m.pt"]
    assert times[0] == 15 + 4
    assert times[1] - times[0] >= 80, "20 times the 4 seconds that the first save took"


def test_a_file_that_may_not_grow_leaves_the_old_state(data, tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    stopping_at(fresh(path), STEPS)
    before = path.read_bytes()
    monkeypatch.setattr(checkpointing, "GIVE_UP_SECONDS", -1.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(
            FileError,
            match=f"cannot be written: File too large; {path} holds the state of step {STEPS},",
        ):
            resume(path).go()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


KILLED = """
import os, signal, sys
from bwn.cli.main import main
from bwn.train import checkpointing
checkpointing.SAVE_SECONDS = checkpointing.SAVE_SHARE = 0
real = checkpointing.write_checkpoint
def write(path, description, module, training):
    if training and training["step"] == 3 * 63:  # the third epoch's: written, not yet renamed
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    real(path, description, module, training)
checkpointing.write_checkpoint = write
main()
"""


def test_a_run_that_is_killed_while_it_saves_goes_on_from_a_readable_checkpoint(tmp_path):
    cut, whole = tmp_path / "cut.pt", tmp_path / "whole.pt"
    options = (
        "--data mnist-sample --size 8 --width 8 --lr 0.01 --epochs 5 --batch-size 100 --threads 1"
    )
    args = [sys.executable, "-c", KILLED, "train", *options.split(), "-o"]
    process = subprocess.run([*args, cut], capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert read_checkpoint(cut).training["step"] == 2 * 63
    assert read_checkpoint(best_path(cut)).description.best.epoch >= 1
    for more in (("--resume", cut), (*options.split(), "-o", whole)):
        result = CliRunner().invoke(bwn, ["train", *(str(arg) for arg in more)])
        assert result.exit_code == 0, result.output
    for path, other in ((cut, whole), (best_path(cut), best_path(whole))):
        assert weights(path) == weights(other)
        assert read_checkpoint(path).description == read_checkpoint(other).description


@pytest.mark.parametrize(
    ("name", "why"), [(".", "it is a folder"), ("/", "it is a folder"), ("n" * 250 + ".pt", "long")]
)
def test_a_file_that_can_never_be_written_is_refused_before_training(name, why):
    with pytest.raises(FileError, match=f"cannot be written: .*{why}$"):
        Checkpointer(None, name)
