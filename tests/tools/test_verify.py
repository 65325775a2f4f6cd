"""Verification says yes to equal networks, and names the first layer that differs otherwise."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from graphs import make_graph, save_onnx, signs
from msgspec.structs import replace
from onnx_models import f32, model, op
from PIL import Image

from bwn.errors import ArgumentError, BwnError, DataError, FileError
from bwn.format import write
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.model import Model
from bwn.onnx.session import Session
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.passes import pipeline
from bwn.tools.pack import pack
from bwn.tools.verify import check_fit, open_reference, verify
from bwn.tools.verify_inputs import load_samples, noise
from bwn.tools.verify_scores import sign_ties


def network(activations="float32", signs=False, low=0.0):
    """Conv, pool, conv with a shortcut, flatten, dense on (2, 8, 8); products packed, 5 classes."""
    rng = np.random.default_rng(7)
    middle = (Sign(input="c", output="m"),) if signs else (Clamp(input="c", output="m", low=low),)
    second = "binary" if signs else activations
    nodes = (
        Conv(input="x", output="a", weight="a.weight", scale="a.s", bias="a.b", kernel=(3, 3), pads=(1, 1, 1, 1),
             activations=activations),
        Conv(input="a", output="b", weight="b.weight", scale="b.s", kernel=(1, 1), activations=activations),
        Add(input="a", other="b", output="c"),
        *middle,
        Pool(input="m", output="p", kind="max", kernel=(2, 2), stride=(2, 2)),
        Conv(input="p", output="d", weight="d.weight", scale="d.s", bias="d.b", kernel=(3, 3), activations=second),
        Flatten(input="d", output="f"),
        Dense(input="f", output="y", weight="y.weight", scale="y.s", activations=activations),
    )  # fmt: skip
    tensors = {}
    for name, outputs, depth in (("a", 8, 18), ("b", 8, 8), ("d", 6, 72), ("y", 5, 24)):
        tensors[f"{name}.weight"] = bits.pack(rng.integers(-1, 1, (outputs, depth)))
        tensors[f"{name}.s"] = rng.uniform(0.05, 0.2, outputs).astype(np.float32)
        tensors[f"{name}.b"] = rng.normal(size=outputs).astype(np.float32)
    tensors.pop("b.b")
    tensors.pop("y.b")
    return ModelSpec(graph=make_graph(*nodes, shape=(2, 8, 8), **tensors))


def changed(spec, **tensors):
    return replace(spec, graph=replace(spec.graph, tensors={**spec.graph.tensors, **tensors}))


def one_bit_flipped(spec, name):
    words = spec.graph.tensors[name].copy()
    words[1, 0] ^= np.uint64(4)
    return changed(spec, **{name: words})


@pytest.fixture
def compare(tmp_path):
    def run(spec, reference=None, **options):
        save_onnx(reference or spec, tmp_path / "r.onnx")
        return verify(Model(spec, 1), tmp_path / "r.onnx", **options)

    return run


@pytest.mark.parametrize("signs", [False, True])
def test_equal_networks_agree(compare, signs):
    report = compare(network(signs=signs), samples=20)
    assert report.agrees, report.verdict
    assert (report.count, report.first_departure, report.scores.agreement) == (20, None, 1.0)
    assert [layer.name for layer in report.layers] == ["a", "b", "c", "m", "p", "d", "f", "y"]
    assert all(layer.reference < 0.5 for layer in report.layers)
    assert all(layer.runtime is not None and layer.runtime < 0.5 for layer in report.layers)
    assert report.layers[0].depth == 18
    assert report.layers[5].kind == ("1 bit x binary" if signs else "1 bit x float32")


@pytest.mark.parametrize("layer", ["a", "b", "d", "y"])
def test_one_wrong_bit_is_found_where_it_is(compare, layer):
    spec = network()
    report = compare(one_bit_flipped(spec, f"{layer}.weight"), spec)
    assert not report.agrees
    assert report.first_departure == layer
    assert report.verdict.startswith(f"differs in layer '{layer}' (")
    assert " times the tolerance); was model packed from " in report.verdict
    assert [one.name for one in report.layers if not one.agrees] == [layer]


def test_a_kernel_that_errs_departs_from_the_plain_reference(compare, monkeypatch):
    trace = Model.trace

    def wrong(self, x):
        made = trace(self, x)
        made["b"] = made["b"] * np.float32(1.001)
        return made

    monkeypatch.setattr(Model, "trace", wrong)
    report = compare(network())
    assert report.verdict.startswith("differs from layer 'b' on (")
    assert report.verdict.endswith("): kernels and interpreter disagree; please report it")
    assert [layer.name for layer in report.layers if not layer.agrees] == ["b", "c"]


def test_scores_that_depart_are_found_though_layers_agree(compare, monkeypatch):
    run = Model.run
    monkeypatch.setattr(Model, "run", lambda self, x: run(self, x) + np.float32([0.1, 0, 0, 0, 0]))
    report = compare(network(), samples=9)
    assert report.first_departure is None
    assert report.scores.departing == tuple(range(9))
    assert report.verdict.startswith("scores of 9 inputs differ (the first is 0), by up to ")


def test_scores_that_are_not_numbers_depart(compare, monkeypatch):
    monkeypatch.setattr(Model, "run", lambda self, x: np.full((len(x), 5), np.nan, np.float32))
    report = compare(network(), samples=3)
    assert not report.agrees
    assert report.scores.departing == (0, 1, 2)


@pytest.mark.parametrize("wild", [np.inf, np.nan, 3e38])
def test_a_wild_reference_departs_without_a_warning(compare, monkeypatch, wild):
    given = np.float32([wild, -wild, wild, -1, 0])
    monkeypatch.setattr(Session, "run", lambda self, x: np.tile(given, (len(x), 1)))
    report = compare(network(), samples=3)
    assert not report.agrees
    assert report.scores.error > 1


def test_int8_is_exact_by_layer_and_judged_by_agreement(compare):
    report = compare(network("int8"), samples=50, min_agreement=0.5)
    assert report.agrees, report.verdict
    assert all(layer.reference < 0.5 for layer in report.layers)
    products = [layer for layer in report.layers if layer.kind]
    assert not any(layer.judged for layer in products)
    assert max(layer.runtime for layer in products) > 1
    assert report.scores.departing == ()
    assert report.scores.difference > 0
    other = changed(network("int8"), **{"y.s": -network().graph.tensors["y.s"]})
    report = compare(other, network("int8"))
    assert report.min_agreement == 0.99
    assert "top-1 differs" in report.verdict
    assert report.verdict.endswith(", 99.00% are required")


def test_equal_scores_are_ties(compare, monkeypatch):
    spec = network()
    words = spec.graph.tensors["y.weight"].copy()
    words[:] = words[0]
    scale = np.full(5, 0.1, np.float32)
    spec = changed(spec, **{"y.weight": words, "y.s": scale})  # five equal scores
    run = Model.run
    monkeypatch.setattr(
        Model, "run", lambda self, x: run(self, x) * np.float32([1, 1 + 1e-6, 1 - 1e-6, 1, 1])
    )
    report = compare(spec, samples=10)
    assert report.agrees, report.verdict
    assert len(report.scores.ties) > 0
    assert "ties left out" in report.verdict


def test_sign_ties_excuse_only_numbers_near_zero(tmp_path):
    """The reference's bias is larger by `shift`, which turns the sign of a sum that is 0 in the model."""
    nodes = (
        Dense(input="x", output="a", weight="w", bias="b"),
        Sign(input="a", output="s"),
        Dense(input="s", output="y", weight="w", activations="binary"),
    )
    tensors = {"w": bits.pack(np.ones((2, 2)) * [[1, 1], [1, -1]]), "b": np.zeros(2, np.float32)}
    spec = ModelSpec(graph=make_graph(*nodes, shape=(2,), **tensors))
    x = np.float32([[1, 1], [2, 1]])  # sums (2, 0) and (3, 1)
    for shift, excused in ((-1e-7, [True, False]), (-1e-2, [False, False])):
        save_onnx(changed(spec, b=np.full(2, shift, np.float32)), tmp_path / "r.onnx")
        found = sign_ties(Model(spec, 1), Session(str(tmp_path / "r.onnx")), x)
        assert found.tolist() == excused


