"""Networks of other people: binarized, trained in a loop of their own, exported, packed, verified."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_networks import ByHand, MobileNetV2, ResNet
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import bwn
from bwn.train import binarize, margin

LAYERS = {MobileNetV2: 12, ResNet: 7, ByHand: 4}


def images(count=60):
    """Color images of 32 x 32, each class bright in a quarter of its own."""
    rng = np.random.default_rng(0)
    pixels = rng.random((count, 3, 32, 32), np.float32) * 0.5
    labels = np.arange(count) % 4
    for quarter in range(4):
        top, left = divmod(quarter, 2)
        pixels[labels == quarter, :, 16 * top : 16 * top + 16, 16 * left : 16 * left + 16] += 0.5
    return TensorDataset(torch.from_numpy(pixels), torch.from_numpy(labels))


@pytest.mark.parametrize("network", LAYERS)
@pytest.mark.parametrize("scheme", ["margin", "scaled"])
def test_a_network_is_trained_exported_packed_and_verified(network, scheme, tmp_path):
    net = network(num_classes=4)
    report = binarize(net, scheme)
    assert len(report.replaced) == LAYERS[network]
    loader = DataLoader(images(), batch_size=12, shuffle=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    hook = margin(optimizer, net, steps=2 * len(loader), strength=30.0, ramp=2.0)
    before, losses = hook.distance, []
    for _ in range(2):
        for x, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert hook.distance < 0.1 * before
    path = tmp_path / "net.onnx"
    bwn.export_onnx(net, path, torch.zeros(2, 3, 32, 32))
    packed = bwn.pack(path, tmp_path / "net.bwn")
    assert packed.compared
    stored = [layer.stored for layer in packed.layers if layer.weights]
    twice = network is ByHand  # whose layer is two nodes
    assert stored.count("1 bit") == len(report.replaced) + twice
    assert stored.count("float32") == 2
    assert bwn.verify(tmp_path / "net.bwn", path, samples=8).agrees
