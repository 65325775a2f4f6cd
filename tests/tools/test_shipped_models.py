"""The models that the repository ships: each is what its record says, on the images that are there to measure it.

The shipped digits are always there. The whole test sets are where BWN_DATA points: a folder with
mnist/ (IDX files) and cifar10/ (binary files). Kernels of other processors add float32 numbers in
another order, so that of scores that are nearly equal another may be the highest: two images in
ten thousand may differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from bwn.tools.evaluate import evaluate

FOLDER = Path(__file__).parents[2] / "models"
RECORDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
DATA = os.environ.get("BWN_DATA")


def test_every_model_has_a_record_and_a_line_in_the_card():
    assert RECORDS
    assert {path.stem for path in FOLDER.glob("*.bwn")} == set(RECORDS)
    card = (FOLDER / "README.md").read_text()
    for name, record in RECORDS.items():
        assert f"| `{name}.bwn` |" in card
        assert f"{100 * record['test']['error']:.2f}%" in card
        assert record["command"] in card


def check(found, recorded):
    assert found.images == recorded["images"]
    assert abs(found.right - recorded["right"]) <= 2


@pytest.mark.parametrize("name", RECORDS)
def test_the_file_is_the_recorded_one(name):
    content = (FOLDER / f"{name}.bwn").read_bytes()
    assert hashlib.sha256(content).hexdigest() == RECORDS[name]["sha256"]
    assert len(content) == RECORDS[name]["bytes"]


@pytest.mark.parametrize("name", [name for name, record in RECORDS.items() if record["sample"]])
def test_it_knows_the_shipped_digits(name):
    found = evaluate(FOLDER / f"{name}.bwn", RECORDS[name]["sample"]["data"])
    check(found, RECORDS[name]["sample"])


@pytest.mark.parametrize("name", RECORDS)
def test_it_has_the_recorded_accuracy_on_the_whole_test_set(name):
    record = RECORDS[name]
    if DATA is None or not (Path(DATA) / record["data"]).is_dir():
        pytest.skip(f"set BWN_DATA to a folder that holds {record['data']}/")
    found = evaluate(FOLDER / f"{name}.bwn", Path(DATA) / record["data"])
    check(found, record["test"])
