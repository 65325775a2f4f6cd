"""`bwn verify`: the table, the last line, the exit code."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from graphs import make_graph, save_onnx
from msgspec.structs import replace
from PIL import Image

from bwn.cli.main import bwn
from bwn.cli.verify import score_lines, units
from bwn.format import write
from bwn.ir.model_spec import ModelSpec, Preprocess
from bwn.kernels import bits
from bwn.model import Model
from bwn.ops.clamp import Clamp
from bwn.ops.dense import Dense
from bwn.tools.verify import VerifyReport, success
from bwn.tools.verify_scores import Scores


def network(activations="float32"):
    rng = np.random.default_rng(8)
    nodes = (
        Dense(input="x", output="a", weight="a.weight", activations=activations),
        Clamp(input="a", output="b", low=0.0),
        Dense(input="b", output="y", weight="v"),
    )
    tensors = {
        "a.weight": bits.pack(rng.integers(-1, 1, (20, 16))),
        "v": rng.normal(size=(3, 20)).astype(np.float32),
    }
    preprocess = Preprocess(size=(4, 4), color="L", mean=(0.5,), std=(0.5,))
    return ModelSpec(
        graph=make_graph(*nodes, shape=(16,), **tensors),
        preprocess=preprocess,
        classes=("a", "b", "c"),
    )


@pytest.fixture
def folder(tmp_path):
    spec = network()
    write(str(tmp_path / "m.bwn"), spec)
    write(str(tmp_path / "int8.bwn"), network("int8"))
    save_onnx(spec, tmp_path / "m.onnx")
    words = spec.graph.tensors["a.weight"] ^ np.uint64([[4]] + [[0]] * 19)
    wrong = replace(spec.graph, tensors={**spec.graph.tensors, "a.weight": words})
    write(str(tmp_path / "wrong.bwn"), replace(spec, graph=wrong))
    for value in (0, 90, 255):
        Image.fromarray(
            np.arange(value, value + 16, dtype=np.uint16)
            .clip(0, 255)
            .astype(np.uint8)
            .reshape(4, 4)
        ).save(tmp_path / f"{value}.png")
    return tmp_path


def run(folder, model, *args, reference="m.onnx"):
    return CliRunner().invoke(
        bwn, ["verify", str(folder / model), str(folder / reference), "--threads", "1", *args]
    )


def test_agreement(folder):
    result = run(folder, "m.bwn")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["layer", "op"]
    assert lines[2].split()[:6] == ["a", "dense", "1", "bit", "x", "float32"]
    assert lines[-1] == "AGREES: every layer within tolerance, same top-1 on all 64 inputs"
    assert result.stderr == ""


def test_disagreement_names_the_layer_and_ends_with_1(folder):
    result = run(folder, "wrong.bwn")
    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout.splitlines()[2]
    assert result.stdout.splitlines()[-1].startswith("DISAGREES in layer 'a' (")
    assert re.search(r"^wrong scores   \d\d inputs: (\d+, ){10}\.\.\.$", result.stdout, re.M)


def test_images_and_samples(folder):
    result = run(folder, "m.bwn", "--images", str(folder), "--samples", "2")
    assert result.exit_code == 0
    assert f"inputs         2 of {folder}" in result.stdout
    assert "same top-1 on all 2 inputs" in run(folder, "m.bwn", "--samples", "2").stdout


def test_json(folder):
    result = run(folder, "wrong.bwn", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["agrees"], report["first_departure"]) == (False, "a")
    assert result.stderr.startswith("DISAGREES in layer 'a' (")


def test_int8_says_that_floats_are_not_judged(folder):
    result = run(folder, "int8.bwn", "--min-agreement", "0.3")
    assert result.exit_code == 0, result.output
    assert " *  ok" in result.stdout
    assert "shown but not checked" in result.stdout


@pytest.fixture
def labelled(folder):
    """The folder with a data set whose classes are those that the float network says."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 4, 4), np.uint8)
    labels = (
        Model(network(), 1)
        .run((images.reshape(40, 16) / np.float32(255) - np.float32(0.5)) * 2)
        .argmax(1)
    )
    names = {
        "train-images": images,
        "train-labels": labels,
        "t10k-images": images,
        "t10k-labels": labels,
    }
    (folder / "idx").mkdir()
    for name, array in names.items():
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        path = folder / "idx" / f"{name}-idx{array.ndim}-ubyte.gz"
        path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))
    spec = replace(network(), classes=tuple(map(str, range(3))))
    write(str(folder / "m.bwn"), spec)
    (first, *rest) = network("int8").graph.nodes
    rough = spec.graph.replace(
        nodes=(replace(first, input_scale=100.0), *rest)
    )  # everything rounds to 0
    write(str(folder / "rough.bwn"), replace(spec, graph=rough))
    return folder


