"""The script that compares engines: what it refuses, and one small run to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import compare_networks
import pytest
from comparison import results

from bwn.tools.random_networks import NETWORKS


def test_every_built_in_network_is_measured() -> None:
    assert tuple(NETWORKS) == compare_networks.NETWORKS


def test_an_unknown_network_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["compare_networks.py", "lenet"])
    with pytest.raises(SystemExit) as stopped:
        compare_networks.main()
    assert stopped.value.code == 2
    assert "unknown network: lenet" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no processes")
def test_cpus_are_those_of_the_process_each_once() -> None:
    assert sorted(compare_networks.one_cpu_per_core()) == sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no processes")
def test_a_run_writes_a_report(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [sys.executable, compare_networks.__file__, "mlp", "--batch", "1", "--threads", "1"]
    command += ["--seconds", "0", "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = results.read(output)
    verdicts = {(result.engine, result.kind): result.verdict for result in report.results}
    for engine in ("onnxruntime", "bwn"):
        assert verdicts[engine, "float32"] == verdicts[engine, "int8"] == "ok"
    assert {(r.network, r.batch, r.threads) for r in report.results} == {("mlp", 1, 1)}
    assert all(f"{r.engine:11} {r.kind:8}" in done.stdout for r in report.results)
    assert all(
        f"left out: mlp {item.engine} {item.kind}: {item.reason}" in done.stdout
        for item in report.left_out
    )
