"""Modules in wrappers, and with weights that hooks compute, deploy as what they compute."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from bwn.train import binarize, deploy, export_onnx


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.Linear(5, 3))


def compiled(module):
    return torch.compile(module, backend="eager")


def inside(module):
    """Its third layer is in a wrapper."""
    module[2] = nn.DataParallel(module[2])
    return module


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, AveragedModel, compiled, inside, lambda net: compiled(nn.DataParallel(net))],
)
def test_a_wrapper_is_left_out(net, wrap, tmp_path):
    binarize(net)
    example = torch.zeros(2, 6)
    export_onnx(net, tmp_path / "plain.onnx", example)
    names = [name for name, _ in net.named_parameters()]
    wrapped = wrap(net)
    export_onnx(wrapped, tmp_path / "wrapped.onnx", example)
    plain, other = (tmp_path / name for name in ("plain.onnx", "wrapped.onnx"))
    assert plain.read_bytes() == other.read_bytes()
    assert [name for name, _ in deploy(wrapped).named_parameters()] == names
    assert all(x.requires_grad for x in wrapped.parameters()), "the module is left as it was"


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises the parametrization
        nn.utils.weight_norm(layer)


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize(
    "change",
    [
        old_weight_norm,
        nn.utils.spectral_norm,
        pruned,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ],
)
@pytest.mark.parametrize("first", ["change", "binarize"])
def test_a_computed_weight_becomes_a_parameter(net, change, first, tmp_path):
    steps = {"change": lambda: change(net[2]), "binarize": lambda: binarize(net, float_ends=False)}
    for name in (first, *(steps.keys() - {first})):
        steps[name]()
    x = torch.randn(4, 6)
    for _ in range(3):
        net(x).sum().backward()  # leaves a weight that torch refuses to copy
    copied = deploy(net)
    assert {name for name, _ in copied[2].named_parameters()} == {"weight", "bias"}
    assert type(copied[2]) is nn.Linear
    export_onnx(net, tmp_path / "net.onnx", x)
    net(x).sum().backward()
    torch.testing.assert_close(deploy(net.eval())(x), net(x))
