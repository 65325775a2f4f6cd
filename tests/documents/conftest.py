"""The folder in which the code blocks of a page run: photos, networks and what a checkout has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import bwn
from bwn.data.datasets import load_dataset
from bwn.tools.demo import write_digits

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("--data", "mnist-sample", "--model", "mlp", "--width", "16", "--epochs", "1")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted, by the names that they use."""
    folder = tmp_path_factory.mktemp("prepared")
    write_digits(folder / "photos", 6)
    digits = load_dataset("mnist-sample", "test").images
    for number, name in enumerate(("digit.png", "a.png", "b.png", "other.png", "photo.jpg")):
        Image.fromarray(digits[number]).save(folder / name)
    shutil.copy(ROOT / "models" / "mnist-mlp.bwn", folder / "model.bwn")
    bwn.export(folder / "model.bwn", folder / "model.onnx")
    shutil.copy(folder / "model.onnx", folder / "other.onnx")
    for scheme, name in (("margin", "model.pt"), ("float", "float.pt")):
        command = [sys.executable, "-m", "bwn", "train", *TRAIN, "--scheme", scheme, "-o", name]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "models").symlink_to(ROOT / "models")
    return folder


@pytest.fixture
def workplace(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it, for one page."""
    return Path(shutil.copytree(prepared, tmp_path / "page", symlinks=True))
