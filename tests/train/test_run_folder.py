"""`bwn train -o run/`: a folder that holds all of a run."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.errors import FileError
from bwn.train import read_checkpoint
from bwn.train.run_folder import RunFolder, holds_run

SMALL = ("--data", "mnist-sample", "--width", 8, "--batch-size", 500, "--threads", 1, "--epochs", 2)


def run(*args):
    return CliRunner().invoke(bwn, [str(arg) for arg in args])


def epochs(folder):
    return [json.loads(line)["epoch"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_folder_gets_all_of_a_run(tmp_path):
    folder = tmp_path / "runs" / "first"
    result = run("train", *SMALL, "-o", f"{folder}/")
    assert result.exit_code == 0, result.output
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.pt", "model.best.pt", "settings.json", "log.jsonl", "report.html"}
    settings = json.loads((folder / "settings.json").read_text())
    description = read_checkpoint(folder / "model.pt").description
    assert settings["settings"]["epochs"] == 2
    assert settings["test_accuracy"] == description.test_accuracy
    assert epochs(folder) == [1, 2]
    assert "Confusion matrix" in (folder / "report.html").read_text()
    assert f"Wrote {folder / 'report.html'}" in result.stdout
    again = run("train", "--resume", folder)
    assert "This run is already complete" in again.stdout
    assert epochs(folder) == [1, 2]


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "photo.png").touch()
    result = run("train", *SMALL, "-o", f"{tmp_path}/")
    assert result.exit_code == 3
    assert "has files, but not those of a run (log.jsonl): name a new or empty folder" in (
        result.stderr
    )


def test_a_file_stays_a_file(tmp_path):
    (tmp_path / "b").mkdir()
    assert run("train", *SMALL, "-o", tmp_path / "b" / "model.pt").exit_code == 0
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"model.pt", "model.best.pt"}
    assert not holds_run(tmp_path / "b" / "model.pt")


def test_a_resumed_run_completes_its_log(tmp_path, monkeypatch):
    folder = tmp_path / "a"

    def stopped(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bwn.train.run.predictions", stopped)
        assert run("train", *SMALL, "-o", f"{folder}/").exit_code == 130
    assert epochs(folder) == [1, 2]
    assert not (folder / "report.html").exists()
    assert run("train", "--resume", f"{folder / 'model.pt'}").exit_code == 0
    assert epochs(folder) == [1, 2]


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    lines = "".join(f'{{"epoch": {number}, "loss": 1}}\n' for number in (1, 2, 3))
    (tmp_path / "log.jsonl").write_text(lines + '{"epoch": 4, "lo')
    RunFolder(tmp_path, 2, pytest.fail)
    assert (tmp_path / "log.jsonl").read_text() == lines[: 2 * len(lines) // 3]
    RunFolder(tmp_path, 0, pytest.fail)
    assert (tmp_path / "log.jsonl").read_text() == ""
    (tmp_path / "log.jsonl").write_text("something else\n")
    with pytest.raises(FileError, match="is not the log of a run"):
        RunFolder(tmp_path, 1, pytest.fail)


def test_a_log_that_cannot_be_written_warns_once(tmp_path):
    from bwn.train import Progress

    progress = Progress(
        epoch=1, epochs=1, step=1, steps=1, epoch_done=True, loss=0.5, accuracy=0.9,
        validation=None, distance=None, learning_rate=1e-3, strength=0.0, seconds=1.0, left=0.0,
    )  # fmt: skip
    warnings: list[str] = []
    folder = RunFolder(tmp_path, 0, warnings.append)
    shutil.rmtree(tmp_path)
    folder.write(progress)
    folder.write(progress)
    assert len(warnings) == 1
    assert "is no longer written: No such file or directory" in warnings[0]


def test_without_matplotlib_the_run_still_ends_well(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("train", *SMALL, "-o", f"{tmp_path / 'a'}/")
    assert result.exit_code == 0, result.output
    assert "Warning: no report: drawing a report needs matplotlib" in result.stderr


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    result = run("train", *SMALL, "-o", f"{tmp_path / 'file'}/")
    assert result.exit_code == 3
    assert "cannot be made: " in result.stderr
