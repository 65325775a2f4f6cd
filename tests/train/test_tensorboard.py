"""The log for TensorBoard: what is in it, and what happens without the package."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.errors import FileError
from bwn.train import Architecture, Settings, Trainer, measure
from bwn.train.architectures import build_seeded
from bwn.train.tensorboard import TensorBoardLog, open_log

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="needs bwn[tensorboard]"
)


@pytest.fixture
def trainer(shapes_set):
    data = shapes_set()
    network = Architecture(name="mlp", input_shape=(1, 8, 8), classes=3, scheme="margin", width=8)
    settings = Settings(epochs=3, batch_size=20, penalty="margin")
    return Trainer(build_seeded(network, 0), data, measure(data), settings)


class Notes:
    """Stands for torch's SummaryWriter, and may fail."""

    def __init__(self, fails_at=None):
        self.scalars, self.histograms, self.fails_at, self.closed = [], [], fails_at, False

    def add_scalar(self, name, value, epoch):
        if epoch == self.fails_at:
            raise OSError(28, "No space left on device")
        self.scalars.append((name, epoch, value))

    def add_histogram(self, name, values, epoch):
        self.histograms.append((name, epoch, tuple(values.shape)))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def test_every_epoch_has_its_numbers_and_histograms(trainer):
    notes, seen = Notes(), []
    board = TensorBoardLog(notes, trainer, warn=pytest.fail)

    def report(progress):
        seen.append(progress)
        board.write(progress)

    trainer.run(report)
    ends = [progress for progress in seen if progress.epoch_done]
    scalars = {(name, epoch): value for name, epoch, value in notes.scalars}
    assert len(scalars) == len(notes.scalars) == 3 * 7
    for progress in ends:
        assert scalars["loss/training", progress.epoch] == progress.loss
        assert scalars["accuracy/held-out", progress.epoch] == progress.validation
        assert scalars["weights/distance", progress.epoch] == progress.distance
        assert scalars["weights/sign flips a step", progress.epoch] == progress.flips
        assert scalars["schedule/lambda", progress.epoch] == progress.strength
    shapes = {
        name: tuple(weight.shape)
        for name, weight in trainer.module.named_parameters()
        if weight.ndim == 2
    }
    assert len(shapes) == 4
    assert notes.histograms[:4] == [(f"weights/{name}", 1, shape) for name, shape in shapes.items()]


def test_a_log_that_cannot_be_written_is_warned_of_once_and_training_continues(trainer):
    warnings, notes = [], Notes(fails_at=2)
    log = TensorBoardLog(notes, trainer, warnings.append)
    assert trainer.run(log.write)
    log.close()
    assert warnings == ["the log is no longer written: No space left on device"]
    assert {epoch for _, epoch, _ in notes.scalars} == {1}


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    options = [
        "--data",
        "mnist-sample",
        "-o",
        str(tmp_path / "m.pt"),
        "--log",
        str(tmp_path / "log"),
    ]
    result = CliRunner().invoke(bwn, ["train", *options])
    assert result.exit_code == 1
    expected = "Error: a TensorBoard log needs tensorboard, which is not installed: pip install tensorboard, or '.[tensorboard]' in bwn's folder\n"
    assert result.stderr == expected
    assert not list(tmp_path.iterdir())


@needs_tensorboard
def test_tensorboard_reads_the_log_and_a_run_that_goes_on_replaces_its_epochs(trainer, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path / "log", trainer, warn=pytest.fail) as board:
        trainer.run(board.write)
    trainer.step = (
        2 * trainer.steps_per_epoch
    )  # as if the last state saved had been of the second epoch
    with open_log(tmp_path / "log", trainer, warn=pytest.fail) as board:
        trainer.run(board.write)
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy/held-out")] == [1, 2, 3]
    histogram = events.Histograms("weights/1.weight")[-1].histogram_value
    assert histogram.num == 8 * 64
    assert -1 <= histogram.min < histogram.max <= 1


@needs_tensorboard
def test_a_log_folder_that_is_a_file_is_refused(trainer, tmp_path):
    (tmp_path / "log").write_text("here")
    with (
        pytest.raises(FileError, match="cannot be written as a log"),
        open_log(tmp_path / "log", trainer, print),
    ):
        pass
