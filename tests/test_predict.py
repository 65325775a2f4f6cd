"""Images in, predictions out: any form of image, one or several, batches, errors, probabilities."""

from __future__ import annotations

import io
import os
import signal
import types
import warnings

import numpy as np
import pytest
from graphs import make_graph
from PIL import Image

from bwn.errors import ArgumentError, BwnError, DataError, GraphError, NotPreparedError
from bwn.ir.checker import check_spec
from bwn.ir.graph import Graph, Topology
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.model import Model
from bwn.ops.dense import Dense
from bwn.predict import Prediction, classify, predict, stream
from bwn.tools.verify_scores import compare_batch

GREYS = Preprocess(size=(2, 2), color="L", mean=(0.0,), std=(1.0,))


class Fake:
    """Scores: the first three of an image's four numbers."""

    def __init__(self, preprocess=GREYS, classes=("a", "b", "c")):
        dense = Dense(input="x", output="y", weight="w")
        graph = make_graph(dense, shape=(4,), w=np.eye(3, 4, dtype=np.float32))
        self.spec = ModelSpec(graph=graph, preprocess=preprocess, classes=classes)
        self.batches = []

    def run(self, x):
        self.batches.append(len(x))
        return x[:, :3]


PIXELS = np.array([[0, 255], [51, 0]], np.uint8)
E3 = np.exp([0, 1, 0.2])


@pytest.fixture
def forms(tmp_path):
    """One image in every form that is accepted."""
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    data = path.read_bytes()
    rgb = np.repeat(PIXELS[..., None], 3, axis=2)
    arrays = [PIXELS, PIXELS[..., None], rgb, np.asfortranarray(rgb)]
    files = [str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data)]
    return [*arrays, Image.fromarray(PIXELS), Image.fromarray(rgb), *files]


def test_images_of_every_form(forms):
    answers = predict(Fake(), forms)
    assert answers == [answers[0]] * len(forms)
    assert (answers[0].label, answers[0].index) == ("b", 1)
    assert answers[0].probability == pytest.approx(E3[1] / E3.sum())


def test_one_image_of_any_form_gives_one_prediction(forms):
    expected = predict(Fake(), [PIXELS])[0]
    for image in forms:
        if hasattr(image, "seek"):
            image.seek(0)
        assert predict(Fake(), image) == expected, type(image)


def test_top_gives_several_predictions_for_each_image():
    ranked = predict(Fake(), PIXELS, top=2)
    assert [guess.label for guess in ranked] == ["b", "c"]
    assert predict(Fake(), [PIXELS, PIXELS], top=2) == [ranked, ranked]
    assert predict(Fake(), PIXELS, top=1) == ranked[:1]
    assert predict(Fake(), [PIXELS], top=9)[0][:2] == ranked


def test_batches_bound_what_is_held():
    model = Fake()
    assert len(predict(model, (PIXELS for _ in range(7)), batch_size=3)) == 7
    assert model.batches == [3, 3, 1]
    assert predict(model, []) == []


def test_a_stream_goes_on_after_a_broken_image(tmp_path):
    images = [PIXELS, b"no image", tmp_path / "none.png", PIXELS / 255, PIXELS]
    for batch_size in (1, 2, 9):
        results = list(stream(Fake(), images, top=2, batch_size=batch_size))
        assert [result.image for result in results] == images
        assert [result.error is None for result in results] == [True, False, False, False, True]
        assert [len(result.predictions) for result in results] == [2, 0, 0, 0, 2]
        messages = [str(result.error) for result in results[1:4]]
        assert messages[0].startswith("images[1]: not an image")
        assert messages[1] == f"no such file: {tmp_path / 'none.png'}"
        assert messages[2].startswith("images[3]: array of float64 (2, 2), expected one image")
    assert [str(result.error) for result in stream(Fake(), ["", PIXELS])] == [
        "the path is empty",
        "None",
    ]
    with pytest.raises(DataError, match=r"^images\[1\]: not an image"):
        predict(Fake(), images)


def test_a_stream_takes_one_batch_ahead():
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield PIXELS

    results = stream(Fake(), endless(), batch_size=4)
    assert taken == []
    for count in range(1, 11):
        next(results)
        assert len(taken) == -(-count // 4) * 4


@pytest.mark.parametrize("name", ["top", "batch_size"])
def test_counts_start_at_1(name):
    for call in (predict, stream):
        with pytest.raises(ArgumentError, match=f"{name} is 0, expected 1 or more"):
            call(Fake(), [PIXELS], **{name: 0})
    with pytest.raises(ArgumentError, match=f"{name} is -1"):
        predict(Fake(), PIXELS, **{name: -1})


def test_what_cannot_be_prepared_is_refused_before_an_image_is_taken():
    with pytest.raises(NotPreparedError):
        stream(Fake(preprocess=None), iter([PIXELS]))


def test_top_is_ranked_and_equal_scores_keep_their_order():
    best = classify(Fake(classes=None), np.float32([[1, 2, 1, 9]]), top=9)[0]
    assert [(p.label, p.index) for p in best] == [("1", 1), ("0", 0), ("2", 2)]
    assert sum(p.probability for p in best) == pytest.approx(1)
    assert isinstance(best[0], Prediction)


def test_scores_are_ranked_though_their_probabilities_are_equal():
    best = classify(Fake(), np.float32([[1e-30, 2e-30, 0, 9]]), top=3)[0]
    assert [guess.label for guess in best] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "shape", [(3, 2, 2), (2, 2, 2), (2, 2, 4), (5, 2, 2, 3), (5, 2, 2, 1), (2,), (0, 2), ()]
)
def test_an_array_is_one_image_or_refused(shape):
    for images in (np.zeros(shape, np.uint8), [np.zeros(shape, np.uint8)]):
        with pytest.raises(
            DataError, match=r"^image(s\[0\])?: array of uint8 \(.*expected one image"
        ):
            predict(Fake(), images)


