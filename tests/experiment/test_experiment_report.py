"""Table and plots of invented records."""

from __future__ import annotations

import re
import sys

import pytest

from bwn.errors import BwnError, FileError
from bwn.experiment.groups import read_groups
from bwn.experiment.record import add_record
from bwn.experiment.report import markdown, rows, write_report

ERRORS = {
    "margin": (0.010, 0.012, 0.011),
    "float": (0.013, 0.014, 0.015),
    "stochastic": (0.011, 0.014, 0.014),
}


@pytest.fixture
def folder(tmp_path, made_up):
    folder = tmp_path / "one"
    folder.mkdir()
    for scheme, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            real = {"test_error_real_weights": 0.02} if scheme == "stochastic" else {}
            add_record(folder, made_up(scheme, seed, error, **real))
    settings = {**made_up("float", 0, 0.1).settings, "weight_decay": 1e-3}
    add_record(
        folder,
        made_up(
            "float", 1, 0.018, name="float-weight-decay0.001-seed1", sweep=True, settings=settings
        ),
    )
    for strength in (1e-2, 1e-6):
        more = {"name": f"margin-lambda{strength}-seed1", "sweep": True, "strength": strength}
        add_record(folder, made_up("margin", 1, 0.017, **more))
    return folder


def test_the_table(folder):
    lines = markdown(read_groups([folder]), ["errors.svg"]).splitlines()
    assert lines[0] == (
        "| scheme | runs | test error % | range | margin minus scheme "
        "| validation % | train % | near +-1 % |"
    )
    # margin - float: -0.3, -0.2, -0.4 points: mean -0.3, deviation 0.1, t / sqrt(3) = 2.4842.
    assert lines[2:9] == [
        "| float | 3 | 1.40 +- 0.10 | 1.30 to 1.50 | -0.30 [-0.55, -0.05] (3) "
        "| 3.00 +- 0.00 | 1.00 +- 0.00 | - |",
        "| stochastic | 3 | 1.30 +- 0.17 | 1.10 to 1.40 | -0.20 [-0.45, +0.05] (3) "
        "| 3.00 +- 0.00 | 1.00 +- 0.00 | 96.0 +- 0.0 |",
        "| stochastic, with its real weights | 3 | 2.00 +- 0.00 | 2.00 to 2.00 "
        "| -0.90 [-1.15, -0.65] (3) | - | - | 96.0 +- 0.0 |",
        "| margin | 3 | 1.10 +- 0.10 | 1.00 to 1.20 | - "
        "| 3.00 +- 0.00 | 1.00 +- 0.00 | 96.0 +- 0.0 |",
        "| float, weight decay 0.001 | 1 | 1.80 | 1.80 to 1.80 | -0.60 (1) | 3.00 | 1.00 | - |",
        "| margin, lambda 1e-06 | 1 | 1.70 | 1.70 to 1.70 | -0.50 (1) | 3.00 | 1.00 | 96.0 |",
        "| margin, lambda 0.01 | 1 | 1.70 | 1.70 to 1.70 | -0.50 (1) | 3.00 | 1.00 | 96.0 |",
    ]
    assert lines[10] == (
        "- shapes: mlp of width 64, 2 epochs of 900 images, batches of 50, "
        "learning rate 0.001 to 3e-06, augmentation none, float32; "
        "100 images held out, 200 test images."
    )
    assert lines[-1] == "![errors](errors.svg)"


def test_without_margin_or_test_images_there_is_a_dash(tmp_path, made_up):
    add_record(tmp_path, made_up("float", 0, None))
    assert (
        markdown(read_groups([tmp_path])).splitlines()[2]
        == "| float | 1 | - | - | - | 3.00 | 1.00 | - |"
    )


def test_a_sweep_alone_is_nothing_to_compare_with(tmp_path, made_up):
    add_record(tmp_path, made_up("float", 0, 0.1))
    add_record(tmp_path, made_up("margin", 0, 0.2, sweep=True))
    assert [row.less for row in rows(read_groups([tmp_path]))] == [None, None]


def test_several_folders_share_one_table(folder, tmp_path, made_up):
    other = tmp_path / "two"
    other.mkdir()
    add_record(other, made_up("float", 1, 0.02))
    by_name = {row.name: row for row in rows(read_groups([folder, other]))}
    assert by_name["two: float"].less == (1, pytest.approx(0.012 - 0.02), None, None)
    with pytest.raises(BwnError, match="two folders have the same name"):
        read_groups([folder, folder])
    with pytest.raises(FileError, match="has no finished run"):
        read_groups([tmp_path])


def test_the_plots_are_there_and_the_same_bytes_twice(folder):
    pytest.importorskip("matplotlib")
    files, missing = write_report(read_groups([folder]), folder)
    assert (files, missing) == (["table.md", "errors.svg", "weights.svg", "lambda.svg"], None)
    first = {name: (folder / name).read_bytes() for name in files}
    write_report(read_groups([folder]), folder)
    assert {name: (folder / name).read_bytes() for name in files} == first
    texts = {
        name: set(re.findall(r">([^<>\n]+)</text>", first[name].decode())) for name in files[1:]
    }
    assert {"float", "stochastic", "margin", "real weights"} <= texts["errors.svg"]
    assert {"stochastic", "margin", "start", "epoch 1", "epoch 2"} <= texts["weights.svg"]
    assert "float" not in texts["weights.svg"], "float weights are drawn to nothing"
    assert {"1e-06", "0.0001", "0.01", "test", "validation"} <= texts["lambda.svg"]
    assert b"dc:date" not in b"".join(first.values())


def test_the_plots_show_the_numbers(folder):
    pytest.importorskip("matplotlib")
    from bwn.experiment import plots

    groups = read_groups([folder])
    points = plots._errors(groups).axes[0].lines
    assert list(points[0].get_ydata()) == pytest.approx([1.3, 1.4, 1.5])
    assert list(points[1].get_ydata()) == pytest.approx([1.4, 1.4])
    margin = plots._weights(groups).axes[1]
    assert margin.get_title() == "margin"
    start, end = margin.patches[0].get_data().values, margin.patches[-1].get_data().values
    assert start[[0, 1, 39]] == pytest.approx([100 / 5.8, 10 / 5.8, 100 / 5.8])
    assert end[[0, 1, 39]] == pytest.approx([50, 0, 50])


def test_without_matplotlib_the_table_is_written_and_a_line_says_how_to_get_plots(
    folder, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "bwn.experiment.plots", raising=False)
    files, missing = write_report(read_groups([folder]), folder)
    assert files == ["table.md"]
    assert (
        missing
        == "drawing plots needs matplotlib, which is not installed: pip install matplotlib, or '.[plots]' in bwn's folder"
    )
    assert not list(folder.glob("*.svg"))
