"""The loop: its steps, its schedules, and that stopping changes nothing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from bwn.data.datasets import Dataset
from bwn.errors import BwnError, CheckpointError
from bwn.ir.model_spec import Preprocess
from bwn.train import (
    Architecture,
    BinaryLinear,
    Settings,
    Trainer,
    accuracy,
    binary_layers,
    build,
    fit,
    measure,
)
from bwn.train.architectures import build_seeded
from bwn.train.augment import augmented
from bwn.train.preprocessing import as_input, digest, split
from bwn.train.schemes import SCHEMES
from bwn.train.settings import settings_for

SMALL = Settings(epochs=3, batch_size=20, penalty="margin", augment="flip")
PLAIN = Preprocess(size=(1, 2), color="L", mean=(0.0,), std=(1.0,))


def trainer(data, settings=SMALL, scheme="stochastic", **more):
    network = Architecture(
        name="mlp", input_shape=(1, 8, 8), classes=3, scheme=scheme, width=8, **more
    )
    return Trainer(build_seeded(network, settings.seed), data, measure(data), settings)


def bits(run):
    return {name: tensor.numpy().tobytes() for name, tensor in run.module.state_dict().items()}


def test_one_step_moves_weights_by_adams_step_times_the_layers_scale():
    layer = BinaryLinear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.5], [0.25, 0.125]]))
    before = layer.weight.detach().clone()
    data = Dataset(np.array([[[255, 0]], [[0, 255]]], np.uint8), np.array([0, 1]), ("a", "b"))
    rate = 1e-3
    settings = Settings(epochs=1, batch_size=2, learning_rate=rate, validation=0, augment="none")
    Trainer(nn.Sequential(nn.Flatten(), layer), data, PLAIN, settings).run()
    # Scores are [[1, 1], [-1, 1]] for targets [[1, -1], [-1, 1]]: only the second row of weights
    # has a gradient, at the first input. Adam's first step is the rate, whatever the gradient is.
    moved = before - layer.weight.detach()
    expected = rate * layer.learning_rate_scale * torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-9)


def test_weights_stay_clipped(shapes_set):
    settings = Settings(epochs=2, batch_size=20, learning_rate=0.5)
    run = trainer(shapes_set(), settings, "deterministic")
    run.run()
    weights = [layer.weight.detach() for layer in binary_layers(run.module).values()]
    assert all(float(weight.abs().max()) <= 1 for weight in weights)
    assert any(bool((weight.abs() == 1).any()) for weight in weights)


def test_mixed_precision_trains_alike_and_keeps_weights_and_statistics_in_float32(shapes_set):
    last = {}
    for precision in ("float32", "bfloat16"):
        seen = []
        settings = Settings(epochs=30, batch_size=20, learning_rate=0.01, precision=precision)
        run = trainer(shapes_set(), settings, "deterministic")
        run.run(seen.append)
        assert {t.dtype for t in run.module.state_dict().values()} == {torch.float32, torch.int64}
        last[precision] = seen[-1]
    assert min(progress.accuracy for progress in last.values()) > 0.9
    assert last["bfloat16"].loss != last["float32"].loss, "bfloat16 was not used"


@pytest.mark.parametrize("penalty", ["margin", "double-well"])
def test_a_penalty_closes_the_margin(shapes_set, penalty):
    distances = {}
    for name in (None, penalty):
        seen = []
        settings = Settings(
            epochs=20, batch_size=20, learning_rate=0.1, penalty=name, strength=30.0, ramp=3
        )
        trainer(shapes_set(), settings, "margin").run(seen.append)
        distances[name] = seen[-1].distance
    assert distances[penalty] < 0.5 * distances[None]


def test_schedules_start_and_end_where_they_say():
    rates = {"learning_rate": 1e-2, "final_learning_rate": 1e-4}
    settings = Settings(**rates, schedule="exponential", penalty="margin", strength=0.5, ramp=2)
    assert [settings.learning_rate_at(part) for part in (0, 0.5, 1)] == pytest.approx(
        [1e-2, 1e-3, 1e-4]
    )
    rates_at = [Settings(**rates).learning_rate_at(part) for part in (0, 1 / 3, 0.5, 1)]
    assert rates_at == pytest.approx([1e-2, 1e-4 + 0.75 * 9.9e-3, 5.05e-3, 1e-4])
    assert [settings.lambda_at(part) for part in (0, 0.5, 1)] == pytest.approx([5e-3, 5e-2, 0.5])
    assert Settings(strength=0.5).lambda_at(1) == 0, "no penalty, no strength"


@pytest.mark.parametrize("stop_at", [1, 5, 9, 13])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(shapes_set, stop_at):
    data = shapes_set()
    whole = trainer(data)
    assert whole.run()
    assert whole.steps == 15
    first = trainer(data)
    assert not first.run(stop=lambda: first.step == stop_at)
    second = trainer(data)
    second.module.load_state_dict(first.module.state_dict())
    second.restore(first.state())
    assert second.step == stop_at
    seen, expected = [], []
    assert second.run(seen.append)
    trainer(data).run(expected.append)
    assert bits(second) == bits(whole)
    last, other = seen[-1], expected[-1]
    assert (last.loss, last.accuracy, last.validation) == (
        other.loss,
        other.accuracy,
        other.validation,
    )


def test_the_seed_decides_and_torchs_own_generator_is_left_alone(shapes_set):
    data = shapes_set()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    states = []
    for seed in (0, 0, 1):
        run = trainer(data, Settings(epochs=1, batch_size=20, seed=seed))
        run.run()
        states.append(bits(run))
    assert torch.equal(torch.rand(1), expected)
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize(
    "change",
    [
        {"step": 99},
        {"step": -1},
        {"moments": []},
        {"moments": [[torch.zeros(1), torch.zeros(1)]]},
        {"running": None},
        {"step": None},
        {"best": [0.5]},
        {"best": 3},
        {"waited": "long"},
    ],
)
def test_a_state_that_does_not_fit_is_refused(shapes_set, change):
    run = trainer(shapes_set())
    run.run(stop=lambda: run.step == 4)
    with pytest.raises(CheckpointError, match="training state does not fit its network"):
        trainer(shapes_set()).restore({**run.state(), **change})


def test_a_state_without_a_part_says_which(shapes_set):
    with pytest.raises(CheckpointError, match=r"does not fit its network: it lacks 'step'$"):
        trainer(shapes_set()).restore({})


def test_progress_counts_and_ends(shapes_set):
    seen = []
    trainer(shapes_set()).run(seen.append)
    ends = [progress for progress in seen if progress.epoch_done]
    assert [progress.epoch for progress in ends] == [1, 2, 3]
    assert [progress.step for progress in ends] == [5, 10, 15]
    assert ends[-1].left == 0
    assert all(0 <= progress.validation <= 1 and 0 < progress.distance < 1 for progress in ends)


def test_flips_are_the_signs_that_the_epochs_last_step_changed(shapes_set):
    run, seen = trainer(shapes_set()), []

    def signs():
        return torch.cat(
            [layer.weight.flatten() >= 0 for layer in binary_layers(run.module).values()]
        )

    run.run(seen.append, stop=lambda: run.step == 4)
    with torch.no_grad():
        for layer in binary_layers(run.module).values():
            layer.weight.mul_(1e-6)  # so near 0 that a step flips some
    before = signs()
    run.run(seen.append, stop=lambda: run.step == 5)
    assert seen[-1].epoch_done
    assert 0 < seen[-1].flips == (before != signs()).double().mean().item() < 0.5
    assert run.history[-1].flips == seen[-1].flips
    run.run(seen.append)
    assert all((progress.flips is not None) == progress.epoch_done for progress in seen)


def test_a_loss_that_is_no_number_ends_in_one_line(shapes_set):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.constant_(net[1].weight, float("nan"))
    with pytest.raises(
        BwnError,
        match="the loss became NaN or infinite in epoch 1; restart with a lower learning rate",
    ):
        fit(net, shapes_set())


def test_fit_trains_a_users_module(shapes_set, own_module):
    net = own_module()
    preprocess = fit(
        net, shapes_set(), Settings(epochs=15, batch_size=20, learning_rate=0.01, penalty="margin")
    )
    assert not net.training
    assert accuracy(net, shapes_set(60, seed=9), preprocess) >= 0.9


def test_measure_standardizes_each_channel():
    rng = np.random.default_rng(1)
    images = (rng.random((20, 5, 6, 3)) * [255, 120, 40]).astype(np.uint8)
    data = Dataset(images, np.zeros(20, np.int64), ("a", "b"))
    preprocess = measure(data)
    x = as_input(torch.from_numpy(images), preprocess)
    assert x.shape == (20, 3, 5, 6)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=0)
    with pytest.raises(BwnError, match="all of one color"):
        measure(Dataset(np.full((3, 4, 4), 7, np.uint8), np.zeros(3, np.int64), ("a",)))
    images[..., 1:] = 3, 4
    with pytest.raises(BwnError, match="only one value of green and blue: convert"):
        measure(data)


def test_training_feeds_what_inference_prepares():
    from PIL import Image

    from bwn.data.resizing import prepare

    image = np.random.default_rng(2).integers(0, 256, (4, 5, 3), np.uint8)
    rule = Preprocess(size=(4, 5), color="RGB", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    fed = as_input(torch.from_numpy(image[None]), rule)[0].numpy()
    np.testing.assert_array_equal(fed, prepare(Image.fromarray(image), rule))


def test_split_holds_out_a_seeded_part(shapes_set):
    data = shapes_set(50)
    train, held_out = split(data, 0.2, seed=3)
    assert (len(train.images), len(held_out.images)) == (40, 10)
    pixels = {image.tobytes() for image in np.concatenate([train.images, held_out.images])}
    assert pixels == {image.tobytes() for image in data.images}
    assert np.array_equal(split(data, 0.2, seed=3)[1].images, held_out.images)
    assert not np.array_equal(split(data, 0.2, seed=4)[1].images, held_out.images)
    with pytest.raises(BwnError, match="too few images to train on: 1"):
        split(shapes_set(1), 0.2, seed=0)


def test_digest_sees_every_pixel_and_label(shapes_set):
    data = shapes_set(9)
    other, relabeled = data.images.copy(), data.labels.copy()
    other[4, 3, 2] ^= 1
    relabeled[0] = 2
    digests = {
        digest(data),
        digest(Dataset(other, data.labels, data.classes)),
        digest(Dataset(data.images, relabeled, data.classes)),
        digest(Dataset(data.images, data.labels, ("x", "y", "z"))),
    }
    assert len(digests) == 4


def test_augmentation_moves_by_a_sixteenth_and_mirrors():
    image = torch.zeros(400, 32, 48, dtype=torch.uint8)
    image[:, 16, 10] = 255
    assert augmented(image, "none") is image
    for augment, columns in (("shift", range(7, 14)), ("flip", [*range(7, 14), *range(34, 41)])):
        moved = augmented(image, augment)
        assert moved.shape == image.shape
        bright = (moved == 255).nonzero()
        assert len(bright) == 400
        assert set(bright[:, 1].tolist()) == set(range(14, 19))
        assert set(bright[:, 2].tolist()) == set(columns)
    assert augmented(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "flip").shape == (2, 8, 8, 3)


def test_settings_follow_network_scheme_and_choice():
    assert settings_for("mlp", SCHEMES["margin"], 9000).penalty == "margin"
    assert settings_for("mlp", SCHEMES["deterministic"], 9000).penalty is None
    assert settings_for("mlp", SCHEMES["margin"], 9000, penalty="none").penalty is None
    assert settings_for("resnet18", SCHEMES["margin"], 9000, epochs=3).loss == "cross-entropy"
    assert settings_for("resnet18", SCHEMES["margin"], 9000, epochs=3).epochs == 3
    few = settings_for("mlp", SCHEMES["margin"], 80)
    assert (few.batch_size, few.epochs) == (10, 125)
    assert settings_for("mlp", SCHEMES["margin"], 80, batch_size=40, epochs=2).epochs == 2
    with pytest.raises(
        BwnError, match=r"penalty 'margin' pulls weights to .-1, which scheme 'float' does not use"
    ):
        settings_for("mlp", SCHEMES["float"], 9000, penalty="margin")
    with pytest.raises(BwnError, match=r"training settings: .*learning_rate"):
        settings_for("mlp", SCHEMES["margin"], 9000, learning_rate=-1.0)


@pytest.mark.parametrize("activations", ["relu", "sign"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", (1, 3, 4)),
        ("lenet", (1, 28, 28)),
        ("convnet", (3, 9, 30)),
        ("vgg", (3, 17, 9)),
        ("resnet20", (3, 9, 16)),
        ("resnet18", (3, 33, 47)),
    ],
)
def test_every_network_takes_images_of_any_size(name, shape, activations):
    network = Architecture(
        name=name, input_shape=shape, classes=4, activations=activations, width=4
    )
    assert build(network).eval()(torch.randn(2, *shape)).shape == (2, 4)


def test_paper_networks_have_their_sizes():
    mlp = build(Architecture(name="mlp", input_shape=(1, 28, 28), classes=10))
    assert [tuple(layer.weight.shape) for layer in binary_layers(mlp).values()] == [
        (1024, 784), (1024, 1024), (1024, 1024), (10, 1024)
    ]  # fmt: skip
    vgg = build(Architecture(name="vgg", input_shape=(3, 32, 32), classes=10))
    assert sum(layer.weight.numel() for layer in binary_layers(vgg).values()) == 14_022_016
    resnet = build(Architecture(name="resnet18", input_shape=(3, 224, 224), classes=1000))
    assert (
        sum(p.numel() for p in resnet.parameters()) - 1000 * 2 == 11_689_512 - 1000
    )  # BN for the bias of the head
    assert len(binary_layers(resnet)) == 19, "first and last stay float"


def test_a_network_says_when_images_are_too_small():
    with pytest.raises(
        BwnError, match="vgg needs images of at least 8 x 8 pixels, these are 8 x 7"
    ):
        build(Architecture(name="vgg", input_shape=(3, 8, 7), classes=10))


def test_signals_that_come_at_once_do_not_wait_for_each_other():
    code = """
import signal, sys
from bwn.train.run import stop_requested
with stop_requested() as stop:
    handler = signal.getsignal(signal.SIGTERM)
    def again(frame, event, argument):  # a second signal, before every line of the first
        handler(signal.SIGTERM, None)
        return again
    sys.settrace(again)
    handler(signal.SIGTERM, None)
    sys.settrace(None)
    assert stop()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
