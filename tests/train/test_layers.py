"""The layers: what they compute, how they clip, and what deploying them gives."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bwn.train import (
    SCHEMES,
    BinaryConv2d,
    BinaryLinear,
    SignActivation,
    binary_layers,
    clip_weights,
    deploy,
)
from bwn.train.schemes import signs


@pytest.mark.parametrize("scheme", ["deterministic", "margin", "stochastic"])
def test_layers_compute_with_signs_in_evaluation(scheme):
    conv = BinaryConv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=True, scheme=scheme).eval()
    dense = BinaryLinear(5, 3, bias=True, scheme=scheme).eval()
    x, flat = torch.randn(2, 4, 7, 7), torch.randn(2, 5)
    assert torch.equal(conv(x), F.conv2d(x, signs(conv.weight), conv.bias, 2, 1, 1, 2))
    assert torch.equal(dense(flat), F.linear(flat, signs(dense.weight), dense.bias))


def test_stochastic_layers_draw_anew_in_training_only():
    layer = BinaryLinear(50, 50, scheme="stochastic")
    assert not torch.equal(layer.binarized(), layer.binarized())
    layer.eval()
    assert torch.equal(layer.binarized(), layer.binarized())


def gradient(layer, x, precision):
    """Of the weights for the sum of squared outputs, in memory that held NaN before."""
    for size in (1 << 10, 1 << 12, 1 << 14, 1 << 16):
        _ = [torch.full((size,), math.nan) for _ in range(3)]
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        y = layer(x)
    y.float().square().sum().backward()
    return layer.weight.grad.clone()


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (4, 4)])
@pytest.mark.parametrize("stride", [2, 3])
def test_bfloat16_gradients_of_taps_that_read_padding_alone_are_right(shape, stride):
    torch.manual_seed(0)
    layer = BinaryConv2d(16, 32, 3, stride, padding=1, scheme="margin")
    x = torch.randn(20, 16, *shape)
    exact = gradient(layer, x, "float32")
    error = (gradient(layer, x, "bfloat16") - exact).abs().max()
    assert error <= 0.02 * exact.abs().max()


def test_a_scheme_may_be_an_object_and_float_is_an_ordinary_layer():
    layer = BinaryLinear(4, 2, scheme=SCHEMES["float"])
    x = torch.randn(3, 4)
    assert torch.equal(layer(x), F.linear(x, layer.weight))
    assert layer.learning_rate_scale == 1
    assert binary_layers(nn.Sequential(layer)) == {}


def test_learning_rate_scale_is_glorots():
    assert BinaryLinear(784, 1024).learning_rate_scale == pytest.approx(
        1 / math.sqrt(1.5 / (784 + 1024))
    )
    assert BinaryConv2d(16, 32, 3).learning_rate_scale == pytest.approx(
        1 / math.sqrt(1.5 / (16 * 9 + 32 * 9))
    )


def test_clip_weights_clips_what_asks_for_it():
    net = nn.Sequential(BinaryLinear(3, 3), BinaryConv2d(1, 1, 3, scheme="float"), nn.Linear(3, 3))
    for layer in net:
        nn.init.constant_(layer.weight, -3.0)
    clip_weights(net)
    assert [float(layer.weight.detach().min()) for layer in net] == [-1, -3, -3]


def run_many(layer):
    for _ in range(200):
        layer(torch.zeros(1, 2))


def test_missing_clipping_is_warned_of_in_training():
    layer = BinaryLinear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_many(layer)
    nn.init.constant_(layer.weight, 1.5)
    with pytest.warns(
        UserWarning, match=r"call bwn.train.clip_weights\(module\) after each optimizer step"
    ):
        run_many(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_many(layer.eval())


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_deployed_module_is_plain_and_equal(scheme):
    net = nn.Sequential(
        BinaryConv2d(
            2,
            4,
            (3, 5),
            stride=(1, 2),
            padding=(2, 1),
            dilation=2,
            groups=2,
            bias=True,
            scheme=scheme,
        ),
        SignActivation(),
        nn.Flatten(),
        BinaryLinear(24, 3, scheme=scheme),
    )
    x = torch.randn(2, 2, 8, 8)
    x[0, 0] = 0
    shape = net[0](x).flatten(1).shape[1]
    net[3] = BinaryLinear(shape, 3, bias=True, scheme=scheme)
    plain = deploy(net)
    kinds = [type(module) for module in plain.modules()]
    assert kinds[1] is nn.Conv2d
    assert kinds[4] is nn.Linear
    assert torch.equal(plain(x), net.eval()(x))
    assert isinstance(net[0], BinaryConv2d), "the module itself must stay as it was"


def test_deploy_replaces_a_lone_layer_and_keeps_a_shared_one_shared():
    assert type(deploy(BinaryLinear(3, 2))) is nn.Linear
    shared = BinaryLinear(3, 3)
    plain = deploy(nn.Sequential(shared, nn.ReLU(), shared))
    assert type(plain[0]) is nn.Linear
    assert plain[0] is plain[2]
