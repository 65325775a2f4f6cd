"""`bwn report`: its numbers, its files, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import sys
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import bwn
from bwn.cli.main import bwn as group
from bwn.data.datasets import load_dataset
from bwn.reporting.page import page
from bwn.train import Architecture, Settings, Trainer, measure, read_checkpoint
from bwn.train.architectures import build_seeded
from bwn.train.checkpoint import Description, write_checkpoint
from bwn.train.flip_risk import flipped
from bwn.train.history import BINS, histogram
from bwn.train.preprocessing import digest, predictions

ROOT = Path(__file__).resolve().parents[2]
LENET = ROOT / "models" / "mnist-lenet.bwn"
EXPERIMENT = ROOT / "docs" / "records" / "mnist-mlp-512"


def run(*args):
    return CliRunner().invoke(group, [str(arg) for arg in args])


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    """The checkpoint of a short run on digits, of a scheme that leaves weights near 0."""
    path = tmp_path_factory.mktemp("run") / "model.pt"
    result = run(
        "train", "--data", "mnist-sample", "--scheme", "deterministic", "--width", 16,
        "--epochs", 2, "--batch-size", 100, "--threads", 1, "-o", path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def tiny(tmp_path):
    """A checkpoint whose first layer has the weights 0, 0.05, -0.05, 0.5 and then 1."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 2, 2), np.uint8)
    data = bwn_dataset(images, np.arange(20) % 2)
    network = Architecture(name="mlp", input_shape=(1, 2, 2), classes=2, width=2)
    trainer = Trainer(build_seeded(network, 0), data, measure(data), Settings(epochs=1))
    trainer.run()
    with torch.no_grad():
        trainer.module[1].weight.copy_(torch.tensor([[0, 0.05, -0.05, 0.5], [1, 1, 1, 1]]))
    description = Description(
        architecture=network,
        settings=trainer.settings,
        preprocess=trainer.preprocess,
        classes=data.classes,
        source="somewhere",
        digest=digest(data),
    )
    write_checkpoint(tmp_path / "tiny.pt", description, trainer.module, trainer.state())
    return tmp_path / "tiny.pt"


def bwn_dataset(images, labels):
    from bwn.data.datasets import Dataset

    return Dataset(images, labels.astype(np.int64), ("a", "b"))


