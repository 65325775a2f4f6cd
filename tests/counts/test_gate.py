"""The gate on instruction counts: a count that moves by over 2 %, appears or disappears fails."""

from __future__ import annotations

import json
from pathlib import Path

import count
import pytest
from count import gate

from bwn.kernels.registry import COPY_F32, GEMMS, XNOR_PLANES, XNOR_SIGNS

RECORDED = {
    "core": {"products": {"a": 1000, "b": 1000}, "networks": {"n": 5000}},
    "other": {"products": {"a": 7}},
}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(RECORDED))
    return path


@pytest.mark.parametrize(
    ("products", "moved"),
    [
        ({"a": 1000, "b": 1000}, 0),
        ({"a": 1020, "b": 980}, 0),
        ({"a": 1021, "b": 1000}, 1),
        ({"a": 1000, "b": 979}, 1),
        ({"a": 1000, "b": 1000, "new": 1}, 1),
        ({"a": 1000}, 1),
    ],
)
def test_a_count_that_moves_appears_or_disappears_fails(
    record: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    products: dict[str, int],
    moved: int,
) -> None:
    report = tmp_path / "core.json"
    report.write_text(json.dumps({"products": products, "networks": {"n": 5000}}))
    assert gate(record, [report], write=False) == moved
    assert capsys.readouterr().out.count("core, products, ") == moved
    assert gate(record, [report], write=True) == 0
    written = json.loads(record.read_text())
    assert (written["core"]["products"], written["other"]) == (products, RECORDED["other"])
    assert gate(record, [report], write=False) == 0


def test_a_part_that_is_no_longer_counted_fails(record: Path, tmp_path: Path) -> None:
    report = tmp_path / "core.json"
    report.write_text(json.dumps({"products": RECORDED["core"]["products"]}))
    assert gate(record, [report], write=False) == 1


def test_the_count_of_a_network_is_that_of_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = {
        kernel.code.replace(".", "_"): 10 for kernel in (*GEMMS, XNOR_PLANES, XNOR_SIGNS, COPY_F32)
    }
    functions = kernels | {
        "threads_run_loop_run": 10_000
    }  # what callgrind sees; it calls the others
    monkeypatch.setattr(count, "inclusive", lambda file: (50_000, functions))
    report = tmp_path / "core.json"
    count.callgrind("once", "first", report)
    counts = json.loads(report.read_text())
    assert counts["networks"] == {"mnist-lenet": 10 * len(kernels)}
    assert counts["start to first result"] == {"mnist-lenet": 50_000}
    assert set(counts["products"].values()) == {10}
