"""`bwn inspect`: what it shows, its JSON, and what it refuses (more in tests/format/test_hostile_files.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from graphs import make_graph

from bwn import format
from bwn.cli.main import bwn
from bwn.ir.model_spec import ModelSpec
from bwn.kernels import costs
from bwn.ops.dense import Dense

GOLDEN = Path(__file__).parents[1] / "golden" / "every-node.bwn"


def run(*arguments):
    return CliRunner().invoke(bwn, ["inspect", *map(str, arguments)])


def test_it_shows_facts_and_layers():
    result = run(GOLDEN)
    assert result.exit_code == 0, result.output
    facts, layers = result.stdout.split("\n\n")
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in facts.splitlines()}
    assert shown["file"].startswith(f"{GOLDEN}, 2.3 KiB, ")
    assert shown["format"] == "bwn version 1, written by golden 1"
    assert shown["input"] == "3x4x4 float32 per image"
    assert (
        shown["images"]
        == "RGB, cropped to 4 x 4, then (pixel / 255 - [0.5, 0.25, 0.1]) / [1, 2, 0.3]"
    )
    assert shown["classes"] == '3: cat, a "dog", Käfer'
    rows = [line.split() for line in layers.splitlines()[2:]]
    assert len(rows) == 11
    assert rows[0] == ["conv1", "conv", "4x3x3x3", "4x4x4", "float32", "float32", "448", "B"]
    assert rows[4] == ["conv2", "conv", "4x2x2x1", "4x3x2", "1", "bit", "binary", "48", "B"]
    assert rows[5] == ["f", "add", "-", "4x3x2", "-", "-", "-"]


def test_json():
    result = run(GOLDEN, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["bytes"] == GOLDEN.stat().st_size
    assert found["classes"] == ["cat", 'a "dog"', "Käfer"]
    assert found["preprocess"]["size"] == [4, 4]
    assert [row["op"] for row in found["layers"]][:3] == ["conv", "affine", "sign"]
    assert found["multiplications"] == sum(row["multiplications"] for row in found["layers"])


def test_a_model_that_says_little(tmp_path):
    node = Dense(input="x", output="y", weight="w")
    format.write(
        tmp_path / "a.bwn",
        ModelSpec(graph=make_graph(node, shape=(5,), w=np.ones((2, 5), np.float32))),
    )
    result = run(tmp_path / "a.bwn")
    assert result.exit_code == 0, result.output
    for text in ("written by an unnamed program", "preprocessing unknown", "names unknown"):
        assert text in result.stdout


def test_many_classes_are_cut(tmp_path):
    node = Dense(input="x", output="y", weight="w")
    graph = make_graph(node, shape=(5,), w=np.ones((50, 5), np.float32))
    format.write(
        tmp_path / "a.bwn",
        ModelSpec(graph=graph, classes=tuple(f"c{index}" for index in range(50))),
    )
    result = run(tmp_path / "a.bwn")
    assert "classes  50: c0, c1, " in result.stdout
    assert "c19, ...\n" in result.stdout


def test_what_is_refused_is_one_line(tmp_path):
    (tmp_path / "a.bwn").write_bytes(GOLDEN.read_bytes()[:-1])
    for path, message in (
        (tmp_path / "a.bwn", f"{tmp_path / 'a.bwn'}: truncated: 2,327 of 2,328 bytes; "),
        (tmp_path / "none.bwn", f"no such file: {tmp_path / 'none.bwn'}"),
        (tmp_path, f"{tmp_path} is a folder, expected a .bwn file"),
    ):
        result = run(path)
        assert result.exit_code == 3
        assert result.stdout == ""
        assert result.stderr.startswith(f"Error: {message}")
        assert result.stderr.count("\n") == 1


def test_a_plan_tells_kernels_reasons_and_costs():
    result = run(GOLDEN, "--plan", "--batch", "3", "--threads", "2")
    assert result.exit_code == 0, result.output
    head, layers = result.stdout.split("\n\n")[2:]
    assert "batch 3, 2 threads, " in head
    assert " steps in 11 rows\n" in head
    assert "costs    defaults; run bwn tune to measure this machine" in head
    rows = {line.split()[0]: line for line in layers.splitlines()[2:-2]}
    assert list(rows) == ["input", "conv1", *"bcd", "conv2", *"hi", "dense1", "scores", "output"]
    assert rows["conv2"].endswith("does f, g too")
    assert layers.splitlines()[-2].startswith("parts/units: threads that share the work")
    for name in ("conv1", "conv2", "dense1"):
        assert re.search(r"  fastest: [\d.]+ us \(.*single [\d.]+", rows[name]) or "(" in rows[name]
    assert (
        rows["conv1"].split()[2:6] == ["1/6", "27", "4", "20"]
        or "single" in rows["conv1"].split()[1]
    )


@pytest.mark.parametrize("option", ["--batch", "--threads"])
def test_what_only_a_plan_has_is_wrong_usage_without_it(option):
    result = run(GOLDEN, option, "2")
    assert result.exit_code == 2
    assert f"{option} needs --plan." in result.stderr


def test_a_plan_as_json():
    result = run(GOLDEN, "--plan", "--batch", "3", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["layers"]) == 11
    plan = found["plan"]
    assert plan["batch"] == 3
    assert plan["arena_bytes"] > 0
    assert plan["costs"]["origin"] == "default"
    named = {row["name"]: row for row in plan["layers"]}
    assert (named["conv1"]["depth"], named["conv1"]["outputs"]) == (27, 4)
    assert named["conv1"]["microseconds"] > 0
    assert named["b"]["microseconds"] is None
    assert "plan" not in json.loads(run(GOLDEN, "--json").stdout)


def test_a_damaged_cost_table_is_told_of_and_left():
    path = costs.table_path()
    path.parent.mkdir()
    path.write_text("{")
    result = run(GOLDEN, "--plan")
    assert result.exit_code == 0, result.output
    assert "costs    defaults, since the measured table is damaged" in result.stdout
