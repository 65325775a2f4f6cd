"""The results file and what is rendered from it; the load of other processes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
import render
from comparison import other_load, results
from comparison.plot import plot
from comparison.results import LeftOut, Report, Result, Startup
from comparison.tables import advantage, as_markdown, fastest

MACHINE = {
    "cpu": "Some CPU",
    "llvm_cpu": "znver3",
    "kernels": "numba",
    "features": ["avx2"],
    "cores": 2,
    "tuned": False,
    "system": "Linux",
    "python": "3.11.7",
    "versions": {"bwn": "0.1.0"},
    "commit": "0123456789ab",
    "date": "2026-11-23 12:00",
    "load": 0.1,
    "isa": "native",
    "env": {},
}


def result(
    engine: str,
    kind: str,
    ms: list[float],
    verdict: str = "ok",
    batch: int = 1,
    others: float = 0.01,
) -> dict[str, Any]:
    """A result as the file has it."""
    middle = sorted(ms)[len(ms) // 2]
    return {
        "network": "vgg", "batch": batch, "threads": 1, "engine": engine, "kind": kind,
        "verdict": verdict, "error": 1e-6, "cosine": 0.5 if verdict == "wrong result" else 1.0,
        "same_class": 1.0,
        "median_ms": middle, "min_ms": min(ms), "calls": 30, "turns_ms": ms, "others": others,
    }  # fmt: skip


FILE: dict[str, Any] = {
    "schema": 1,
    "machine": MACHINE,
    "results": [
        result("onnxruntime", "float32", [8.0, 9.0, 8.0]),
        result("openvino", "float32", [6.0, 7.0, 12.0]),
        result("bwn", "float32", [2.0, 3.5, 3.0]),
        result("ncnn", "float32", [1.0, 1.0, 1.0], "wrong result"),
        result("bwn", "float32", [32.0, 32.0, 32.0], batch=16),
        result("onnxruntime", "float32", [64.0, 64.0, 64.0], batch=16),
    ],
    "left_out": [
        {"network": "vgg", "engine": "openvino", "kind": "int8", "reason": "it is not installed"},
    ],
    "startups": [
        {
            "network": "vgg", "engine": "bwn", "kind": "float32", "seconds": 0.41,
            "peak_mb": 120.4, "runs": 5,
        },
    ],
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bench.json"
    path.write_bytes(msgspec.json.encode(FILE))
    return path


def test_a_file_is_read_and_written_as_it_was(path: Path, tmp_path: Path) -> None:
    report = results.read(path)
    assert isinstance(report.results[0], Result)
    assert isinstance(report.left_out[0], LeftOut)
    assert isinstance(report.startups[0], Startup)
    results.write(tmp_path / "again.json", report)
    assert msgspec.json.decode((tmp_path / "again.json").read_bytes()) == FILE


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"results": [{"network": "vgg"}]}, {"machine": None}]
)
def test_another_schema_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(FILE | change), type=Report)


def test_the_fastest_correct_peer_is_compared_within_rounds(path: Path) -> None:
    report = results.read(path)
    peer = fastest(report, "vgg", (1, 1), "float32")
    assert peer is not None
    assert peer.engine == "openvino"  # ncnn's scores are wrong
    assert (
        advantage(report, "vgg", (1, 1), "float32", "float32") == "3.00x openvino"
    )  # of 3, 2 and 4
    assert advantage(report, "vgg", (1, 1), "int8", "int8") == ""


def test_engines_that_cannot_be_restricted_are_not_ranked_on_avx2(path: Path) -> None:
    report = results.read(path)
    report.machine["isa"] = "avx2"
    assert fastest(report, "vgg", (1, 16), "float32") is None
    assert "cannot be restricted" in as_markdown(report)


def test_tables_show_everything(path: Path) -> None:
    text = as_markdown(results.read(path))
    for words in (
        "Some CPU", "0123456789ab", "bwn 0.1.0", "| 1 thread, batch 1 | 1 thread, batch 16 |",
        "**bwn** float32", "| 7 ms |", "500 images/s", "2.00x onnxruntime", "(1 ms)",
        "**wrong result**, cosine 0.50", "0.41 s", "120 MB",
        "openvino int8 on vgg (it is not installed)",
    ):  # fmt: skip
        assert words in text, words


def test_a_busy_machine_is_reported(path: Path) -> None:
    assert "at most 1% of the CPUs" in as_markdown(results.read(path))
    busy = FILE | {
        "results": [*FILE["results"], result("bwn", "int8", [1.0, 1.0, 1.0], others=0.4)]
    }
    report = msgspec.json.decode(msgspec.json.encode(busy), type=Report)
    assert "except for vgg (1 thread, batch 1) 40%" in as_markdown(report)
    assert "do not quote" in as_markdown(report)


def test_the_time_of_others_leaves_this_process_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ticks = other_load.os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(
        f"cpu {3 * ticks} 0 {2 * ticks} {99 * ticks} {9 * ticks} 0 0 {ticks} 0 0\ncpu0 1 2\n",
        encoding="ascii",
    )
    monkeypatch.setattr(other_load, "Path", lambda name: stat)
    monkeypatch.setattr(other_load.os, "times", lambda: (1.5, 0.5, 7.0, 7.0, 100.0))
    assert other_load.cpu_seconds() == 3 + 2 + 1 - 2
    assert other_load.OtherLoad().share() == 0


def test_the_plot_is_svg_with_a_bar_for_each_engine(path: Path) -> None:
    root = ElementTree.fromstring(plot(results.read(path)))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("rx")]
    assert len(bars) == 4
    widths = [float(rect.attrib["width"]) for rect in bars]
    assert widths == sorted(widths, reverse=True)
    assert "wrong result" in "".join(root.itertext())


def test_rendering_replaces_the_text_between_the_marks(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"before\n{render.BEGIN}\nold\n{render.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(
        "sys.argv",
        ["render.py", str(path), "--document", str(document), "--plot", str(tmp_path / "p")],
    )
    render.main()
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert as_markdown(results.read(path)) in text
    assert (tmp_path / "p").read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(ValueError, match="lacks the marks"):
        render.insert("no marks", "")


def test_the_header_names_commit_versions_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    facts = results.machine("avx2")
    assert facts["isa"] == "avx2"
    assert facts["env"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert {"bwn", "numpy", "onnxruntime"} <= facts["versions"].keys()
    assert set(MACHINE) == set(facts)


def test_the_commit_is_marked_where_the_sources_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    call = subprocess.run

    def run(words: Any, cwd: Any = None, **rest: Any) -> subprocess.CompletedProcess[str]:
        if words[0] != "git":
            return call(words, cwd=cwd, **rest)
        if "status" not in words:
            return subprocess.CompletedProcess(words, 0, "0123456789ab\n")
        folders = [cwd / folder for folder in words[words.index("--") + 1 :]]
        assert all((folder / "__init__.py").exists() for folder in folders[:2]), folders
        return subprocess.CompletedProcess(words, 0, " M bwn/model.py\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert results.machine("native")["commit"] == "0123456789ab+"
