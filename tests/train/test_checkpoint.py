"""Checkpoints: whole or refused, and never run."""

from __future__ import annotations

import os
import re
import zipfile

import msgspec
import numpy as np
import pytest
import torch

from bwn.errors import CheckpointError, FileError
from bwn.train import Architecture, Settings, Trainer, measure, read_checkpoint
from bwn.train.architectures import build_seeded
from bwn.train.checkpoint import Description, write_checkpoint
from bwn.train.preprocessing import digest


@pytest.fixture
def activations():
    return "relu"


@pytest.fixture
def written(tmp_path, shapes_set, activations):
    """A trained checkpoint, with the trainer that made it."""
    data = shapes_set(60)
    network = Architecture(
        name="mlp", input_shape=(1, 8, 8), classes=3, width=8, activations=activations
    )
    preprocess = measure(data)
    trainer = Trainer(build_seeded(network, 0), data, preprocess, Settings(epochs=1, batch_size=10))
    trainer.run()
    description = Description(
        architecture=network,
        settings=trainer.settings,
        preprocess=preprocess,
        classes=data.classes,
        source="somewhere",
        digest=digest(data),
    )
    path = tmp_path / "model.pt"
    write_checkpoint(path, description, trainer.module, trainer.state())
    return path, trainer, description


def test_what_is_written_is_read(written):
    path, trainer, description = written
    checkpoint = read_checkpoint(path)
    assert checkpoint.description == description
    assert (description.finished, description.skip_bad) == (False, False), "the defaults"
    assert not checkpoint.module.training
    state, expected = checkpoint.module.state_dict(), trainer.module.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    pairs = zip(checkpoint.training["moments"], trainer.state()["moments"], strict=True)
    assert all(
        torch.equal(*both)
        for found_pair, pair in pairs
        for both in zip(found_pair, pair, strict=True)
    )
    assert all(parameter.requires_grad for parameter in checkpoint.module.parameters())


def test_same_run_same_bytes(written, tmp_path):
    path, trainer, description = written
    os.mkdir(tmp_path / "other")
    write_checkpoint(tmp_path / "other" / "model.pt", description, trainer.module, trainer.state())
    assert path.read_bytes() == (tmp_path / "other" / "model.pt").read_bytes()


def test_a_target_that_cannot_be_written_is_one_line(written, tmp_path):
    _, trainer, description = written
    with pytest.raises(FileError, match="cannot be written"):
        write_checkpoint(tmp_path / "no" / "model.pt", description, trainer.module, trainer.state())


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(written, part):
    path = written[0]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    expected = "truncated or damaged; copy it again" if part else "an empty file, not a checkpoint"
    assert refused(path) == f"{path}: {expected}"


