"""Names in any script, and bytes that are no text, come through training, packing and inference."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bwn.cli.main import bwn
from bwn.model import load

JOINED = "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627"  # Persian, with a zero-width non-joiner
FOLDERS = {
    os.fsencode(JOINED): JOINED,
    b"caf\xe9": "caf\\xe9",
    'a,b "c"; \u3000d'.encode(): 'a,b "c"; \u3000d',
}
"""Name of a folder in bytes to the name of its class."""


def run(*args):
    result = CliRunner().invoke(bwn, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The folder of the images, and a network trained on them."""
    root = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(3)
    for index, folder in enumerate(FOLDERS):
        path = os.path.join(os.fsencode(root), b"photos", folder)
        os.makedirs(path)
        for number in range(12):
            pixels = np.clip(rng.normal(60 + 70 * index, 5, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(os.fsdecode(os.path.join(path, b"\xff%d.png" % number)))
    data, model, target = root / "photos", root / "m.pt", root / "m.bwn"
    run("train", "--data", data, "-o", model, "--width", 32, "--epochs", 40, "--threads", 1)
    run("pack", model, "-o", target)
    return data, target


def test_the_file_has_the_names(packed):
    assert set(load(packed[1]).classes) == set(FOLDERS.values())
    assert JOINED in run("inspect", packed[1])


def test_json_and_csv_and_tables_have_the_names(packed):
    data, target = packed
    table = run("infer", target, data)
    rows = list(csv.DictReader(io.StringIO(run("infer", target, data, "--csv"))))
    objects = [json.loads(line) for line in run("infer", target, data, "--json").splitlines()]
    assert len(rows) == len(objects) == 36
    for row, found in zip(rows, objects, strict=True):
        folder = os.fsencode(os.path.basename(os.path.dirname(found["path"])))
        assert os.path.exists(found["path"]), "the path can be opened again"
        assert row["label"] == found["label"] == FOLDERS[folder], "well separated classes"
    assert all(name in table for name in FOLDERS.values())


def test_evaluation_has_the_names(packed):
    data, target = packed
    result = json.loads(run("evaluate", target, "--data", data, "--json"))
    assert {row["name"] for row in result["classes"]} == set(FOLDERS.values())
    assert result["accuracy"] == 1
