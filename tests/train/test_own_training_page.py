"""The code of docs/own-training.md runs, each block as it is, on tiny networks and images."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from own_networks import MobileNetV2
from PIL import Image

import bwn
from bwn.ops.weighted import Weighted

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-training.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
CLASSES = [f"class {number}" for number in range(10)]


class Images:
    """As torchvision's CIFAR10, with 200 images."""

    def __init__(self, root, download=False, transform=lambda image: image):
        assert download
        self.transform, self.classes = transform, CLASSES
        self.pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), np.uint8)

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.pixels[index])), index % 10


class Compose:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, image):
        for step in self.steps:
            image = step(image)
        return image


class ToTensor:
    def __call__(self, image):
        import torch

        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = np.float32(mean), np.float32(std)

    def __call__(self, x):
        import torch

        mean, std = (torch.from_numpy(v).reshape(3, 1, 1) for v in (self.mean, self.std))
        return (x - mean) / std


@pytest.fixture
def torchvision(monkeypatch):
    """What the page takes from torchvision, small, whether that is installed or not."""
    parts = {
        "datasets": types.SimpleNamespace(CIFAR10=Images),
        "models": types.SimpleNamespace(mobilenet_v2=MobileNetV2),
        "transforms": types.SimpleNamespace(
            Compose=Compose, ToTensor=ToTensor, Normalize=Normalize
        ),
    }
    module = types.ModuleType("tiny_torchvision")
    vars(module).update(parts)
    monkeypatch.setitem(sys.modules, "tiny_torchvision", module)


def run(block):
    names = {"__name__": "page"}
    block = block.replace("epochs = 60", "epochs = 2")
    block = block.replace("from torchvision import", "from tiny_torchvision import")
    exec(compile(block, str(PAGE), "exec"), names)
    return names


def block_with(words):
    (block,) = [block for block in BLOCKS if words in block]
    return block


def check_packed():
    assert bwn.verify("net.bwn", "net.onnx", samples=8).agrees
    model = bwn.load("net.bwn")
    stored = [
        node.weight
        for node in model.spec.graph.nodes
        if isinstance(node, Weighted) and node.is_packed(model.spec.graph.tensors)
    ]
    assert len(stored) == 12
    assert list(model.classes) == CLASSES
    return model


def test_every_block_is_tested():
    assert len(BLOCKS) == 5
    assert PAGE.read_text("utf-8").count("epochs = 60") == 3


@pytest.mark.usefixtures("torchvision")
def test_your_own_loop(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    block = block_with("schedule.step()")
    assert re.findall(r"bwn.*# (\d)$", block, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    names = run(block)
    assert "kept: the first layer" in capsys.readouterr().out
    model = check_packed()
    image = Image.fromarray(names["data"].pixels[0])
    assert model.predict(image).label in CLASSES


@pytest.mark.usefixtures("torchvision")
def test_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(block_with("bwn.train.fit"))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    check_packed()


def test_layers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(block_with("BinaryConv2d(").replace("epochs=5", "epochs=1"))
    assert bwn.verify("net.bwn", "net.onnx", samples=8).agrees
    assert bwn.evaluate("net.bwn", "mnist-sample").accuracy > 0.5


@pytest.mark.usefixtures("torchvision")
def test_which_layers():
    names = run(block_with("report.undo()"))
    kept = [name for name, reason in names["report"].kept.items() if reason == "skipped"]
    assert len(kept) == 4
    assert bwn.train.binary_layers(names["net"]) == {}


@pytest.mark.filterwarnings("ignore")  # Lightning's own
@pytest.mark.usefixtures("torchvision")
def test_lightning(tmp_path, monkeypatch):
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    run(block_with("LightningModule"))
    check_packed()
