"""examples/dask/ and examples/ray/ with two workers: killed on the way, then run to the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bwn
from bwn.cli.infer import SOME_FAILED
from bwn.data.datasets import load_dataset

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "mnist-lenet.bwn"
COUNT = 600


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(load_dataset("mnist-sample", "test").images[:COUNT]):
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def start(engine: str, *arguments: object) -> subprocess.Popen[str]:
    """The script, with its workers in a group of processes that a terminal would interrupt."""
    script = ROOT / "examples" / engine / "classify_folder.py"
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    words = map(str, (sys.executable, script, *arguments, "--workers", 2, "--part", 50))
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


@pytest.mark.parametrize(("engine", "package"), [("dask", "dask.distributed"), ("ray", "ray.data")])
def test_every_image_has_one_row(engine: str, package: str, images: Path, tmp_path: Path) -> None:
    pytest.importorskip(package)
    rows = tmp_path / "rows"
    job = start(engine, MODEL, images, rows)
    end = time.monotonic() + 300
    while not list(rows.glob("*.jsonl")) and job.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGINT)
    out, err = job.communicate(timeout=120)
    assert job.returncode == 130, err
    assert "the same command goes on" in err
    before = sum(len(part.read_text().splitlines()) for part in rows.glob("*.jsonl"))
    assert 50 <= before < COUNT

    job = start(engine, MODEL, images, rows)
    out, err = job.communicate(timeout=300)
    assert job.returncode == SOME_FAILED, err
    summary = json.loads(out)
    assert (summary["done_before"], summary["failed"]) in [(before, 0), (before, 1)]
    assert summary["classified"] + summary["failed"] + before == COUNT + 1
    found = [json.loads(line) for p in rows.glob("*.jsonl") for line in p.read_text().splitlines()]
    assert sorted(row["path"] for row in found) == sorted(map(str, images.iterdir()))
    model = bwn.load(MODEL, threads=1)
    by_path = {row["path"]: row for row in found}
    assert by_path.pop(str(images / "broken.png")).keys() == {"path", "error"}
    best = model.predict(list(by_path))
    assert [row["label"] for row in by_path.values()] == [b.label for b in best]
    chances = [row["probability"] for row in by_path.values()]
    np.testing.assert_allclose(chances, [b.probability for b in best], atol=1e-6)
