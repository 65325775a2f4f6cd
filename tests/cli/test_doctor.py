"""`bwn doctor`: facts and advice, for people and programs."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.kernels.target import loader, targets
from bwn.tools import doctor

FOUND = targets.TARGETS[-1]


class FakeLibrary:
    def __init__(self, target):
        self.target, self.path = target, loader.FOLDER / f"{target.name}.so"


def test_facts_are_told_in_lines_and_as_json():
    told = CliRunner().invoke(bwn, ["doctor"])
    assert told.exit_code == 0, told.output
    for word in ("machine", "kernels", "library", "supported", "governor", "To speed it up:"):
        assert word in told.stdout
    result = CliRunner().invoke(bwn, ["doctor", "--json"])
    facts = json.loads(result.stdout)
    assert facts["kernels"] == loader.origin()
    assert facts["advice"] == doctor.advice()
    assert facts["cores"] >= 1


@pytest.mark.parametrize(
    ("library", "shipped", "numba", "line"),
    [
        (None, [], True, "a wheel with compiled kernels needs neither"),
        (None, [FOUND.name], True, f"library {FOUND.name} would start faster"),
        (
            FOUND,
            [targets.TARGETS[-2].name, FOUND.name],
            False,
            f"{targets.TARGETS[-2].name} is faster here",
        ),
    ],
)
def test_advice_on_kernels(monkeypatch, library, shipped, numba, line):
    monkeypatch.setattr(
        loader, "library", lambda: None if library is None else FakeLibrary(library)
    )
    monkeypatch.setattr(loader, "can_compile", lambda: numba)
    monkeypatch.setattr(loader, "shipped", lambda: shipped)
    monkeypatch.setattr(targets, "runnable", lambda: list(targets.TARGETS[-2:]))
    monkeypatch.setenv("BWN_KERNELS", "jit")
    assert line in doctor.advice()[0]


def test_a_library_that_cannot_be_used_is_named_with_its_error(monkeypatch, tmp_path):
    (tmp_path / f"{FOUND.name}.so").write_bytes(b"no library")
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    monkeypatch.setattr(loader, "library", lambda: None)
    monkeypatch.setattr(loader, "can_compile", lambda: True)
    monkeypatch.setattr(targets, "runnable", lambda: [FOUND])
    for name in ("BWN_KERNELS", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    first = doctor.advice()[0]
    assert str(tmp_path / f"{FOUND.name}.so") in first
    assert "as the environment asks" not in first
    monkeypatch.setenv("BWN_KERNELS", "jit")
    assert "as the environment asks" in doctor.advice()[0]


def test_numba_is_not_advised_where_a_library_runs(monkeypatch):
    monkeypatch.setattr(loader, "library", lambda: FakeLibrary(FOUND))
    monkeypatch.setattr(loader, "can_compile", lambda: False)
    monkeypatch.setattr(loader, "shipped", lambda: [FOUND.name])
    monkeypatch.setattr(targets, "runnable", lambda: [FOUND])
    assert not any("numba" in line or "pip" in line for line in doctor.advice())


def test_without_any_kernels_the_machine_is_told_and_why(monkeypatch):
    def none():
        raise loader.KernelsError("no kernels at all")

    monkeypatch.setattr(doctor, "facts", none)
    monkeypatch.setattr(targets, "runnable", list)
    told = CliRunner().invoke(bwn, ["doctor"])
    assert told.exit_code == 1
    assert "supported   no library" in told.stderr
    assert told.stderr.endswith("Error: no kernels at all\n")


def test_a_slow_clock_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "governors", lambda: ["performance", "ondemand"])
    assert any("governor is ondemand" in line for line in doctor.advice())


def test_that_nothing_is_bundled_is_said_once(monkeypatch):
    monkeypatch.setattr(loader, "library", lambda: None)
    monkeypatch.setattr(loader, "shipped", list)
    told = CliRunner().invoke(bwn, ["doctor"]).stdout
    assert "library     none bundled; numba compiles the kernels once and caches them\n" in told
    assert "\nbundled" not in told
    assert "no library" not in told


def test_nothing_to_advise_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "advice", list)
    assert CliRunner().invoke(bwn, ["doctor"]).stdout.endswith("- no suggestions\n")