def test_the_loss_of_accuracy_decides(labelled):
    data = ("--images", str(labelled / "idx"))
    result = run(labelled, "m.bwn", *data)
    assert result.exit_code == 0, result.output
    assert "accuracy       100.00%, reference 100.00%: no change\n" in result.stdout
    result = run(labelled, "m.bwn", *data, "--max-loss", "0.5")
    assert ": no change (limit 0.5)\n" in result.stdout
    result = run(labelled, "rough.bwn", *data, "--min-agreement", "0")
    assert result.exit_code == 1, result.output
    verdict = result.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"DISAGREES: accuracy is (\d\d\.\d\d) points below the reference's; at most 0.3 are allowed",
        verdict,
    )
    result = run(
        labelled, "rough.bwn", *data, "--min-agreement", "0", "--max-loss", "100", "--json"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["max_loss"] == 100
    assert f"{report['loss']:.2f}" in verdict


def test_a_limit_without_labels_is_refused(folder):
    result = run(folder, "m.bwn", "--max-loss", "0.3")
    assert result.exit_code == 2
    assert "Error: --max-loss needs a data set in --images." in result.stderr
    result = run(folder, "m.bwn", "--max-loss", "0.3", "--images", str(folder))
    assert result.exit_code == 2
    assert result.stderr == (f"Error: max_loss needs labeled images; {folder} has no labels\n")
    assert run(folder, "m.bwn", "--max-loss", "-1").exit_code == 2


def test_a_gain_of_accuracy_is_not_a_negative_loss():
    scores = Scores(
        rounded=True,
        error=0.0,
        difference=0.0,
        departing=(),
        sign_ties=(),
        agreement=1.0,
        disagreements=(),
        ties=(),
        accuracy=0.9,
        reference_accuracy=0.816,
    )
    report = VerifyReport(
        model="m.bwn",
        reference="m.onnx",
        inputs="noise",
        count=1,
        layers=(),
        first_departure=None,
        scores=scores,
        min_agreement=1.0,
        loss=scores.loss,
        max_loss=None,
        agrees=True,
        verdict=success(scores, 1),
    )
    assert score_lines(report)[-1] == (
        "accuracy       90.00%, reference 81.60%: 8.40 points higher"
    )
    assert report.verdict == "every layer within tolerance, same top-1 on 1 input"


def test_a_network_of_another_width_ends_with_3(folder):
    spec = network()
    first = spec.graph.tensors["a.weight"][:10]
    tensors = {"a.weight": first, "v": spec.graph.tensors["v"][:, :10].copy()}
    save_onnx(replace(spec, graph=replace(spec.graph, tensors=tensors)), folder / "narrow.onnx")
    result = run(folder, "m.bwn", reference="narrow.onnx")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.endswith(
        "narrow.onnx: tensor 'a' has shape (10,), in the model (20,): not the same network\n"
    )


def test_refused_files_end_with_3(folder):
    for model, reference in (
        ("m.onnx", "m.onnx"),
        ("m.bwn", "m.bwn"),
        ("m.bwn", "0.png"),
        ("none", "m.onnx"),
    ):
        result = run(folder, model, reference=reference)
        assert (result.exit_code, result.stdout) == (3, ""), (model, reference)
        assert len(result.stderr.splitlines()) == 1


def test_units():
    assert [units(error) for error in (0.0, 0.01234, 6630.4, 3e15, np.inf)] == [
        "exact",
        "0.0123",
        "6,630",
        "3e+15",
        "not exact",
    ]


def test_another_network_is_named_in_the_verdict(folder):
    result = run(folder, "wrong.bwn")
    assert result.exit_code == 1, result.output
    assert "vs interpreter  vs ONNX Runtime" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert re.match(r"DISAGREES in layer 'a' \([\d,.]+ times the tolerance\); was ", last), last
    assert last.endswith(f"{folder / 'wrong.bwn'} packed from {folder / 'm.onnx'}?")


def test_a_network_of_another_input_is_named(folder):
    nodes = (Dense(input="x", output="y", weight="v"),)
    graph = make_graph(*nodes, shape=(9,), v=np.ones((3, 9), np.float32))
    save_onnx(ModelSpec(graph=graph), folder / "other.onnx")
    result = run(folder, "m.bwn", reference="other.onnx")
    assert result.exit_code == 3
    other, model = folder / "other.onnx", folder / "m.bwn"
    assert result.stderr == (
        f"Error: {other} takes inputs of shape (9) but {model} of shape (16): {model} was not packed from it\n"
    )


@pytest.fixture(params=["images", "classes"])
def partly_bad(folder, request):
    """Two good images and four bad ones, in one folder or as the test split of a data set."""
    root = folder / "photos"
    for name in ("a", "b"):
        place = root / "test" / name if request.param == "classes" else root
        place.mkdir(parents=True, exist_ok=True)
        good = place / f"{name}.png"
        rng = np.random.default_rng(ord(name))
        Image.fromarray(rng.integers(0, 256, (30, 30), np.uint8)).save(good)
        (place / f"{name}1.png").write_bytes(b"no image")
        (place / f"{name}2.png").write_bytes(good.read_bytes()[:500])
    return root


def test_bad_images_are_named_at_once_or_left_out(folder, partly_bad, caplog):
    result = run(folder, "m.bwn", "--images", str(partly_bad))
    assert result.exit_code == 3
    assert "4 of 6 images cannot be read" in result.stderr
    assert "repair them, or leave them out with skip_bad" in result.stderr
    assert result.stdout == ""
    result = run(folder, "m.bwn", "--images", str(partly_bad), "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "inputs         2 of" in result.stdout
    assert "left out: 4 of 6 images" in caplog.text


def test_bad_images_alone_cannot_be_skipped(folder):
    (folder / "photos").mkdir()
    for index in range(2):
        (folder / "photos" / f"{index}.png").write_bytes(b"no image")
    result = run(folder, "m.bwn", "--images", str(folder / "photos"), "--skip-bad")
    assert result.exit_code == 3
    assert "2 of 2 images cannot be read" in result.stderr
    result = run(folder, "m.bwn", "--images", str(folder / "photos" / "0.png"), "--skip-bad")
    assert (
        result.stderr
        == f"Error: {folder / 'photos' / '0.png'}: not an image that bwn reads"
        + (result.stderr.partition("not an image that bwn reads")[2])
    )
    assert run(folder, "m.bwn", "--skip-bad").exit_code == 2


def test_verify_says_that_the_model_comes_first():
    result = CliRunner().invoke(bwn, ["verify", "my model.pt", "m.bwn"])
    assert result.exit_code == 2
    assert "MODEL comes first: bwn verify m.bwn 'my model.pt'" in result.stderr


def test_the_networks_are_compared_in_shape_before_images_are_read(folder, monkeypatch):
    monkeypatch.setattr(
        "bwn.tools.verify.load_samples", lambda *_a, **_k: pytest.fail("read images")
    )
    node = Dense(input="x", output="y", weight="w")
    words = bits.pack(np.ones((3, 9)))
    save_onnx(ModelSpec(graph=make_graph(node, shape=(9,), w=words)), folder / "other.onnx")
    result = run(folder, "m.bwn", "--images", str(folder), reference="other.onnx")
    assert result.exit_code == 3
    assert "was not packed from it" in result.stderr
