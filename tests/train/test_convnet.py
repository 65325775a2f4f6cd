"""convnet: its whitening, its forms, and when it is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bwn.data.datasets import Dataset
from bwn.train import Architecture, Settings, binary_layers, build, measure
from bwn.train.networks import default_network
from bwn.train.preprocessing import as_input
from bwn.train.run import resume, start
from bwn.train.whitening import WhiteningConv2d, measure_whitening


def smooth_images(count=300, size=12, channels=3, seed=0):
    """Images of three classes whose neighboring pixels are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 180, (count, size // 4, size // 4, channels), np.uint8)
    images = coarse.repeat(4, 1).repeat(4, 2) + rng.integers(
        0, 40, (count, size, size, channels), np.uint8
    )
    labels = np.arange(count) % 3
    images[labels == 0, :, : size // 2] //= 2
    images[labels == 1, : size // 2] //= 2
    return Dataset(images if channels == 3 else images[..., 0], labels, ("left", "top", "none"))


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated_with_variance_1(channels):
    data, layer = smooth_images(channels=channels), WhiteningConv2d(channels)
    measure_whitening(torch.nn.Sequential(layer), data, measure(data))
    with torch.no_grad():
        y = layer(as_input(torch.from_numpy(data.images), measure(data))).double()
    half = 4 * channels
    vectors = y.permute(1, 0, 2, 3).reshape(2 * half, -1)
    torch.testing.assert_close(vectors[half:], -vectors[:half])
    covariance = vectors[:half] @ vectors[:half].T / vectors.shape[1]
    torch.testing.assert_close(
        covariance, torch.diag(covariance.diagonal()), rtol=0, atol=1e-4, check_dtype=False
    )
    assert 0.9 < covariance.diagonal().min() <= covariance.diagonal().max() < 1.001


def test_whitening_of_flat_images_is_finite():
    images = np.zeros((20, 12, 12), np.uint8)
    images[::2] = 255  # each image of one color: three of four directions have no variance
    data, layer = Dataset(images, np.arange(20) % 2, ("a", "b")), WhiteningConv2d(1)
    measure_whitening(torch.nn.Sequential(layer), data, measure(data))
    assert bool(torch.isfinite(layer.weight).all())


@pytest.mark.parametrize("activations", ["relu", "int8", "sign"])
def test_its_convolutions_have_one_bit_and_its_ends_where_asked(activations):
    def network(float_ends=None):
        return build(
            Architecture(
                name="convnet",
                input_shape=(3, 32, 32),
                classes=10,
                width=8,
                activations=activations,
                float_ends=float_ends,
            )
        )

    inner = [tuple(layer.weight.shape[:2]) for layer in binary_layers(network()).values()]
    assert inner == [(8, 24), (8, 8), (32, 8), *[(32, 32)] * 4]
    outer = [tuple(layer.weight.shape[:2]) for layer in binary_layers(network(False)).values()]
    assert outer == [(8, 3), (8, 8), *inner[1:], (10, 32)]
    assert not any(isinstance(layer, WhiteningConv2d) for layer in network(False).modules())


def test_a_run_measures_the_whitening_keeps_it_and_resumes_with_it(tmp_path, monkeypatch):
    data = smooth_images()
    monkeypatch.setattr("bwn.train.run.load_dataset", lambda *_args, **_kwargs: data)
    architecture = Architecture(name="convnet", input_shape=(3, 12, 12), classes=3, width=4)
    settings = Settings(epochs=2, batch_size=30, loss="cross-entropy", validation=0.0)

    def run(path):
        return start(data, architecture, settings, path, source="photos")

    expected = WhiteningConv2d(3)
    measure_whitening(expected, data, measure(data))
    whole, stopped = run(tmp_path / "whole.pt"), run(tmp_path / "stopped.pt")
    assert torch.equal(whole.trainer.module[0].weight, expected.weight)
    whole.go()
    assert torch.equal(whole.trainer.module[0].weight, expected.weight)
    assert not torch.equal(whole.trainer.module[0].bias, expected.bias)

    stopped.trainer.run(stop=lambda: stopped.trainer.step == 7)
    stopped.checkpointer.save_or_wait(stopped.description, lambda text: None)
    resumed = resume(tmp_path / "stopped.pt")
    resumed.go()
    for name, tensor in whole.trainer.module.state_dict().items():
        assert torch.equal(tensor, resumed.trainer.module.state_dict()[name]), name


@pytest.mark.parametrize(
    ("shape", "network"),
    [
        ((1, 28, 28), "mlp"),
        ((1, 32, 32), "mlp"),
        ((1, 33, 20), "convnet"),
        ((3, 8, 30), "mlp"),
        ((3, 32, 32), "convnet"),
        ((3, 64, 64), "convnet"),
        ((3, 65, 20), "resnet18"),
    ],
)
def test_the_default_network_suits_the_images(shape, network):
    assert default_network(shape) == network