def test_numbers_of_the_weights_are_those_counted_by_hand(tiny):
    report = bwn.report(tiny, delta=0.05)
    first = report.layers[0]
    assert (first.name, first.shape, first.weights, first.one_bit) == ("1", (2, 4), 8, True)
    assert first.near_zero == 3 / 8
    assert first.distance == pytest.approx((1 + 0.95 + 0.95 + 0.5) / 8)
    counts = np.zeros(BINS, int)
    counts[[BINS // 2, BINS // 2 + 1, 3 * BINS // 4, BINS - 1]] = 1, 1, 1, 4
    counts[BINS // 2 - 1] = 1  # -0.05 is the edge of two bins; either may have it
    assert np.abs(np.array(first.histogram) - counts).sum() <= 2
    assert sum(first.histogram) == 8
    assert report.one_bit_share == 1
    assert [epoch.epoch for epoch in report.epochs] == [0, 1]
    assert [sum(row.histogram) for row in report.epochs[0].layers] == [8, 4, 4, 4]
    assert report.flip_risk.lost is None
    assert bwn.report(tiny, delta=0).layers[0].near_zero == 1 / 8


def test_more_weights_than_float32_can_count():
    assert histogram(torch.ones(2**24 + 3))[-1] == 2**24 + 3


def test_exactly_the_weights_near_zero_flip(tiny):
    module = read_checkpoint(tiny).module
    before, after = module[1].binarized(), flipped(module, 0.05)[1].binarized()
    assert before.tolist() == [[1, 1, -1, 1], [1, 1, 1, 1]]
    assert after.tolist() == [[-1, -1, 1, 1], [1, 1, 1, 1]]
    assert flipped(module, 0.05, ["4"])[1].binarized().tolist() == before.tolist()


def test_numbers_on_images_are_those_counted_by_hand(run_file):
    report = bwn.report(run_file, data="mnist-sample", samples=300)
    data, checkpoint = load_dataset("mnist-sample", "test"), read_checkpoint(run_file)
    rule = checkpoint.description.preprocess
    data = type(data)(data.images[:300], data.labels[:300], data.classes)
    guesses = predictions(checkpoint.module, data, rule)
    assert report.test.right == (guesses == data.labels).sum()
    assert report.test.confusion[4][9] == ((data.labels == 4) & (guesses == 9)).sum()
    other = predictions(flipped(checkpoint.module, 0.05), data, rule)
    expected = (other == data.labels).mean()
    assert report.flip_risk.flipped_accuracy == expected
    assert report.flip_risk.lost == pytest.approx(report.test.accuracy - expected)
    assert report.flip_risk.lost != 0, "some weights do matter"
    for mistake in report.test.mistakes:
        assert data.labels[mistake.image] == mistake.true
        assert guesses[mistake.image] == mistake.predicted != mistake.true
    assert 0 < len(report.test.mistakes) <= 12


def test_the_epochs_are_those_of_a_run_that_was_stopped_and_resumed(tiny, tmp_path):
    data = bwn_dataset(np.arange(160, dtype=np.uint8).reshape(40, 2, 2), np.arange(40) % 2)
    network = Architecture(name="mlp", input_shape=(1, 2, 2), classes=2, width=2)

    def trainer():
        return Trainer(
            build_seeded(network, 0), data, measure(data), Settings(epochs=3, batch_size=4)
        )

    whole = trainer()
    whole.run()
    cut = trainer()
    cut.run(stop=lambda: cut.step == 13)
    resumed = trainer()
    resumed.module.load_state_dict(cut.module.state_dict())
    resumed.restore(cut.state())
    resumed.run()
    assert resumed.history == whole.history
    assert [epoch.epoch for epoch in whole.history] == [0, 1, 2, 3]
    state = {key: value for key, value in cut.state().items() if key != "history"}
    old = trainer()
    old.restore(state)
    old.run()
    assert [epoch.epoch for epoch in old.history] == [2, 3], "a checkpoint of an older bwn"
    with pytest.raises(bwn.CheckpointError, match="history is invalid"):
        old.restore({**cut.state(), "history": '[{"epoch": -1}]'})


class Page(HTMLParser):
    """Checks that tags nest; collects images."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.tags = [], [], set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        else:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def html(run_file, tmp_path):
    result = run("report", run_file, "--data", "mnist-sample", "-o", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    return (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_self_contained(html):
    parsed = Page(html.partition("\n")[2])
    ElementTree.fromstring(html.partition("\n")[2])
    assert not re.search(r"https?:|file:|url\(|@import|srcset", html)
    assert not {"script", "link", "iframe", "object"} & parsed.tags
    assert 'name="viewport"' in html
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in parsed.images)
    kinds = [image["src"].partition(";")[0] for image in parsed.images]
    assert kinds.count("data:image/svg+xml") == 4, "curves, weights, risk, confusion"
    assert kinds.count("data:image/png") >= 2
    for image in parsed.images:
        content = b64decode(image["src"].partition(",")[2])
        if image["src"].startswith("data:image/png"):
            assert Image.open(BytesIO(content)).size == (28, 28)
        else:
            ElementTree.fromstring(content)
            outside = re.search(rb'href="(?!#|data:)|<script|(?<!xmlns)(?<!:xlink)="http', content)
            assert outside is None, outside


def test_the_page_has_tables_beside_its_figures(html, run_file):
    report = bwn.report(run_file, data="mnist-sample")
    text = re.sub(r"<[^>]*>", " ", html)
    for layer in report.layers:
        for value in (f"{layer.distance:.4f}", f"{layer.near_zero:.2%}"):
            assert value in text
    assert f"{report.epochs[1].loss:.4f}" in text
    assert f"accuracy is {report.flip_risk.flipped_accuracy:.2%}" in text


def test_the_page_of_a_checkpoint_says_its_accuracy(html, run_file):
    test = bwn.report(run_file, data="mnist-sample").test
    text = re.sub(r"<[^>]*>", " ", html)
    assert re.search(f"accuracy +{test.accuracy:.2%} .* on {test.images:,} test images", text)


def test_weights_of_8_bits_are_not_called_float32(tmp_path):
    model = ROOT / "tests" / "golden" / "int8-weights.bwn"
    report = bwn.report(model, tmp_path / "r.html")
    assert [layer.stored for layer in report.layers] == ["int8", "1 bit"]
    assert "float32" not in (tmp_path / "r.html").read_text()


def test_names_are_escaped(run_file, tmp_path):
    bad = tmp_path / '<script>alert(1)<&".pt'
    shutil.copy(run_file, bad)
    bwn.report(bad, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in html
    Page(html.partition("\n")[2])


def test_png_and_svg(run_file, tmp_path):
    for name in ("r.png", "r.svg"):
        assert run("report", run_file, "-o", tmp_path / name).exit_code == 0
    with Image.open(tmp_path / "r.png") as image:
        assert image.height > image.width
    root = ElementTree.parse(tmp_path / "r.svg").getroot()
    identifiers = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(identifiers) == len(set(identifiers))
    assert sum(element.tag.endswith("}svg") for element in root.iter()) == 1 + 3
    text = (tmp_path / "r.svg").read_text()
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    for first, second in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text):
        assert (first or second) in identifiers


def test_a_packed_model_has_scales_and_confusions_but_no_real_weights(tmp_path):
    out = tmp_path / "r.html"
    result = run("report", LENET, "--data", "mnist-sample", "--samples", 200, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.stdout)
    assert numbers["kind"] == "model"
    assert numbers["one_bit_share"] == 1
    assert numbers["flip_risk"] is None
    assert numbers["epochs"] == []
    evaluation = bwn.evaluate(LENET, "mnist-sample", samples=200)
    assert numbers["test"]["confusion"] == [list(row) for row in evaluation.confusion]
    scales = numbers["layers"][0]["scales"]
    assert 0 < scales["low"] <= scales["median"] <= scales["high"]
    assert sum(scales["histogram"]) == 32
    assert "no real weights" in out.read_text()


def test_an_experiment(tmp_path):
    result = run("report", EXPERIMENT, "-o", tmp_path / "r.html", "--json")
    assert result.exit_code == 0, result.output
    groups = json.loads(result.stdout)["groups"]
    margin = [row for row in groups if row["name"].startswith("margin")]
    assert sorted({row["lambda"] for row in margin}) == [30, 300, 3000]
    html = (tmp_path / "r.html").read_text()
    assert "Accuracy against lambda" in html
    assert f"{margin[0]['test_error']:.2%}" in html
    Page(html.partition("\n")[2])


def test_a_folder_of_a_run_and_the_default_name(run_file, tmp_path):
    shutil.copy(run_file, tmp_path / "model.pt")
    assert run("report", tmp_path).exit_code == 0
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert run("report", tmp_path / "model.pt").exit_code == 0
    assert (tmp_path / "model.html").exists()


def test_a_float_network_has_no_flip_risk(tmp_path):
    path = tmp_path / "float.pt"
    run("train", "--data", "mnist-sample", "--scheme", "float", "--width", 4, "--epochs", 1,
        "--threads", 1, "-o", path)  # fmt: skip
    report = bwn.report(path, tmp_path / "r.html", data="mnist-sample", samples=20)
    assert report.flip_risk is None
    assert report.one_bit_share == 0
    assert report.test.images == 20


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("{none}",), 3, "no such file: "),
        (("{cut}",), 3, "truncated"),
        (("{cut_model}",), 3, "truncated"),
        (("{picture}",), 3, "it looks like a PNG image"),
        (("{folder}",), 3, "a folder without model.pt of bwn train or results.jsonl of bwn exp"),
        (("{run}", "-o", "x.pdf"), 2, "a report is named .html, .png or .svg"),
        (("{run}", "--delta", "2"), 2, "--delta"),
        (("{run}", "--samples", "5"), 2, "--samples needs --data."),
        (("{run}", "--data", "{none}"), 3, "no such"),
        (("{run}", "-o", "{none}/r.html"), 3, "no such folder"),
        ((EXPERIMENT, "--data", "mnist-sample", "--json"), 2, "has its test errors"),
        ((LENET, "--data", "{classes}", "--json"), 3, "is not one of the model's classes"),
    ],
)
def test_what_is_refused(args, code, words, run_file, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.pt").write_bytes(run_file.read_bytes()[:5000])
    (tmp_path / "cut.bwn").write_bytes(LENET.read_bytes()[:5000])
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    for name in ("cat", "dog"):
        (tmp_path / "classes" / "test" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "classes" / "test" / name / "a.png")
    names = {
        "none": tmp_path / "none",
        "cut": tmp_path / "cut.pt",
        "cut_model": tmp_path / "cut.bwn",
        "picture": tmp_path / "a.png",
        "folder": tmp_path / "empty",
        "run": run_file,
        "classes": tmp_path / "classes",
    }
    result = run("report", *(str(arg).format(**names) for arg in args))
    assert result.exit_code == code, result.output
    assert words in result.stderr


def test_without_matplotlib_the_numbers_remain(run_file, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("report", run_file, "-o", tmp_path / "r.html")
    assert result.exit_code == 1
    assert "drawing a report needs matplotlib, which is not installed" in result.stderr
    assert json.loads(run("report", run_file, "--json").stdout)["kind"] == "checkpoint"
    assert not (tmp_path / "r.html").exists()


def test_the_page_needs_no_figures(tiny):
    from bwn.reporting.report_sources import Gathered

    text = page(Gathered(bwn.report(tiny)), []).decode()
    assert "within 0.05 of 0" in text
