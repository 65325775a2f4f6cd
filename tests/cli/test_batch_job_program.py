"""The command line that jobs on Dask and on Ray share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bwn.cli.batch_job import Options, program
from bwn.cli.infer import SOME_FAILED
from bwn.errors import DataError, FileError
from bwn.model import Model
from bwn.tools.batch_job import Row, classify
from bwn.tools.demo import write_digits

LENET = Path(__file__).resolve().parents[2] / "models" / "mnist-lenet.bwn"


def engine(model: Model, parts: Iterator[list[str]], options: Options) -> Iterator[list[Row]]:
    assert options == (None, 3, 4)
    return (classify(model, part) for part in parts)


def interrupted(*_: object) -> Iterator[list[Row]]:
    raise KeyboardInterrupt


def unreachable(*_: object) -> Iterator[list[Row]]:
    raise TimeoutError("nobody at tcp://10.0.0.1:8786")


@pytest.fixture
def arguments(tmp_path: Path) -> list[object]:
    write_digits(tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    return [LENET, tmp_path / "images", tmp_path / "rows", "--workers", 3, "--part", 4]


def run(monkeypatch: pytest.MonkeyPatch, engine: object, arguments: list[object]) -> int:
    monkeypatch.setattr(sys, "argv", ["job", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        program("Nothing", engine)  # type: ignore[arg-type]  # it stands for an engine
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_job_ends_with_its_counts(
    arguments: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, interrupted, arguments) == 130
    assert capsys.readouterr().err == "Stopped: the same command continues from here\n"
    assert run(monkeypatch, engine, arguments) == SOME_FAILED
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("21 of 21 images, 1 failed, ")
    summary = json.loads(printed.out)
    assert (summary["classified"], summary["failed"], summary["done_before"]) == (20, 1, 0)
    assert len(list((tmp_path / "rows").glob("*.jsonl"))) == 6
    assert run(monkeypatch, engine, arguments) == 0
    assert json.loads(capsys.readouterr().out)["done_before"] == 21


@pytest.mark.parametrize(
    ("place", "value", "code", "message"),
    [
        (0, "none.bwn", FileError.exit_code, "Error: no such file: none.bwn\n"),
        (1, "none", DataError.exit_code, "Error: none is not a folder\n"),
        (4, 0, 2, "'--workers': 0 is not in the range 1 or more"),
    ],
)
def test_wrong_arguments(
    place: int,
    value: object,
    code: int,
    message: str,
    arguments: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments[place] = value
    assert run(monkeypatch, engine, arguments) == code
    assert message in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_one_line(
    arguments: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, unreachable, arguments) == 1
    assert capsys.readouterr().err == "Error: nobody at tcp://10.0.0.1:8786\n"
