"""The command that measures: what it refuses, and one small run to the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import compare_networks as networks
import pytest
from engines import results

from bwn.tools.random_networks import NETWORKS


def test_every_built_in_network_is_measured() -> None:
    assert tuple(NETWORKS) == networks.NETWORKS


def test_an_unknown_network_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["networks.py", "lenet"])
    with pytest.raises(SystemExit) as stopped:
        networks.main()
    assert stopped.value.code == 2
    assert "unknown network: lenet" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no processes")
def test_cpus_are_those_of_the_process_each_once() -> None:
    assert sorted(networks.one_cpu_per_core()) == sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no processes")
def test_a_run_writes_a_report(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [
        sys.executable,
        networks.__file__,
        "mlp",
        "--batch",
        "1",
        "--threads",
        "1",
        "--seconds",
        "0",
    ]
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True, check=True)
    report = results.read(output)
    found = {(one.engine, one.kind): one.verdict for one in report.results}
    for engine in ("onnxruntime", "bwn"):
        assert found[engine, "float32"] == found[engine, "int8"] == "ok"
    assert {(one.network, one.batch, one.threads) for one in report.results} == {("mlp", 1, 1)}
    assert all(f"{one.engine:11} {one.kind:8}" in done.stdout for one in report.results)
    assert all(
        f"left out: mlp {one.engine} {one.kind}: {one.reason}" in done.stdout
        for one in report.left_out
    )
