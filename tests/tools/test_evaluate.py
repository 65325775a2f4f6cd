"""Accuracy of a packed model on a data set: the counts, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from graphs import make_graph
from PIL import Image

from bwn.cli.main import bwn
from bwn.errors import ArgumentError, BwnError, DataError
from bwn.format import write
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.metrics import accuracy_of, confused_text, confusion, most_confused
from bwn.model import Model
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.predict import NotPreparedError
from bwn.tools.evaluate import evaluate

CLASSES = ("dark", "light")
PREPROCESS = Preprocess(size=(4, 4), color="L", mean=(0.5,), std=(0.5,))


def spec(classes=CLASSES, preprocess=PREPROCESS, scale=1 / 16, outputs=2):
    """Scores are -sum and +sum of the 16 prepared pixels (more outputs repeat the first), divided by 16."""
    nodes = (Flatten(input="x", output="f"), Dense(input="f", output="y", weight="w", scale="s"))
    weights = np.ones((outputs, 16)) * -1
    weights[1] = 1
    tensors = {"w": bits.pack(weights), "s": np.full(outputs, scale, np.float32)}
    return ModelSpec(
        graph=make_graph(*nodes, shape=(1, 4, 4), **tensors), preprocess=preprocess, classes=classes
    )


@pytest.fixture
def photos(tmp_path):
    """Ten test images: 4 of 6 dark ones are dark, 3 of 4 light ones are light."""
    levels = {"dark": [10, 20, 30, 40, 200, 210], "light": [220, 230, 240, 50]}
    for split in ("train", "test"):
        for name, values in levels.items():
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for index, value in enumerate(values):
                Image.new("L", (4, 4), value).save(
                    tmp_path / "photos" / split / name / f"{index}.png"
                )
    write(str(tmp_path / "m.bwn"), spec())
    return tmp_path / "photos"


def test_confusions_are_counted():
    labels, answers = np.array([0, 0, 1, 2, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 1, 2])
    counts = confusion(labels, answers, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [2, 1, 1]]
    assert accuracy_of(counts) == 3 / 7
    assert most_confused(counts) == [(2, 0, 2), (0, 1, 1), (2, 1, 1)]
    assert most_confused(counts, 1) == [(2, 0, 2)]
    assert (
        confused_text(counts, "abc")
        == "c taken for a (2 times), a taken for b (1 time), c taken for b (1 time)"
    )
    assert confused_text(np.diag([3, 4]), "ab") == ""


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_counts_are_right(photos, batch_size):
    said = []
    found = evaluate(Model(spec(), 1), photos, batch_size=batch_size, progress=said.append)
    assert found.confusion == ((4, 2), (1, 3))
    assert (found.images, found.right, found.accuracy) == (10, 7, 0.7)
    assert found.error == pytest.approx(0.3)
    assert [(row.name, row.images, row.right) for row in found.classes] == [
        ("dark", 6, 4),
        ("light", 4, 3),
    ]
    assert [row.recall for row in found.classes] == [4 / 6, 3 / 4]
    assert said[-2:] == ["10 of 10 images", ""]


def test_classes_are_found_by_name_and_may_have_no_images(photos):
    found = evaluate(Model(spec(("light", "dark", "absent"), outputs=3), 1), photos)
    assert found.confusion == ((1, 3, 0), (4, 2, 0), (0, 0, 0)), (
        "the model's light is what it calls dark"
    )
    assert [row.recall for row in found.classes] == [1 / 4, 2 / 6, None]


def test_the_command_prints_a_table_or_json(photos):
    model = photos.parent / "m.bwn"
    result = CliRunner().invoke(
        bwn, ["evaluate", str(model), "--data", str(photos), "--threads", "1"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "class  images  right  recall",
        "-----  ------  -----  ------",
        "dark        6      4  66.67%",
        "light       4      3  75.00%",
        "",
        "Most frequent confusions: dark taken for light (2 times), light taken for dark (1 time)",
        f"Accuracy 70.00% (error 30.00%; 95% interval 39.7% to 89.2%) on 10 images of {photos} (test split)",
    ]
    result = CliRunner().invoke(
        bwn, ["evaluate", str(model), "--data", str(photos), "--samples", "6", "--json"]
    )
    found = json.loads(result.stdout)
    assert found["confusion"] == [[3, 1], [0, 2]]
    assert found["classes"][1] == {"name": "light", "images": 2, "right": 2, "recall": 1.0}


def test_of_many_classes_the_worst_are_listed(photos):
    from bwn.cli.evaluate import text
    from bwn.tools.evaluate import ClassResult

    found = evaluate(Model(spec(), 1), photos)
    many = tuple(ClassResult(f"c{index}", 10, index % 10, index % 10 / 10) for index in range(30))
    shown = text(
        type(found)(**{**vars_of(found), "classes": many, "confusion": ((10,) * 30,) * 30})
    ).splitlines()
    assert [line.split()[0] for line in shown[2:5]] == ["c0", "c10", "c20"]
    assert shown[22] == "The 20 of 30 classes with the lowest recall."


def vars_of(found):
    return {name: getattr(found, name) for name in found.__struct_fields__}


def test_what_cannot_be_measured_is_refused(photos, tmp_path):
    with pytest.raises(NotPreparedError):
        evaluate(Model(spec(preprocess=None), 1), photos)
    with pytest.raises(DataError, match="has no labels; accuracy needs folders of images"):
        evaluate(Model(spec(), 1), photos / "test" / "dark")
    with pytest.raises(DataError, match="class 'dark' is not one of the model's classes"):
        evaluate(Model(spec(("a", "b")), 1), photos)
    with pytest.raises(DataError, match="has class 9, but the model has 2 classes"):
        evaluate(Model(spec(None), 1), "mnist-sample")
    for data, samples, message in (
        (photos, 0, "samples is 0, expected 1 or more"),
        (None, None, "None is not a path"),
        (b"a" * 1000, None, r"^b'a{9,15}\.\.\.a{9,15}' is not a path$"),
        (photos, [7] * 1000, r"^samples is \[7, .*\.\.\.\], expected a whole number$"),
        ("", None, "the path is empty"),
    ):
        with pytest.raises(ArgumentError, match=message):
            evaluate(Model(spec(), 1), data, samples=samples)
    with pytest.raises(BwnError, match="scores are not finite"):
        evaluate(Model(spec(scale=3e38), 1), photos)
    result = CliRunner().invoke(
        bwn, ["evaluate", str(tmp_path / "m.bwn"), "--data", str(tmp_path / "none")]
    )
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: no such folder: {tmp_path / 'none'}")
