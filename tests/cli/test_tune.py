"""`bwn tune`: what it measures, stores and prints; the fit itself on made-up times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bwn.cli.main import bwn
from bwn.kernels import costs
from bwn.kernels.registry import GEMMS, GemmSpec
from bwn.runtime.executor import Runner
from bwn.tools import tune
from bwn.tools.gemm_trial import GemmTrial
from bwn.tools.timing import Timing


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the table of this test goes; the measurement is a hasty one."""
    for name in ("SECONDS", "TURN_SECONDS", "WARM_UP_SECONDS"):
        monkeypatch.setattr(tune, name, 0.0)
    path = costs.table_path()
    path.parent.mkdir()
    return path


def run(*arguments: str):
    return CliRunner().invoke(bwn, ["tune", *arguments])


def test_it_measures_keeps_and_does_not_measure_again(path: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert f"costs: measured on this machine, {path}" in done.output
    assert "Ratio of predicted and measured time: median " in done.output
    assert all(f"\n{spec.name} " in done.output for spec in GEMMS)
    kept = path.read_bytes()
    assert set(json.loads(kept)["costs"]) == {spec.name for spec in GEMMS}
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    again = run()
    assert again.exit_code == 0, again.output
    assert "Nothing was measured" in again.output
    assert path.read_bytes() == kept

    forced = run("--force", "--json")
    assert forced.exit_code == 0, forced.output
    document = json.loads(forced.stdout)
    assert document["origin"] == "measured"
    assert document["costs"] == {
        name: dict(zip(("call", "gather", "sums", "end"), cost, strict=True))
        for name, cost in json.loads(path.read_bytes())["costs"].items()
    }
    assert document["measured"]["worst_ratio"] >= document["measured"]["median_ratio"] >= 1
    assert len(document["measured"]["kernels"]) == len(GEMMS)


def test_the_time_of_an_idle_call_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it was interrupted: then a tenth of a kernel's time is left."""

    def interleave(calls, seconds, **_):
        *trials, idle = calls
        times = {name: Timing((9.0,), 0.003 if name else 0.001, 1) for name in trials}
        return times | {idle: Timing((9.0,), 0.002, 1)}

    monkeypatch.setattr(tune, "interleave", interleave)
    fit = tune.measure(GEMMS[0])
    assert fit.measured == pytest.approx([100] + [1000] * (len(fit.shapes) - 1))
    assert min(fit.ratios) >= 1


@pytest.mark.parametrize("spec", GEMMS, ids=lambda spec: spec.name)
def test_a_trial_runs_the_kernel_on_the_work_that_is_fitted(spec: GemmSpec) -> None:
    for depth, outputs, positions in tune.shapes(spec)[:2]:
        trial = GemmTrial(spec, depth, outputs, positions)
        trial.check()
        assert [step.kernel for step in trial.plan.steps if step.work] == [spec]
        work = trial.work
        assert (work.depth, work.outputs, work.values) == (depth, outputs, positions)


def test_a_kernel_that_computes_a_wrong_result_is_not_timed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "run", lambda self, x: np.zeros_like(self.out))
    done = run()
    assert done.exit_code == 1
    assert f"{GEMMS[0].name} computes a wrong result" in done.stderr
    assert not path.exists()


def test_show_says_default_or_measured(path: Path) -> None:
    before = run("--show")
    assert before.exit_code == 0, before.output
    assert "costs: defaults; run bwn tune to measure this machine" in before.output
    assert not path.exists()
    path.write_text(costs.to_json(dict.fromkeys(costs.table().costs, costs.Cost(1, 2, 3, 4.5))))
    costs.table.cache_clear()
    after = run("--show")
    assert f"costs: measured on this machine, {path}" in after.output
    assert "4.5" in after.output
    path.write_text("{")
    costs.table.cache_clear()
    assert "since the measured table is damaged" in run("--show").output


def test_a_damaged_table_is_replaced(path: Path) -> None:
    path.write_text("{")
    assert run().exit_code == 0
    assert costs.load(path).origin == "measured"


def test_an_interrupt_leaves_the_old_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = costs.to_json(dict.fromkeys(costs.table().costs, costs.Cost(1, 2, 3, 4)))
    path.write_text(old)
    measured: list[str] = []

    def measure(spec: GemmSpec) -> None:
        if measured:
            raise KeyboardInterrupt
        measured.append(spec.name)

    monkeypatch.setattr(tune, "measure", measure)
    assert run("--force").exit_code == 130
    assert path.read_text() == old
    assert len(list(path.parent.iterdir())) == 1


def test_refusals(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = run("--show", "--force")
    assert both.exit_code == 2
    assert "not both" in both.output
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
        cost = np.array(tune.fit(terms, rng.uniform(100, 1e6, len(terms))))
        assert (cost >= 0).all()
        assert cost.any()
