"""`bwn infer`: order, forms, broken images, and how much it holds at once."""

from __future__ import annotations

import csv
import io
import json
import logging
import os

import numpy as np
import pytest
from click.testing import CliRunner
from graphs import make_graph
from msgspec.structs import replace
from PIL import Image

from bwn.cli.infer import classified
from bwn.cli.main import bwn
from bwn.format import write
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.model import Model, load
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.softmax import Softmax

CLASSES = ("dark", "light")
PREPROCESS = Preprocess(size=(4, 4), color="L", mean=(0.5,), std=(0.5,))


def spec(classes=CLASSES, preprocess=PREPROCESS, softmax=False):
    """Scores are -sum and +sum of the 16 prepared pixels, divided by 16."""
    nodes = (Flatten(input="x", output="f"), Dense(input="f", output="y", weight="w", scale="s"))
    nodes += (Softmax(input="y", output="p"),) if softmax else ()
    weights = np.ones((2, 16)) * [[-1], [1]]
    tensors = {"w": bits.pack(weights), "s": np.full(2, 1 / 16, np.float32)}
    return ModelSpec(
        graph=make_graph(*nodes, shape=(1, 4, 4), **tensors), preprocess=preprocess, classes=classes
    )


@pytest.fixture
def folder(tmp_path):
    """Images a (white), b/c (black), d (grey 191); a model; and a broken image."""
    for name, value in (("a", 255), ("b/c", 0), ("d", 191)):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), value).save(path)
    write(str(tmp_path / "m.bwn"), spec())
    (tmp_path / "bad.png").write_text("no image")
    return tmp_path


def infer(folder, *args, model="m.bwn", stdin=None):
    paths = [str(folder / arg) if "." in arg or arg == "images" else arg for arg in args]
    return CliRunner().invoke(
        bwn, ["infer", str(folder / model), *paths, "--threads", "1"], input=stdin
    )


CERTAIN = 1 / (1 + np.exp(-2))  # scores -1 and 1


def test_table_in_order(folder):
    result = infer(folder, "images")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "class  probability  image"
    assert [line.split()[0] for line in lines[1:]] == ["light", "dark", "light"]
    assert lines[1] == f"light       88.08%  {folder / 'images' / 'a.png'}"
    assert lines[3].endswith("d.png")


@pytest.mark.parametrize("batch_size", ["1", "2", "16"])
def test_json_lines(folder, batch_size):
    result = infer(
        folder, "images/d.png", "bad.png", "images", "--json", "--batch-size", batch_size
    )
    assert result.exit_code == 4
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["path"].rsplit("/", 1)[1] for row in rows] == [
        "d.png",
        "bad.png",
        "a.png",
        "c.png",
        "d.png",
    ]
    assert rows[1]["error"].startswith("not an image")
    assert (rows[2]["label"], rows[2]["index"]) == ("light", 1)
    assert rows[2]["probability"] == pytest.approx(CERTAIN)
    assert "Error: cannot read 1 of 5 images\n" in result.stderr


def test_csv_and_top(folder):
    result = infer(folder, "images", "--csv", "--top", "5", "--limit", "1")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["rank"], row["label"], row["index"]) for row in rows] == [
        ("1", "light", "1"),
        ("2", "dark", "0"),
    ]
    assert float(rows[0]["probability"]) + float(rows[1]["probability"]) == pytest.approx(
        1, abs=1e-5
    )
    top = json.loads(infer(folder, "images", "--json", "--top", "2", "--limit", "1").stdout)["top"]
    assert [entry["label"] for entry in top] == ["light", "dark"]
    table = infer(folder, "images", "--top", "2", "--limit", "1").stdout.splitlines()[1]
    assert table.split()[:4] == ["light", "88.08%", "dark", "11.92%"]


def test_a_broken_image_is_one_line_and_the_rest_goes_on(folder):
    result = infer(folder, "bad.png", "missing.png", "images")
    assert result.exit_code == 4
    assert len(result.stdout.splitlines()) == 4
    errors = result.stderr.splitlines()
    assert "bad.png: not an image" in errors[0]
    assert errors[1] == f"Error: no such file: {folder / 'missing.png'}"
    assert errors[2] == "Error: cannot read 2 of 5 images"
    assert len(errors) == 3


def test_paths_from_standard_input(folder):
    listed = f"{folder}/images/d.png\n\n{folder}/images/b\r\n"
    result = infer(folder, "-", stdin=listed)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["light", "dark"]
    empty = infer(folder, "-", stdin="")
    assert (empty.exit_code, empty.stderr) == (3, "Error: no images in standard input\n")
    odd = infer(folder, "-", stdin=b"\xff\n")
    assert (odd.exit_code, odd.stderr.splitlines()) == (
        4,
        ["Error: no such file: \\udcff"],
    )


def test_folders_inside_folders_can_be_left_out(folder):
    result = infer(folder, "images", "--no-recursive")
    assert [line.rsplit("/", 1)[1] for line in result.stdout.splitlines()[1:]] == ["a.png", "d.png"]


def test_links_that_are_not_followed_are_named(folder):
    images = folder / "images"
    (images / "again").symlink_to(".")
    (images / "gone").symlink_to("nowhere")
    result = infer(folder, "images")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1 + 3
    assert f"Skipped, links that lead nowhere: 1 ({images / 'gone'})" in result.stderr
    assert f"Skipped, links to folders: 1 ({images / 'again'})" in result.stderr