def test_other_networks_are_refused(tmp_path):
    spec = network()
    save_onnx(
        ModelSpec(
            graph=make_graph(
                Dense(input="x", output="y", weight="w"),
                shape=(7,),
                w=np.eye(3, 7, dtype=np.float32),
            )
        ),
        tmp_path / "w.onnx",
    )
    with pytest.raises(FileError, match=r"inputs of shape \(7\) but model of shape \(2, 8, 8\): "):
        verify(Model(spec, 1), tmp_path / "w.onnx")
    fewer = changed(
        spec,
        **{"y.weight": spec.graph.tensors["y.weight"][:4], "y.s": spec.graph.tensors["y.s"][:4]},
    )
    save_onnx(fewer, tmp_path / "f.onnx")
    with pytest.raises(FileError, match=r"gives scores of shape \(4,\) but m.bwn gives \(5,\)"):
        check_fit(
            Model(spec, 1),
            open_reference(tmp_path / "f.onnx", 1),
            noise(spec, 1, 0).batch(0, 1),
            "f.onnx",
            "m.bwn",
        )


def test_a_network_of_another_width_is_refused(tmp_path):
    def wide(width):
        nodes = (
            Dense(input="x", output="h", weight="fc1.weight"),
            Dense(input="h", output="y", weight="fc2.weight"),
        )
        tensors = {"fc1.weight": signs(width, 9), "fc2.weight": signs(3, width)}
        return ModelSpec(graph=make_graph(*nodes, shape=(9,), **tensors))

    save_onnx(wide(8), tmp_path / "r.onnx")
    with pytest.raises(
        FileError,
        match=r"r.onnx: tensor 'h' has shape \(8,\), in the model \(16,\): not the same network",
    ):
        verify(Model(wide(16), 1), tmp_path / "r.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples is 0, expected 1 or more"),
        ({"batch_size": 0}, "batch_size is 0, expected 1 or more"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"min_agreement": 2}, "min_agreement is 2, expected 0 to 1"),
        ({"max_loss": -1}, "max_loss is -1, expected 0 to 100"),
        ({"max_loss": [7] * 1000}, r"max_loss is \[7, 7, .*\.\.\.\], expected 0 to 100"),
    ],
)
def test_arguments_out_of_range_are_refused(compare, options, message):
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        compare(network(), **options)


