"""Networks as people write them in torch, exported by both exporters with their defaults."""

from __future__ import annotations

import contextlib
import io
import warnings

import pytest
import torch
from torch import nn

from bwn.tools.pack import pack


class ComputedWeights(nn.Conv2d):
    """Weights sign(w) * mean |w|, computed in the graph (Rastegari et al., XNOR-Net, 2016)."""

    def forward(self, x):
        alpha = self.weight.abs().mean((1, 2, 3), keepdim=True)
        weight = torch.sign(self.weight) * alpha
        return nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class StraightThrough(nn.Conv2d):
    """Signs of inputs and weights with the arithmetic of straight-through estimators."""

    def forward(self, x):
        x = (torch.sign(x) - x).detach() + x
        weight = torch.sign(self.weight) * self.weight.abs().mean((1, 2, 3), keepdim=True)
        weight = (weight - self.weight).detach() + self.weight
        return nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding)


def network(layer):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardtanh(), layer(8, 16, 3, padding=1),
        nn.BatchNorm2d(16), nn.PReLU(16), layer(16, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("layer", [ComputedWeights, StraightThrough])
def test_layers_of_one_bit_are_found(layer, dynamo, tmp_path):
    path = tmp_path / "net.onnx"
    if dynamo:
        pytest.importorskip("onnxscript")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network(layer), (torch.randn(1, 3, 32, 32),), path, dynamo=dynamo)
    report = pack(path, tmp_path / "net.bwn")
    layers = [row for row in report.layers if row.weights]
    activations = "binary" if layer is StraightThrough else "float32"
    assert report.compared
    assert [(row.stored, row.activations) for row in layers] == [
        ("float32", "float32"), ("1 bit", activations), ("1 bit", activations),
        ("float32", "float32"),
    ]  # fmt: skip
