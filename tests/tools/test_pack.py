"""bwn.pack: what is stored, how inputs are read, what is assumed, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from graphs import make_graph, save_onnx
from onnx_models import f32, model, op
from PIL import Image

from bwn import format
from bwn.errors import ArgumentError, BwnError, DataError, FileError, GraphError
from bwn.format.writer import to_bytes
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.session import Session
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.passes import pipeline
from bwn.tools import pack_check
from bwn.tools.pack import pack
from bwn.tools.pack_check import random_input
from bwn.tools.verify import verify


def signs(*shape, seed=0, alpha=0.5):
    return (np.where(np.random.default_rng(seed).random(shape) < 0.5, -1, 1) * alpha).astype(
        np.float32
    )


RULE = Preprocess(
    size=(6, 6), resize="crop", color="RGB", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
)


def network(shape=(3, 6, 6), preprocess=RULE, classes=("a", "b", "c"), first=None) -> ModelSpec:
    """conv (1 bit) - relu - conv (1 bit) - sign - pool - flatten - dense (1 bit, fed by signs) - dense (float)."""
    nodes = (
        Conv(input="x", output="c1", weight="w1", kernel=(3, 3), pads=(1, 1, 1, 1), bias="t"),
        Clamp(input="c1", output="r1", low=0.0),
        Conv(input="r1", output="c2", weight="w2", kernel=(3, 3), pads=(1, 1, 1, 1)),
        Sign(input="c2", output="s2"),
        Pool(input="s2", output="p2", kind="max", kernel=(2, 2), stride=(2, 2)),
        Flatten(input="p2", output="f"),
        Dense(input="f", output="d", weight="w3"),
        Dense(input="d", output="scores", weight="w4"),
    )
    tensors = {
        "w1": signs(4, shape[0], 3, 3) if first is None else first,
        "t": np.linspace(-1, 1, 4, dtype=np.float32),
        "w2": signs(4, 4, 3, 3, seed=1, alpha=1.0),
        "w3": signs(5, 36, seed=2),
        "w4": np.random.default_rng(3).standard_normal((3, 5)).astype(np.float32),
    }
    return ModelSpec(
        graph=make_graph(*nodes, shape=shape, **tensors), preprocess=preprocess, classes=classes
    )


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.onnx"
    save_onnx(network(), path)
    return path


def activations(path):
    return [
        node.activations
        for node in format.read(path).graph.nodes
        if isinstance(node, (Conv, Dense))
    ]


def test_the_report_and_the_file(source, tmp_path):
    target = tmp_path / "a.bwn"
    report = pack(source, target)
    spec = format.read(target)
    assert [
        (row.name, row.op, row.stored, row.activations, row.before, row.after)
        for row in report.layers
    ] == [
        ("conv1", "conv", "1 bit", "float32", 4 * (108 + 4), 4 * 8 + 2 * 16),
        ("conv2", "conv", "1 bit", "float32", 4 * 144, 4 * 8),
        ("dense1", "dense", "1 bit", "binary", 4 * 180, 5 * 8 + 20),
        ("dense2", "dense", "float32", "float32", 60, 60),
    ]
    assert report.file == target.stat().st_size
    assert report.before == sum(row.before for row in report.layers)
    assert report.after == sum(array.nbytes for array in spec.graph.tensors.values())
    assert report.notes == ()
    assert (spec.preprocess, spec.classes) == (RULE, ("a", "b", "c"))
    assert spec.producer.startswith("bwn ")


def test_it_computes_what_the_source_does(source, tmp_path):
    pack(source, tmp_path / "a.bwn")
    graph = format.read(tmp_path / "a.bwn").graph
    x = np.random.default_rng(5).standard_normal((4, 3, 6, 6)).astype(np.float32)
    wanted = Session(source).run(x)
    np.testing.assert_allclose(evaluate(graph, x)["scores"], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        Session(to_onnx_bytes(format.read(tmp_path / "a.bwn"))).run(x), wanted, atol=1e-5
    )


def test_the_same_source_gives_the_same_bytes(source, tmp_path):
    for name in ("a", "b"):
        pack(source, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("auto", ["float32", "float32", "binary", "float32"]),
        ("float32", ["float32", "float32", "float32", "float32"]),
        ("int8", ["int8", "uint8", "binary", "int8"]),
    ],
)
def test_activations(source, tmp_path, mode, expected):
    report = pack(source, tmp_path / "a.bwn", activations=mode)
    assert [row.activations for row in report.layers] == expected
    assert activations(tmp_path / "a.bwn") == expected
    assert report.layers[-1].stored == ("int8" if mode == "int8" else "float32")


def test_int8_weights_only_where_they_are_wanted(source, tmp_path):
    report = pack(source, tmp_path / "a.bwn", activations="int8")
    assert any("were rounded to 8 bits (float_layers" in note for note in report.notes)
    before = report.layers[-1]
    report = pack(source, tmp_path / "a.bwn", activations="int8", float_layers=True)
    after = report.layers[-1]
    assert (after.stored, after.activations) == ("float32", "float32")
    assert before.after < after.after
    assert not any("rounded to 8 bits" in note for note in report.notes)
    with pytest.raises(ArgumentError, match="float_layers needs int8 activations"):
        pack(source, tmp_path / "a.bwn", float_layers=True)


def test_int8_weights_are_verified(source, tmp_path):
    pack(source, tmp_path / "a.bwn", activations="int8")
    report = verify(tmp_path / "a.bwn", source, min_agreement=0)
    last = report.layers[-1]
    assert (last.kind, last.judged, last.agrees) == ("int8 x int8", False, True)
    assert last.reference <= 1


def test_binary_is_refused_by_the_name_of_the_layer(source, tmp_path):
    with pytest.raises(
        GraphError,
        match=r"^layer 'conv2' cannot take binary activations: its input is not a sign; ",
    ):
        pack(source, tmp_path / "a.bwn", activations="binary")
    assert not (tmp_path / "a.bwn").exists()


def test_calibration_fixes_the_steps_to_the_largest_input(source, tmp_path):
    x = np.random.default_rng(5).standard_normal((40, 3, 6, 6)).astype(np.float32)
    pack(source, tmp_path / "a.bwn", activations="int8", calibration=x)
    inner = Session(source).tensors(x, ["r1"])["r1"]
    nodes = {node.output: node for node in format.read(tmp_path / "a.bwn").graph.nodes}
    assert nodes["r1"].input_scale == float(np.abs(x).max() / np.float32(127))
    np.testing.assert_allclose(nodes["c2"].input_scale, inner.max() / 254, rtol=1e-6)
    assert nodes["d"].input_scale is None


def test_calibration_prepares_images(source, tmp_path):
    pixels = np.random.default_rng(6).integers(0, 256, (3, 6, 6, 3), np.uint8)
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    pack(
        source,
        tmp_path / "a.bwn",
        activations="int8",
        calibration=[tmp_path / "a.png", *pixels[1:]],
    )
    x = (pixels.transpose(0, 3, 1, 2) / 255 - np.reshape(RULE.mean, (3, 1, 1))) / np.reshape(
        RULE.std, (3, 1, 1)
    )
    node = format.read(tmp_path / "a.bwn").graph.nodes[0]
    np.testing.assert_allclose(node.input_scale, np.abs(x).max() / 127, rtol=1e-6)


def test_calibration_of_zeros_has_step_1(source, tmp_path):
    pack(
        source,
        tmp_path / "a.bwn",
        activations="int8",
        calibration=np.zeros((1, 3, 6, 6), np.float32),
    )
    assert format.read(tmp_path / "a.bwn").graph.nodes[0].input_scale == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"activations": "int4"},
            "activations is 'int4', expected one of auto, float32, int8, bin",
        ),
        ({"calibration": []}, "calibration needs int8 activations"),
        ({"calibration": [], "activations": "int8"}, "calibration: there are no images"),
        (
            {"calibration": np.zeros((1, 3, 5, 6), np.float32), "activations": "int8"},
            r"inputs have shape \(3, 5, 6\), the network takes \(3, 6, 6\)",
        ),
        (
            {"calibration": np.full((1, 3, 6, 6), np.inf, np.float32), "activations": "int8"},
            "an activation of the float network is not finite",
        ),
        ({"classes": ["a"]}, "1 name given, but the network's output has shape"),
        ({"preprocess": {"size": (5, 6)}}, "^size 5 x 6: the network takes "),
        ({"preprocess": {"mean": (0.5,)}}, "mean has 1 number, but the input has 3 channels"),
        (
            {"preprocess": {"std": 0.5}},
            "preprocess, std: expected a list with a number for each channel, got 0.5",
        ),
        (
            {"preprocess": {"mean": (0.5, "a", 0.5)}},
            "preprocess, mean: expected a list with a number for each channel, got ",
        ),
        (
            {"preprocess": {"colour": "RGB"}},
            "preprocess has no field 'colour'; fields: size, resize, color, mean, std, ",
        ),
        ({"preprocess": {"color": "rgb"}}, "color: expected L, RGB or BGR, got 'rgb'"),
        (
            {"preprocess": {"interpolation": "cubic"}},
            "interpolation: expected one of nearest, box, .*, got 'cubic'",
        ),
        ({"preprocess": {"size": 6}}, "size: expected height and width in pixels, got 6"),
        ({"preprocess": 5}, "preprocess is int, expected a mapping"),
        ({"classes": 3}, "classes: expected a list of names"),
        ({"classes": [1, 2, 3]}, "classes: expected a list of names"),
        ({"classes": "abc"}, "classes: expected a list of names"),
        ({"calibration": 3, "activations": "int8"}, "calibration is int, expected images"),
    ],
)
def test_options_that_do_not_fit(source, tmp_path, options, message):
    with pytest.raises(BwnError, match=message):
        pack(source, tmp_path / "a.bwn", **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["source.onnx"]


def test_single_fields_of_preprocessing_are_replaced(source, tmp_path):
    report = pack(
        source,
        tmp_path / "a.bwn",
        preprocess={"resize": "stretch", "mean": None},
        classes=["x", "y", "z"],
    )
    assert report.preprocess.resize == "stretch"
    assert report.preprocess.mean == RULE.mean
    assert report.classes == ("x", "y", "z")


def test_a_source_that_says_nothing_gets_a_default_and_a_note(tmp_path):
    save_onnx(network(preprocess=None, classes=None), tmp_path / "a.onnx")
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert report.preprocess == Preprocess(
        size=(6, 6), color="RGB", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    assert [note[:40] for note in report.notes] == [
        "the source does not say how images are p",
        "class names are unknown: predictions sho",
    ]
    both = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert (
        pack(tmp_path / "a.onnx", tmp_path / "a.bwn", preprocess=both, classes=list("abc")).notes
        == ()
    )


def test_an_input_of_features_needs_size_and_color(tmp_path):
    node = Dense(input="x", output="y", weight="w")
    save_onnx(ModelSpec(graph=make_graph(node, shape=(12,), w=signs(2, 12))), tmp_path / "a.onnx")
    assert pack(tmp_path / "a.onnx", tmp_path / "a.bwn").preprocess is None
    rule = {"size": (2, 2), "color": "RGB"}
    assert pack(tmp_path / "a.onnx", tmp_path / "a.bwn", preprocess=rule).preprocess.size == (2, 2)
    with pytest.raises(ArgumentError, match="needs size and color"):
        pack(tmp_path / "a.onnx", tmp_path / "a.bwn", preprocess={"color": "L"})


def test_a_layer_that_is_almost_binary_is_explained(tmp_path):
    first = signs(4, 3, 3, 3)
    first[2, 1, 1, 1] = 0
    save_onnx(network(first=first), tmp_path / "a.onnx")
    (note,) = pack(tmp_path / "a.onnx", tmp_path / "a.bwn").notes
    assert note == (
        "conv1: stays float32: 1 of 4 output channels hold more than +a and -a "
        "(the first is 2, with magnitudes 0 to 0.5)"
    )


def test_a_network_without_binary_weights_is_packed_with_a_note(tmp_path):
    nodes = (Flatten(input="x", output="f"), Dense(input="f", output="y", weight="w"))
    weight = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    save_onnx(ModelSpec(graph=make_graph(*nodes, shape=(1, 2, 2), w=weight)), tmp_path / "a.onnx")
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    (note,) = [note for note in report.notes if note.startswith("no layer has binary weights")]
    assert note.endswith(
        "binarize the network and train it (bwn.train.binarize, docs/own-training.md)"
    )
    assert report.layers[0].stored == "float32"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.png",
            b"\x89PNG\r\n\x1a\n",
            "not a .pt checkpoint or an ONNX file: it looks like a PNG image",
        ),
        ("a.pt", b"hello", "it looks like a text file"),
        ("a.onnx", b"hello", "not an ONNX model: it looks like a text file"),
        ("a.bwn", None, "packed already; bwn pack takes"),
        ("a", b"", "the file is empty, expected a .pt checkpoint or an ONNX file"),
        ("a", bytes(99), "not an ONNX model: unrecognized contents"),
        ("a.pt", b"PK\x03\x04" + bytes(99), "a.pt"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(to_bytes(network()) if data is None else data)
    with pytest.raises(FileError, match=message) as caught:
        pack(path, tmp_path / "target.bwn")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "target.bwn").exists()


def test_a_source_is_not_overwritten(source, tmp_path):
    before = source.read_bytes()
    with pytest.raises(ArgumentError, match="source and target are the same file; name another"):
        pack(source, source)
    for target, message in (("", "^the path is empty$"), (None, "^None is not a path$")):
        with pytest.raises(ArgumentError, match=message):
            pack(source, target)
    assert source.read_bytes() == before
    packed = tmp_path / "a.bwn"
    pack(source, packed)
    with pytest.raises(FileError, match="packed already"):
        pack(packed, packed)


def test_calibration_from_a_folder_or_a_data_set(source, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for level in (51, 255):
        Image.new("RGB", (9, 9), (level, 0, 0)).save(photos / f"{level}.png")
    expected = (1 - RULE.mean[0]) / RULE.std[0] / 127
    for folder in (photos, str(photos)):
        pack(source, tmp_path / "a.bwn", activations="int8", calibration=folder)
        node = format.read(tmp_path / "a.bwn").graph.nodes[0]
        np.testing.assert_allclose(node.input_scale, expected, rtol=1e-6)
    with pytest.raises(DataError, match="no such folder: "):
        pack(source, tmp_path / "a.bwn", activations="int8", calibration=tmp_path / "none")


def noisy(*shape, spread, seed=0):
    noise = np.random.default_rng((1, seed)).uniform(-spread, spread, shape)
    return (signs(*shape, seed=seed) * (1 + noise)).astype(np.float32)


def test_weights_that_are_binary_up_to_rounding_are_packed_and_told(tmp_path):
    save_onnx(network(first=noisy(4, 3, 3, 3, spread=5e-5)), tmp_path / "a.onnx")
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert [row.stored for row in report.layers] == ["1 bit"] * 3 + ["float32"]
    assert report.rounded == 1
    assert 3e-5 < report.departure < 1e-4
    assert report.compared > 0
    (note,) = report.notes
    assert note == (
        "the weights of 1 one-bit layer were +a and -a up to rounding, at most "
        f"{report.departure:.1e} from a, relative to a"
    )
    result = verify(tmp_path / "a.bwn", tmp_path / "a.onnx")
    assert result.agrees, result.verdict
    assert result.layers[0].runtime > 0.01

    exact = pack(tmp_path / "a.onnx", tmp_path / "b.bwn", binary_tolerance=0)
    assert [row.stored for row in exact.layers] == ["float32"] + ["1 bit"] * 2 + ["float32"]
    assert (exact.rounded, exact.departure) == (0, 0)


def test_verify_still_finds_a_wrong_bit_in_rounded_weights(tmp_path):
    first = noisy(4, 3, 3, 3, spread=5e-5)
    save_onnx(network(first=first), tmp_path / "a.onnx")
    first[2, 1, 1, 1] *= -1
    save_onnx(network(first=first), tmp_path / "b.onnx")
    pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    result = verify(tmp_path / "a.bwn", tmp_path / "b.onnx")
    assert result.first_departure == "conv1"


@pytest.mark.parametrize("number", [-1e-9, 0.011, float("nan")])
def test_the_tolerance_has_a_range(source, tmp_path, number):
    with pytest.raises(ArgumentError, match=r"^binary_tolerance is .*, expected 0 to 0.01$"):
        pack(source, tmp_path / "a.bwn", binary_tolerance=number)


def test_an_exact_network_has_no_departure(source, tmp_path):
    report = pack(source, tmp_path / "a.bwn")
    assert (report.rounded, report.departure) == (0, 0)


def test_a_sign_of_numbers_that_are_zero_unexpectedly_writes_no_file(tmp_path):
    source = tmp_path / "source.onnx"
    nodes = (op("Clip", "x n p", "c"), op("Add", "c p", "a"), op("Sign", "a"))
    source.write_bytes(model(*nodes, n=f32(-1.0), p=f32(1.0)))
    with pytest.raises(BwnError, match="'y' is ONNX Sign and often 0, which one bit cannot hold"):
        pack(source, tmp_path / "a.bwn")
    assert not (tmp_path / "a.bwn").exists()


@pytest.mark.parametrize("interpreted", [0, 10**8])
@pytest.mark.parametrize("activations", ["auto", "float32", "int8"])
def test_a_wrong_reading_of_the_source_writes_no_file(
    source, tmp_path, monkeypatch, activations, interpreted
):
    """Negate one bias on the way, as a wrong reader would."""
    monkeypatch.setattr(pack_check, "INTERPRETED", interpreted)
    assert pack(source, tmp_path / "b.bwn", activations=activations).compared > 0
    genuine = pipeline.run

    def wrong(graph, tolerance):
        return genuine(
            graph.replace(graph.topology.nodes, graph.tensors | {"t": -graph.tensors["t"]})
        )

    monkeypatch.setattr(pipeline, "run", wrong)
    with pytest.raises(
        BwnError,
        match=r"source.onnx: packed, it would not compute what ONNX Runtime does: layer 'conv1' "
        r"differs \([\d,.e+]+ times the tolerance\); nothing was written: please report it, or "
        r"pack without this check$",
    ) as caught:
        pack(source, tmp_path / "a.bwn", activations=activations)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "a.bwn").exists()
    report = pack(source, tmp_path / "a.bwn", check=False, activations=activations)
    assert report.compared == 0


def test_without_onnxruntime_a_note_says_so(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "bwn.onnx.session")
    report = pack(source, tmp_path / "a.bwn")
    assert report.compared == 0
    (note,) = report.notes
    assert note.startswith("not compared: comparing with ONNX Runtime needs onnxruntime, which")


def test_scores_that_are_not_finite_are_not_compared(tmp_path):
    spec = network()
    tensors = spec.graph.tensors | {"w4": np.full((3, 5), 3e38, np.float32)}
    graph = spec.graph.replace(spec.graph.topology.nodes, tensors)
    save_onnx(ModelSpec(graph=graph, preprocess=RULE, classes=("a", "b", "c")), tmp_path / "a.onnx")
    report = pack(tmp_path / "a.onnx", tmp_path / "a.bwn")
    assert report.compared == 0
    assert report.notes == ("on random inputs its scores are not finite, in ONNX Runtime too",)


def test_a_dry_run_writes_nothing_and_reports_the_same(source, tmp_path):
    dry = pack(source, tmp_path / "a.bwn", dry_run=True)
    assert not (tmp_path / "a.bwn").exists()
    assert dry == pack(source, tmp_path / "a.bwn")


def test_the_random_inputs_are_images_as_prepared():
    x = np.concatenate([random_input(network(), number) for number in range(3)])
    assert x.shape == (3, 3, 6, 6)
    assert x.dtype == np.float32
    for channel in range(3):
        low, high = ((pixel - RULE.mean[channel]) / RULE.std[channel] for pixel in (0, 1))
        values = x[:, channel]
        assert low <= values.min() < low + 0.3
        assert high - 0.3 < values.max() <= high
    np.testing.assert_array_equal(x[1:2], random_input(network(), 1))
    flat = network(preprocess=None)
    assert random_input(flat, 1).min() < 0
