"""A job on very many images: every image has one row, whatever happens on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graphs import floats, make_graph

from bwn import predict
from bwn._types import Floats
from bwn.errors import BwnError, DataError, FileError, NotPreparedError
from bwn.ir.model_spec import ModelSpec
from bwn.model import Model, load
from bwn.ops.dense import Dense
from bwn.tools.batch_job import BatchJob, Row, classify, split
from bwn.tools.demo import write_digits

MODELS = Path(__file__).resolve().parents[2] / "models"
LENET = MODELS / "mnist-lenet.bwn"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twenty digits, and a file that is no image."""
    write_digits(tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def model() -> Model:
    return load(LENET, threads=1)


def rows_of(folder: Path) -> list[Row]:
    parts = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def run(job: BatchJob, model: Model, size: int = 5) -> None:
    job.collect(classify(model, part) for part in split(job.rest, size))


def test_rows_are_those_of_infer(images: Path, model: Model, tmp_path: Path) -> None:
    job = BatchJob(tmp_path / "rows", LENET, images)
    lines: list[str] = []
    summary = job.collect((classify(model, part) for part in split(job.rest, 8)), lines.append)
    assert (summary.images, summary.done_before, summary.classified, summary.failed) == (
        21,
        0,
        20,
        1,
    )
    assert lines[-1].startswith("21 of 21 images, 1 failed, ")
    for row in rows_of(tmp_path / "rows"):
        if "error" in row:
            assert row["path"] == str(images / "broken.png")
            assert str(images) not in row["error"]
        else:
            best = model.predict(row["path"])
            assert (row["label"], row["index"]) == (best.label, best.index)
            assert row["probability"] == pytest.approx(best.probability, abs=1e-6)


def test_a_stopped_job_goes_on_without_doing_work_twice(
    images: Path, model: Model, tmp_path: Path
) -> None:
    def stopped() -> Iterator[list[Row]]:
        yield classify(model, job.rest[3:7])
        yield classify(model, job.rest[:2])
        raise KeyboardInterrupt

    job = BatchJob(tmp_path / "rows", LENET, images)
    with pytest.raises(KeyboardInterrupt):
        job.collect(stopped())
    (tmp_path / "rows" / ".part-0.jsonl.x1").write_bytes(b'{"pa')  # of a process that was killed
    again = BatchJob(tmp_path / "rows", LENET, images)
    assert again.rest == job.rest[2:3] + job.rest[7:]
    run(again, model)
    assert sorted(row["path"] for row in rows_of(tmp_path / "rows")) == sorted(job.rest)
    assert BatchJob(tmp_path / "rows", LENET, images).rest == []


def test_an_engine_that_loses_images_is_an_error(
    images: Path, model: Model, tmp_path: Path
) -> None:
    job = BatchJob(tmp_path / "rows", LENET, images)
    with pytest.raises(BwnError, match="left out 18 images"):
        job.collect([classify(model, job.rest[:3])])


def test_new_images_are_added(
    images: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(BatchJob(tmp_path / "rows", LENET, images), model)
    odd = images / os.fsdecode(b"\xff.png")  # a name that is no text
    odd.write_bytes(next(images.glob("0/*.png")).read_bytes())
    monkeypatch.chdir(images)  # paths are absolute: it is the same folder
    job = BatchJob(tmp_path / "rows", LENET, ".")
    assert job.rest == [str(odd)]
    run(job, model)
    assert BatchJob(tmp_path / "rows", LENET, images).rest == []


def test_what_would_mix_or_lose_rows_is_refused(images: Path, model: Model, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    run(BatchJob(rows, LENET, images), model)
    with pytest.raises(FileError, match="rows of another model"):
        BatchJob(rows, MODELS / "mnist-mlp.bwn", images)
    with pytest.raises(FileError, match=r"is not empty and has no job\.json"):
        BatchJob(images, LENET, images)
    part = min(rows.glob("*.jsonl"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(FileError, match=f"{part.name}: damaged; delete it"):
        BatchJob(rows, LENET, images)
    (rows / "job.json").write_bytes(b"[]")
    with pytest.raises(FileError, match="not written by this job"):
        BatchJob(rows, LENET, images)
    with pytest.raises(DataError, match="is not a folder"):
        BatchJob(tmp_path / "new", LENET, images / "broken.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        BatchJob(tmp_path / "new", LENET, tmp_path / "empty")


def test_an_image_with_infinite_scores_fails_alone(
    images: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(_spec: object, image: str, _name: str) -> Floats:
        return np.full((1, 28, 28), np.nan if image == paths[1] else 0, np.float32)

    paths = sorted(map(str, images.glob("*/*.png")))[:4]
    monkeypatch.setattr(predict, "to_input", poisoned)
    rows = classify(model, paths)
    assert [row["path"] for row in rows] == paths
    assert ["error" in row for row in rows] == [False, True, False, False]


def test_a_model_that_takes_no_images_ends_the_job(images: Path) -> None:
    graph = make_graph(Dense(input="x", output="y", weight="w"), shape=(70,), w=floats(10, 70))
    with pytest.raises(NotPreparedError):
        classify(Model(ModelSpec(graph=graph), threads=1), [str(images / "broken.png")])
