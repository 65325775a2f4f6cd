"""Model.predict's helper: any form of image, batches, probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bwn.errors import BwnError, DataError, FileError
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.ops import Dense
from bwn.predict import Prediction, classify, predict

GREYS = Preprocess(size=(2, 2), color="L", mean=(0.0,), std=(1.0,))


class Fake:
    """Scores: the first three of an image's four numbers."""

    def __init__(self, preprocess=GREYS, classes=("a", "b", "c")):
        dense = Dense(input="x", output="y", weight="w")
        topology = Topology(input="x", input_shape=(4,), output="y", nodes=(dense,))
        graph = Graph(topology=topology, tensors={"w": np.eye(3, 4, dtype=np.float32)})
        self.spec = ModelSpec(graph=graph, preprocess=preprocess, classes=classes)
        self.batches = []

    def run(self, x):
        self.batches.append(len(x))
        return x[:, :3]


PIXELS = np.array([[0, 255], [51, 0]], np.uint8)
E3 = np.exp([0, 1, 0.2])


def test_images_of_every_form(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    found = predict(
        Fake(),
        [PIXELS, Image.fromarray(PIXELS), tmp_path / "a.png", (tmp_path / "a.png").read_bytes()],
    )
    assert found == [found[0]] * 4
    assert (found[0].label, found[0].index) == ("b", 1)
    assert found[0].probability == pytest.approx(E3[1] / E3.sum())


def test_batches_bound_what_is_held():
    model = Fake()
    assert len(predict(model, (PIXELS for _ in range(7)), batch_size=3)) == 7
    assert model.batches == [3, 3, 1]
    assert predict(model, []) == []


def test_top_is_ranked_and_equal_scores_keep_their_order():
    best = classify(Fake(classes=None), np.float32([[1, 2, 1, 9]]), top=9)[0]
    assert [(p.label, p.index) for p in best] == [("1", 1), ("0", 0), ("2", 2)]
    assert sum(p.probability for p in best) == pytest.approx(1)
    assert isinstance(best[0], Prediction)


def test_one_image_is_not_taken_for_several():
    for image in ("a.png", b"bytes", Path("a.png"), Image.fromarray(PIXELS)):
        with pytest.raises(TypeError, match="expected several"):
            predict(Fake(), image)


def test_what_cannot_be_predicted_is_said():
    with pytest.raises(FileError, match="does not say how images are prepared"):
        predict(Fake(preprocess=None), [PIXELS])
    with pytest.raises(DataError, match="expected uint8 pixels"):
        predict(Fake(), [PIXELS / 255])
    with pytest.raises(BwnError, match="not finite"):
        classify(Fake(), np.float32([[np.inf, 0, 0, 0]]))