def test_no_images_is_an_error(folder):
    (folder / "images.empty").mkdir()
    result = infer(folder, "images.empty")
    assert result.exit_code == 3
    assert result.stderr == f"Error: no images in {folder / 'images.empty'}\n"


def test_a_softmax_in_the_graph_is_not_repeated(folder):
    write(str(folder / "soft.bwn"), spec(softmax=True, classes=None))
    row = json.loads(infer(folder, "images/a.png", "--json", model="soft.bwn").stdout)
    assert row["probability"] == pytest.approx(CERTAIN)
    assert row["label"] == "1"


def test_a_model_without_preprocessing_is_refused(folder):
    write(str(folder / "bare.bwn"), spec(preprocess=None))
    result = infer(folder, "images", model="bare.bwn")
    assert result.exit_code == 3
    assert "does not say how images are prepared" in result.stderr


def test_models_that_are_none_are_one_line(folder):
    cut = (folder / "m.bwn").read_bytes()
    (folder / "cut.bwn").write_bytes(cut[: len(cut) // 2])
    for model in ("cut.bwn", "bad.png", "none.bwn", "images"):
        result = infer(folder, "images", model=model)
        assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1), (model, result.output)
        assert result.stderr.startswith("Error: ")


def test_two_forms_at_once_are_wrong_usage(folder):
    assert infer(folder, "images", "--json", "--csv").exit_code == 2


def test_the_first_answer_comes_at_once_and_reading_stays_one_batch_ahead(folder):
    taken = []

    def paths():
        while True:
            taken.append(None)
            yield folder / "images" / "a.png"

    results = classified(Model(spec(), 1), paths(), top=1, batch_size=8)
    next(results)
    assert len(taken) == 1
    assert all(next(results).error is None for _ in range(20))
    assert len(taken) == 25


def test_a_limit_takes_no_image_more(folder):
    result = infer(folder, "-", "--limit", "2", "--batch-size", "4", stdin=f"{folder}/images\n" * 9)
    assert len(result.stdout.splitlines()) == 3


def test_verbose_logs_files_and_plans(folder, caplog):
    result = infer(folder, "images", "--verbose")
    logging.getLogger("bwn").setLevel(logging.NOTSET)
    assert result.exit_code == 0, result.output
    log = [record.getMessage() for record in caplog.records]
    assert log[0].startswith(f"reading {folder / 'm.bwn'}, ")
    assert log[1].startswith("planned batch 1: ")
    assert "on 1 thread, " in log[1]
    assert "; kernels: " in log[1]


def test_watch_answers_each_image_that_arrives(folder, monkeypatch):
    def arrive(_seconds):
        Image.new("L", (9, 9), 255).save(folder / "images" / "new.png")
        os.utime(folder / "images" / "new.png", ns=(1, 1))

    monkeypatch.setattr("bwn.data.watch.time.sleep", arrive)
    result = infer(folder, "images", "--watch", "--limit", "1", "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == f"Watching {folder / 'images'} (Ctrl-C to stop)\n"
    (line,) = map(json.loads, result.stdout.splitlines())
    assert (line["path"], line["label"]) == (str(folder / "images" / "new.png"), "light")


def test_an_image_that_arrives_while_the_model_loads_is_answered(folder, monkeypatch):
    def arrive_and_load(*arguments):
        Image.new("L", (9, 9), 255).save(folder / "images" / "new.png")
        return load(*arguments)

    def arrive(_seconds):
        Image.new("L", (9, 9), 0).save(folder / "images" / "newer.png")

    monkeypatch.setattr("bwn.model.load", arrive_and_load)
    monkeypatch.setattr("bwn.data.watch.time.sleep", arrive)
    result = infer(folder, "images", "--watch", "--limit", "1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["path"] == str(folder / "images" / "new.png")


def test_watch_wants_folders(folder):
    result = infer(folder, "bad.png", "--watch")
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr


def test_many_ranks_have_a_row_each(folder):
    names = ("zero", "one", "two", "three")
    weights = bits.pack(np.ones((4, 16)) * [[-1], [1], [1], [-1]])
    graph = spec().graph
    tensors = {"w": weights, "s": np.float32([1, 2, 3, 4]) / 16}
    write(str(folder / "four.bwn"), replace(spec(names), graph=replace(graph, tensors=tensors)))
    result = infer(folder, "images", "--top", "4", "--limit", "1", model="four.bwn")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "rank  class  probability  image"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["1", "two"],
        ["2", "one"],
        ["3", "zero"],
        ["4", "three"],
    ]
    assert all(line.endswith("a.png") for line in lines[1:])


def test_the_model_comes_first(folder):
    result = infer(folder, "m.bwn", model="images")
    assert result.exit_code == 2
    assert f"MODEL comes first: bwn infer {folder / 'm.bwn'} {folder / 'images'}" in result.stderr
    result = infer(folder, "images", model="images")
    assert result.exit_code == 3
    assert result.stderr == f"Error: {folder / 'images'} is a folder, expected a .bwn file\n"


def test_json_errors_do_not_repeat_the_path(folder):
    result = infer(folder, "missing.png", "--json")
    assert result.exit_code == 4
    path = str(folder / "missing.png")
    assert json.loads(result.stdout) == {"path": path, "error": "no such file"}
    assert result.stderr == ""
    os.mkfifo(folder / "pipe.png")
    assert json.loads(infer(folder, "pipe.png", "--json").stdout) == {
        "path": str(folder / "pipe.png"),
        "error": "is not a regular file, expected an image",
    }