def test_a_flipped_bit_is_refused(written):
    path = written[0]
    content = path.read_bytes()
    ends = range(len(content) - 110, len(content))
    for position in (*range(0, len(content), len(content) // 60), *ends):
        for mask in (0xFF, 0x01):
            path.write_bytes(
                content[:position] + bytes([content[position] ^ mask]) + content[position + 1 :]
            )
            refused(path)


def test_several_flipped_bits_are_refused(written):
    path = written[0]
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for count in range(1, 50):
        damaged = bytearray(content)
        for position in random.choice(len(content), count, replace=False):
            damaged[position] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        refused(path)


def test_a_checkpoint_without_a_digest_is_read(written):
    path, trainer, _ = written
    changed(path, lambda content: None)  # version 1, as older programs wrote it
    state, expected = read_checkpoint(path).module.state_dict(), trainer.module.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_checkpoint_that_lost_its_digest_is_refused(written):
    path = written[0]
    torch.save(torch.load(path, weights_only=True), path)
    assert "truncated or damaged" in refused(path)


def test_missing_files_folders_and_foreign_files_are_refused(tmp_path):
    assert "no such file: " in refused(tmp_path / "none.pt")
    assert f"{tmp_path} is a folder, expected a checkpoint" in refused(tmp_path)
    text = tmp_path / "text.pt"
    text.write_text("not a model\n")
    assert refused(text) == f"{text}: a text file, not a checkpoint"
    archive = tmp_path / "archive.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    assert "cannot be read safely" in refused(archive)
    for name, value in (("tensor.pt", torch.zeros(3)), ("weights.pt", {"weight": torch.zeros(3)})):
        torch.save(value, tmp_path / name)
        assert "not a checkpoint of bwn train" in refused(tmp_path / name)


def test_another_module_is_refused_with_the_next_step(tmp_path):
    module = torch.nn.Linear(2, 2)
    torch.save(module, tmp_path / "module.pt")
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    for name in ("module.pt", "weights.pt"):
        assert refused(tmp_path / name).endswith(
            "a module of your own is packed from its ONNX file, after bwn.train.binarize and "
            "training (docs/own-training.md)"
        )
    assert "it holds Python objects, not only tensors" in refused(tmp_path / "module.pt")


class Payload:
    """Unpickling it would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_is_refused_and_not_run(written, tmp_path):
    path = written[0]
    content = torch.load(path, weights_only=True)
    trace = tmp_path / "ran"
    torch.save({**content, "description": Payload(trace)}, path)
    assert "cannot be read safely" in refused(path)
    assert not trace.exists()


def changed(path, change):
    content = torch.load(path, weights_only=True)
    content["version"] = 1  # without a digest, the file is refused for what is changed
    change(content)
    torch.save(content, path)


def describe(content, **changes):
    description = msgspec.json.decode(content["description"])
    for key, value in changes.items():
        *parents, last = key.split("__")
        target = description
        for parent in parents:
            target = target[parent]
        target[last] = value
    content["description"] = msgspec.json.encode(description).decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("weights"), "not a checkpoint of bwn train"),
        (lambda c: c.update(format="other"), "not a checkpoint of bwn train"),
        (lambda c: c.update(version=3), "has checkpoint version 3, expected 1 or 2"),
        (lambda c: c.update(description="{"), "description is invalid"),
        (lambda c: c.update(description=3), "description is invalid"),
        (lambda c: describe(c, extra=1), "description is invalid: .*extra"),
        (
            lambda c: describe(c, architecture__name="alexnet"),
            "description is invalid: .*alexnet",
        ),
        (lambda c: describe(c, architecture__width=10**9), "description is invalid"),
        (
            lambda c: describe(c, architecture__width=8192),
            "weight '1.weight' is not torch.float32 of shape .8192, 64",
        ),
        (lambda c: describe(c, architecture__name="vgg"), "weights are not those of its network"),
        (
            lambda c: describe(c, architecture__input_shape=[1, 8, 9]),
            r"its network reads \(1, 8, 9\)",
        ),
        (lambda c: describe(c, preprocess__std=[0.0]), "mean and std are not 1 numbers each"),
        (lambda c: describe(c, preprocess__mean=[0.1, 0.2]), "mean and std are not 1 numbers each"),
        (lambda c: describe(c, classes=["a", "b"]), "2 class names, but the network has 3 classes"),
        (lambda c: describe(c, settings__epochs=-1), "description is invalid"),
        (lambda c: c.update(weights=[1]), "weights are not those of its network"),
        (lambda c: c["weights"].pop("1.weight"), "weights are not those of its network"),
        (
            lambda c: c["weights"].update({"1.weight": torch.zeros(2, 2)}),
            "weight '1.weight' is not torch.float32",
        ),
        (lambda c: c["weights"].update({"1.weight": 3}), "weight '1.weight' is not torch.float32"),
        (
            lambda c: c["weights"]["1.weight"].fill_(float("inf")),
            "weight '1.weight' holds NaN or infinite numbers",
        ),
        (lambda c: c["weights"]["2.running_var"].fill_(-1), "negative variance"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(written, change, words):
    path = written[0]
    changed(path, change)
    message = refused(path)
    assert re.search(words, message), message


@pytest.mark.parametrize("activations", ["int8"])
def test_a_negative_scale_is_refused(written):
    path = written[0]
    scales = [name for name in read_checkpoint(path).module.state_dict() if name.endswith(".step")]
    assert scales
    changed(path, lambda content: content["weights"][scales[-1]].neg_())
    assert "8-bit activations have a negative scale" in refused(path)