def test_files_that_are_no_reference_are_refused(tmp_path):
    write(str(tmp_path / "m.bwn"), network())
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "zip.pt").write_bytes(b"PK\x03\x04 cut")
    for name in ("m.bwn", "text.txt", "text.onnx", "zip.pt", "none.onnx", "."):
        with pytest.raises(FileError) as error:
            open_reference(tmp_path / name, 1)
        assert str(tmp_path / name) in str(error.value), name
        assert "\n" not in str(error.value)


GREYS = Preprocess(size=(2, 2), color="L", mean=(0.0,), std=(1.0,))


def grey(classes=("0", "1", "2"), preprocess=GREYS):
    graph = make_graph(
        Dense(input="x", output="y", weight="w"), shape=(4,), w=np.eye(3, 4, dtype=np.float32)
    )
    return ModelSpec(graph=graph, preprocess=preprocess, classes=classes)


def idx(folder, pixels, labels):
    for part, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        for split in ("train", "t10k"):
            (folder / f"{split}-{part}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))


def test_noise_is_seeded_and_the_same_in_any_batch():
    samples = load_samples(network(), None, 5, seed=3)
    assert samples.count == 5
    whole = samples.batch(0, 5)
    assert (np.concatenate(list(samples.batches(2))) == whole).all()
    assert (whole != load_samples(network(), None, 5, seed=4).batch(0, 5)).all()
    assert load_samples(network(), None).count == 64


def test_images_of_a_folder(tmp_path):
    for value in (255, 0):
        Image.new("L", (2, 2), value).save(tmp_path / f"{value}.png")
    samples = load_samples(grey(), tmp_path)
    assert samples.batch(0, 9).tolist() == [[0] * 4, [1] * 4]
    assert samples.labels is None
    assert load_samples(grey(), tmp_path / "255.png").count == 1
    assert load_samples(grey(), tmp_path, count=1).count == 1


def test_labels_give_accuracy(tmp_path, compare):
    pixels = np.zeros((4, 2, 2), np.uint8)
    pixels.reshape(4, 4)[[0, 1, 2, 3], [0, 1, 2, 0]] = 255
    idx(tmp_path, pixels, np.uint8([0, 1, 2, 2]))
    report = compare(grey(), images=tmp_path)
    assert report.agrees
    assert (report.scores.accuracy, report.scores.reference_accuracy) == (0.75, 0.75)
    assert load_samples(grey(("2", "1", "0")), tmp_path).labels.tolist() == [2, 1, 0, 0]
    assert load_samples(grey(None), tmp_path).labels.tolist() == [0, 1, 2, 2]
    with pytest.raises(DataError, match="class '2' is not one of the model's classes"):
        load_samples(grey(("0", "1", "x")), tmp_path)


def rough(step):
    """A network that is right on each of `eight` below with float32 activations, and says 0 with a step too large."""
    words = bits.pack(np.where(np.eye(3, 4) > 0, 1, -1))
    kind = {} if step is None else {"activations": "int8", "input_scale": step}
    nodes = (Dense(input="x", output="y", weight="w", **kind),)
    return ModelSpec(
        graph=make_graph(*nodes, shape=(4,), w=words),
        preprocess=GREYS,
        classes=("0", "1", "2"),
    )


@pytest.fixture
def eight(tmp_path):
    labels = np.uint8([0, 0, 0, 0, 0, 1, 1, 2])
    idx(tmp_path, (np.eye(4)[labels] * 255).astype(np.uint8).reshape(8, 2, 2), labels)
    return tmp_path


def test_a_loss_of_accuracy_beyond_the_limit_is_a_fault(eight, compare):
    report = compare(rough(0.01), rough(None), images=eight)
    assert (report.agrees, report.loss, report.max_loss) == (True, 0, 0.3)
    for limit, agrees in ((None, False), (37.4, False), (37.5, True)):
        report = compare(rough(10.0), rough(None), images=eight, min_agreement=0, max_loss=limit)
        assert (report.agrees, report.loss) == (agrees, 37.5), report.verdict
    report = compare(rough(10.0), rough(None), images=eight, min_agreement=0)
    assert (
        report.verdict == "accuracy is 37.50 points below the reference's; at most 0.3 are allowed"
    )
    report = compare(rough(0.01), rough(10.0), images=eight, min_agreement=0)
    assert report.agrees


def test_no_loss_is_told_without_labels(compare):
    report = compare(network(), samples=2)
    assert (report.loss, report.max_loss) == (None, None)
    with pytest.raises(
        ArgumentError,
        match="max_loss needs labeled images; noise, seed 0 has no labels",
    ):
        compare(network(), samples=2, max_loss=0.3)


def test_images_need_preprocessing(tmp_path):
    with pytest.raises(BwnError, match="does not say how images are prepared"):
        load_samples(grey(preprocess=None), tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load_samples(grey(), tmp_path / "none")


def test_a_reference_of_fixed_batch_one(tmp_path):
    import onnx

    save_onnx(network(), tmp_path / "r.onnx")
    model = onnx.load(tmp_path / "r.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    report = verify(Model(network(), 1), tmp_path / "one.onnx", samples=5)
    assert report.agrees, report.verdict


def test_the_report_is_json(compare):
    from bwn.cli.output import json_text

    report = json.loads(json_text(compare(network(), samples=2)))
    assert report["layers"][0]["name"] == "a"
    assert report["scores"]["agreement"] == 1.0


def test_rounded_weights_of_an_open_size_are_known(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.choice([-0.5, 0.5], (4, 3, 3, 3)) * rng.uniform(1, 1 + 3e-5, (4, 3, 3, 3))
    nodes = op("Conv", "x w", "c"), op("GlobalAveragePool", "c", "p"), op("Flatten", "p")
    data = model(*nodes, shape=(3, "height", "width"), w=weight.astype(np.float32))
    source, target = tmp_path / "a.onnx", tmp_path / "a.bwn"
    source.write_bytes(data)
    report = pack(source, target, preprocess={"size": (9, 8)})
    assert [layer.stored for layer in report.layers] == ["1 bit"]
    assert verify(target, source, samples=4).agrees


def test_a_network_of_signals_is_compared(tmp_path):
    """(N, C, L) in ONNX, (N, C, 1, L) in bwn."""
    weight = signs(4, 3, 1, 5) * f32(0.5)
    stored = {"w": weight[:, :, 0], "v": signs(4 * 8, 6)}
    nodes = [
        op("Conv", "x w", "c"),
        op("Relu", "c", "r"),
        op("Flatten", "r", "f"),
        op("Gemm", "f v"),
    ]
    (tmp_path / "a.onnx").write_bytes(model(*nodes, shape=(3, 12), **stored))
    graph = make_graph(
        Conv(input="x", output="c", weight="w", kernel=(1, 5)),
        Clamp(input="c", output="r", low=0.0),
        Flatten(input="r", output="f"),
        Dense(input="f", output="y", weight="v"),
        shape=(3, 1, 12),
        w=weight,
        v=stored["v"].T.copy(),
    )
    packed = Model(ModelSpec(graph=pipeline.run(graph)), threads=1)
    report = verify(packed, tmp_path / "a.onnx")
    assert report.agrees, report.verdict
    assert all(layer.runtime is not None for layer in report.layers)
    wrong = Model(ModelSpec(graph=graph.replace(graph.nodes, graph.tensors | {"w": -weight})), 1)
    assert verify(wrong, tmp_path / "a.onnx").first_departure == "conv1"
