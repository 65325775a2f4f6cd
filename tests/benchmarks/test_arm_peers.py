"""The report of counted instructions next to the peers'; counting needs an emulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from arm_peers import cycles, report

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs/records/arm-peers.json"


def write(folder: Path, name: str, millions: float, error: float = 1e-6) -> None:
    path = folder / "cortex-a76" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    result = {"start": 5e8, "inference": millions * 1e6, "resident": 4e7, "error": error}
    path.write_text(json.dumps(result | {"cosine": 1 - error, "cycles": {}}))


def test_the_fewest_instructions_are_bold_and_the_better_form_of_an_engine_counts(
    tmp_path: Path,
) -> None:
    write(tmp_path, "vgg.bwn.int8", 36.04)
    write(tmp_path, "vgg.onnxruntime.int8", 63)
    write(tmp_path, "vgg.onnxruntime.int8-signed", 58.3)
    write(tmp_path, "vgg.ncnn.float32", 0.4191)
    assert report.table(report.collect(tmp_path)).splitlines()[2:] == [
        "| VGG | float32 | A76 |  | **0.419** |  |  |",
        "| VGG | 8 bits, or signs | A76 | **36.0** |  |  | 58.3 |",
    ]


@pytest.mark.parametrize(("name", "error"), [("vgg.ncnn.float32", 1e-3), ("vgg.litert.int8", 0.04)])
def test_wrong_scores_are_not_reported(tmp_path: Path, name: str, error: float) -> None:
    write(tmp_path, name, 1, error)
    with pytest.raises(SystemExit, match=f"{name}: wrong scores"):
        report.collect(tmp_path)


def test_the_hottest_blocks_cover_most_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "blocks"
    # The first was translated twice; the last is a hundredth of all.
    path.write_text(f"1000 60 {'a' * 8}\n1000 30 {'a' * 8}\n2000 3 {'b' * 24}\n3000 1 {'c' * 8}\n")
    assert cycles.hottest(path) == ([("a" * 8, 90), ("b" * 24, 3)], 0.99)


def test_the_page_has_the_table_of_the_record() -> None:
    runs = json.loads(RECORD.read_text())
    page = (ROOT / "docs/arm.md").read_text()
    assert report.table(runs) in page
    assert report.cycles_table(runs) in page
