"""`bwn tune`: what it measures, keeps and says; the fit itself on made-up times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.kernels import costs
from bwn.kernels.registry import GEMMS
from bwn.tools import tune


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the table of this test goes; the measurement is a hasty one."""
    monkeypatch.setattr(tune, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(tune, "ROUNDS", 1)
    path = costs.table_path()
    path.parent.mkdir()
    return path


def run(*arguments: str):
    return CliRunner().invoke(bwn, ["tune", *arguments])


def test_it_measures_keeps_and_does_not_measure_again(path: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert f"costs: measured on this machine, {path}" in done.output
    assert "Predictions are off by " in done.output
    assert all(f"\n{row.name} " in done.output for row in GEMMS)
    kept = path.read_bytes()
    assert set(json.loads(kept)["costs"]) == {row.name for row in GEMMS}
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    again = run()
    assert again.exit_code == 0, again.output
    assert "Nothing was measured" in again.output
    assert path.read_bytes() == kept

    forced = run("--force", "--json")
    assert forced.exit_code == 0, forced.output
    found = json.loads(forced.stdout)
    assert found["origin"] == "measured"
    assert found["costs"] == {
        name: dict(zip(("call", "gather", "sums", "end"), cost, strict=True))
        for name, cost in json.loads(path.read_bytes())["costs"].items()
    }
    assert found["measured"]["worst_ratio"] >= found["measured"]["median_ratio"] >= 1
    assert len(found["measured"]["kernels"]) == len(GEMMS)


def test_an_idle_call_that_was_held_up_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "ROUNDS", 1)
    times = {True: 1e-6, False: 1e-3}
    monkeypatch.setattr(tune, "seconds", lambda call, count: times[isinstance(call, tune.Trial)])
    found = tune.measure(GEMMS[0])
    assert min(found.measured) == pytest.approx(0.1)
    assert min(found.ratios) >= 1


def test_show_says_default_or_measured(path: Path) -> None:
    before = run("--show")
    assert before.exit_code == 0, before.output
    assert "costs: default, no measurement of this machine" in before.output
    assert not path.exists()
    path.write_text(costs.to_json(dict.fromkeys(costs.table().costs, costs.Cost(1, 2, 3, 4.5))))
    costs.table.cache_clear()
    after = run("--show")
    assert f"costs: measured on this machine, {path}" in after.output
    assert "4.5" in after.output
    path.write_text("{")
    costs.table.cache_clear()
    assert "since the measured table is damaged" in run("--show").output


def test_a_damaged_table_is_measured_anew(path: Path) -> None:
    path.write_text("{")
    assert run().exit_code == 0
    assert costs.load(path).origin == "measured"


def test_an_interrupt_leaves_the_old_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = costs.to_json(dict.fromkeys(costs.table().costs, costs.Cost(1, 2, 3, 4)))
    path.write_text(old)
    measured: list[str] = []

    def measure(row) -> None:
        if measured:
            raise KeyboardInterrupt
        measured.append(row.name)

    monkeypatch.setattr(tune, "measure", measure)
    assert run("--force").exit_code == 130
    assert path.read_text() == old
    assert len(list(path.parent.iterdir())) == 1


def test_refusals(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = run("--show", "--force")
    assert both.exit_code == 2
    assert "choose one" in both.output
    monkeypatch.setattr(costs, "table_path", lambda: tmp_path / "bwn-kernels-xyz" / "costs.json")
    costs.table.cache_clear()
    lost = run()
    assert lost.exit_code == 1
    assert "set BWN_CACHE_DIR" in lost.output


@pytest.mark.parametrize(
    "true", [(300, 1.5, 0.05, 3), (0, 1, 0.1, 0), (500, 0, 0.2, 8), (200, 0, 0, 0)]
)
def test_the_fit_finds_the_coefficients_that_made_the_times(true: tuple[float, ...]) -> None:
    terms = np.array([[1, p * k, p * k * n, p * n] for k, n, p in tune.SHAPES], float)
    np.testing.assert_allclose(tune.fit(terms, terms @ true), true, atol=1e-6)


def test_the_fit_is_never_negative() -> None:
    rng = np.random.default_rng(0)
    terms = np.array([[1, p * k, p * k * n, p * n] for k, n, p in tune.SHAPES], float)
    for _ in range(50):
        found = np.array(tune.fit(terms, rng.uniform(100, 1e6, len(terms))))
        assert (found >= 0).all()
        assert found.any()