def test_what_cannot_be_predicted_is_said():
    with pytest.raises(NotPreparedError, match="does not say how images are prepared"):
        predict(Fake(preprocess=None), [PIXELS])
    with pytest.raises(DataError, match=r"image: array of float64 .*expected one image of uint8"):
        predict(Fake(), PIXELS / 255)
    for images in (3, None, [3], [[0, 1], [2, 3]]):
        with pytest.raises(
            ArgumentError, match=r"^images(\[0\])? is (an int|None|int|list), expected"
        ):
            predict(Fake(), images)
    with pytest.raises(ArgumentError, match=r"^images is a str, expected a list of images \("):
        stream(Fake(), "a.png")
    expected = r"expected an image \(path, .*, binary file\) or a list of them$"
    for images, kind in ((3, "an int"), (None, "None"), ({"a": 1}, "a dict")):
        with pytest.raises(ArgumentError, match=f"^images is {kind}, {expected}"):
            predict(Fake(), images)
    with pytest.raises(BwnError, match="not finite"):
        classify(Fake(), np.float32([[np.inf, 0, 0, 0]]))


def logit_model(classes, sign=1):
    """Two pixels in, their difference out: one score."""
    dense = Dense(input="x", output="y", weight="w")
    topology = Topology(input="x", input_shape=(2,), output="y", nodes=(dense,))
    weights = np.array([[sign, -sign]], np.float32)
    spec = ModelSpec(
        graph=Graph(topology=topology, tensors={"w": weights}),
        preprocess=Preprocess(size=(1, 2), color="L", mean=(0.0,), std=(1.0,)),
        classes=classes,
    )
    check_spec(spec)
    return Model(spec, threads=1)


@pytest.mark.parametrize(
    ("classes", "names"),
    [(("cat", "dog"), ("cat", "dog")), (None, ("0", "1")), (("dog",), ("not dog", "dog"))],
)
def test_a_single_score_is_the_logit_of_the_second_class(classes, names):
    model = logit_model(classes)
    bright_left, bright_right = np.array([[255, 0]], np.uint8), np.array([[0, 255]], np.uint8)
    sigmoid = 1 / (1 + np.exp(-1))
    for image, best in ((bright_left, 1), (bright_right, 0)):
        ranked = model.predict(image, top=2)
        assert [guess.label for guess in ranked] == [names[best], names[1 - best]]
        assert ranked[0].index == best
        assert [guess.probability for guess in ranked] == pytest.approx([sigmoid, 1 - sigmoid])


def test_a_single_score_takes_one_or_two_names():
    with pytest.raises(GraphError, match="classes"):
        logit_model(("a", "b", "c"))


def test_verify_compares_the_classes_of_a_single_score():
    model, opposite = logit_model(None), logit_model(None, sign=-1)

    class Session:
        departures: dict[str, float] = {}  # noqa: RUF012

        def run(self, x):
            return opposite.run(x)

    x = np.array([[1, 0], [0, 1]], np.float32)
    Session.session = types.SimpleNamespace(
        get_inputs=lambda: [types.SimpleNamespace(shape=["N", 2])]
    )
    result = compare_batch(model, Session(), x, rounded=True)
    assert result.predicted.tolist() == [1, 0]
    assert result.expected.tolist() == [0, 1]
    assert not result.close.any()


def test_frames_of_one_object_are_read_as_they_are_taken():
    def frames():
        shared = np.zeros((2, 2), np.uint8)
        for index in range(20):
            shared[:] = 0
            shared[index % 2, index % 2 - 1] = 255  # the second number, or the third
            yield shared

    expected = ["b", "c"] * 10
    assert [guess.label for guess in predict(Fake(), frames())] == expected
    image = Image.new("L", (2, 2))
    pictures = (image.putdata(list(frame.ravel())) or image for frame in frames())
    assert [guess.label for guess in predict(Fake(), pictures)] == expected


def test_what_was_taken_is_answered_before_the_source_raises(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")

    def source():
        yield from [tmp_path / "a.png"] * 5
        raise OSError("unplugged")

    results = stream(Fake(), source(), batch_size=4)
    assert [next(results).predictions[0].label for _ in range(5)] == ["b"] * 5
    with pytest.raises(OSError, match="unplugged"):
        next(results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_goes_on_with_a_stream(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    results = stream(Fake(), [tmp_path / "a.png"] * 9, batch_size=3)
    next(results)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if len(list(results)) == 8 else 1)
    assert os.waitpid(child, 0)[1] == 0
