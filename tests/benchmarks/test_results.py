"""The results file and what is rendered from it; how turns are taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
import render
from engines import interleave, results
from engines.plot import plot
from engines.results import LeftOut, Report, Result, Startup
from engines.tables import advantage, as_markdown, fastest

MACHINE = {
    "cpu": "Some CPU",
    "llvm_cpu": "znver3",
    "kernels": "numba",
    "features": ["avx2"],
    "cores": 2,
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
    """A result as it stands in the file."""
    middle = sorted(ms)[len(ms) // 2]
    return {
        "network": "vgg", "batch": batch, "threads": 1, "engine": engine, "kind": kind, "verdict": verdict,
        "error": 1e-6, "cosine": 0.5 if verdict == "wrong result" else 1.0, "same_class": 1.0,
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
    "left_out": [{"network": "vgg", "engine": "openvino", "kind": "int8", "reason": "openvino is not installed"}],
    "startups": [
        {"network": "vgg", "engine": "bwn", "kind": "float32", "seconds": 0.41, "peak_mb": 120.4, "runs": 5},
    ],
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "bench.json"
    found.write_bytes(msgspec.json.encode(FILE))
    return found


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


def test_the_fastest_right_peer_is_the_rival_turn_by_turn(path: Path) -> None:
    report = results.read(path)
    rival = fastest(report, "vgg", (1, 1), "float32")
    assert rival is not None
    assert rival.engine == "openvino"  # ncnn's scores are wrong
    assert (
        advantage(report, "vgg", (1, 1), "float32", "float32") == "3.00 x openvino"
    )  # of 3, 2 and 4
    assert advantage(report, "vgg", (1, 1), "int8", "int8") == ""


def test_engines_that_cannot_be_restricted_are_no_rivals_on_avx2(path: Path) -> None:
    report = results.read(path)
    report.machine["isa"] = "avx2"
    assert fastest(report, "vgg", (1, 16), "float32") is None
    assert "cannot be told" in as_markdown(report)


def test_tables_tell_everything(path: Path) -> None:
    text = as_markdown(results.read(path))
    for words in (
        "Some CPU", "0123456789ab", "bwn 0.1.0", "| 1 thread, batch 1 | 1 thread, batch 16 |", "**bwn** float32",
        "| 7 ms |", "500 images/s", "2.00 x onnxruntime", "(1 ms)", "**wrong result**, cosine 0.50", "0.41 s", "120 MB",
        "openvino int8 on vgg: openvino is not installed",
    ):  # fmt: skip
        assert words in text, words


def test_a_busy_machine_is_told(path: Path) -> None:
    assert "at most 1% of the CPUs" in as_markdown(results.read(path))
    busy = FILE | {
        "results": [*FILE["results"], result("bwn", "int8", [1.0, 1.0, 1.0], others=0.4)]
    }
    report = msgspec.json.decode(msgspec.json.encode(busy), type=Report)
    assert "at most 40% of the CPUs" in as_markdown(report)
    assert "not to be quoted" in as_markdown(report)


def test_the_time_of_others_leaves_this_process_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ticks = interleave.os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(
        f"cpu {3 * ticks} 0 {2 * ticks} {99 * ticks} {9 * ticks} 0 0 {ticks} 0 0\ncpu0 1 2\n",
        encoding="ascii",
    )
    monkeypatch.setattr(interleave, "Path", lambda name: stat)
    monkeypatch.setattr(interleave.os, "times", lambda: (1.5, 0.5, 7.0, 7.0, 100.0))
    assert interleave.Others.seconds() == 3 + 2 + 1 - 2
    assert interleave.Others().share() == 0


def test_the_plot_is_svg_with_a_bar_for_each_engine(path: Path) -> None:
    root = ElementTree.fromstring(plot(results.read(path)))
    bars = [one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("rx")]
    assert len(bars) == 4
    widths = [float(one.attrib["width"]) for one in bars]
    assert widths == sorted(widths, reverse=True)
    assert "wrong result" in "".join(root.itertext())


def test_rendering_replaces_what_stands_between_the_marks(
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
        render.put("no marks", "")


def test_a_turn_has_an_uncounted_call_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []
    monkeypatch.setattr(interleave, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def call(name: str, seconds: float) -> None:
        now[0] += seconds
        order.append(name)

    found = interleave.take_turns(
        {"a": lambda: call("a", 0.015625), "b": lambda: call("b", 0.5)}, 0
    )
    assert found["a"] == interleave.Turns(
        [15.625] * interleave.LEAST_TURNS, 15.625, 3 * interleave.LEAST_TURNS
    )  # 0.04 s each
    assert found["b"] == interleave.Turns(
        [500.0] * interleave.LEAST_TURNS, 500.0, interleave.LEAST_TURNS
    )
    assert order[-12:] == ["a"] * 4 + ["b"] * 2 + ["a"] * 4 + ["b"] * 2


def test_the_header_names_commit_versions_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = results.machine("avx2")
    assert found["isa"] == "avx2"
    assert found["env"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert {"bwn", "numpy", "onnxruntime"} <= found["versions"].keys()
    assert set(MACHINE) == set(found)
