"""Every file of the fuzzing corpus: seeds make a result, what fuzzing found is at least refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from bwn.errors import DataError
from tests.fuzz import targets

FILES = sorted(path for path in targets.CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_result_or_an_error_of_one_line(path: Path) -> None:
    made = targets.run(path.parent.name, path.read_bytes())
    assert made or path.name.startswith("found-"), "a seed must be a good file"


@pytest.mark.parametrize("name", targets.TARGETS)
def test_random_bytes_are_refused(name: str) -> None:
    for data in (b"", b"\0", bytes(range(256)) * 20, pickle.dumps(print)):
        assert not targets.run(name, data)


def test_another_error_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(error: Exception) -> targets.Target:
        def target(_: bytes) -> None:
            raise error

        return target

    class TwoLinesError(DataError):
        def __str__(self) -> str:
            return "two\nlines"

    monkeypatch.setitem(targets.TARGETS, "cifar", raises(TwoLinesError()))
    with pytest.raises(AssertionError, match="not one line"):
        targets.run("cifar", b"")
    monkeypatch.setitem(targets.TARGETS, "cifar", raises(KeyError("a")))
    with pytest.raises(KeyError):
        targets.run("cifar", b"")
