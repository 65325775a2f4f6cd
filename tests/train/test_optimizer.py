"""The optimizer: its compiled step, torch's own, and the formula, for every kind of parameter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bwn.train import BinaryConv2d, BinaryLinear, Settings, compiled_update
from bwn.train.optimizer import Adam, parameter_groups


def network(scheme="margin"):
    torch.manual_seed(1)
    return nn.Sequential(
        BinaryConv2d(2, 5, 3, scheme=scheme),
        nn.BatchNorm2d(5),
        nn.Conv2d(5, 3, 1),
        nn.Flatten(),
        BinaryLinear(12, 4),
    )


def moved(dtype, settings, scheme="margin", steps=4):
    """Parameters after a few steps along the same gradients."""
    module = network(scheme).to(dtype)
    optimizer = Adam(module, settings, steps)
    generator = torch.Generator().manual_seed(2)
    for count in range(steps):
        for parameter in optimizer.parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype)
        optimizer.step(count)
    return {name: parameter.detach().double() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("penalty", [None, "margin", "double-well"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_compiled_step_equals_torchs(penalty, decay):
    """In float64 the step is made of torch's operations."""
    settings = Settings(
        learning_rate=0.05, penalty=penalty, strength=2.0, ramp=1, weight_decay=decay
    )
    weights, expected = moved(torch.float32, settings), moved(torch.float64, settings)
    start = dict(network().named_parameters())
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=2e-6)
        assert not torch.equal(weight, start[name].detach().double()), name
    assert any(float(weight.abs().max()) == 1 for weight in weights.values())


def test_the_first_step_is_the_rate_whatever_the_gradient_and_decay_is_apart():
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -2.0]]))
    layer.weight.grad = torch.tensor([[1e-3, -50.0]])
    Adam(layer, Settings(learning_rate=0.1, weight_decay=0.5), 10).step(0)
    expected = [3 * (1 - 0.1 * 0.5) - 0.1, -2 * (1 - 0.1 * 0.5) + 0.1]
    assert layer.weight[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("penalty", "expected"), [("margin", [0.5, -0.7, 1]), ("double-well", [0.8, -0.8, 1])]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_penalty_alone_shrinks_the_distance_by_lambda_over_steps(penalty, expected, dtype):
    """Half the penalty's gradient times 0.4; with a gradient of 0 Adam does not move."""
    layer = BinaryLinear(3, 1).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1 / 6 if penalty == "margin" else 0.5, -0.5, 1.0]]))
    layer.weight.grad = torch.zeros_like(layer.weight)
    Adam(layer, Settings(penalty=penalty, strength=4, ramp=0), 10).step(0)
    assert layer.weight[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scheme", ["float", "margin"])
def test_each_parameter_is_treated_as_its_layer_asks(scheme):
    module = network(scheme)
    kinds = {
        parameter: kind
        for kind, members in parameter_groups(module).items()
        for parameter in members
    }
    binary, plain = module[0], module[2]
    assert kinds[binary.weight] == (
        binary.learning_rate_scale,
        True,
        scheme == "margin",
        scheme == "margin",
    )
    assert kinds[plain.weight] == (1.0, True, False, False)
    assert {kinds[p] for p in (*module[1].parameters(), plain.bias)} == {(1.0, False, False, False)}


def test_a_frozen_parameter_and_one_without_a_gradient_stay():
    module = network()
    module[2].weight.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = Adam(module, Settings(), 10)
    module[4].weight.grad = torch.ones_like(module[4].weight)
    optimizer.step(0)
    changed = [name for name, p in module.named_parameters() if not torch.equal(p, before[name])]
    assert changed == ["4.weight"]


def test_a_weight_that_is_not_a_number_stays_one():
    layer = BinaryLinear(3, 1)
    layer.weight.grad = torch.tensor([[float("nan"), 1.0, 1.0]])
    Adam(layer, Settings(penalty="margin"), 10).step(0)
    assert layer.weight[0].isnan().tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (2, 3, 3, 3), (1037,)])
def test_compiled_signs_and_draws_equal_the_written_out_ones(dtype, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
    y = compiled_update.signs(x, dtype)
    assert y.dtype == dtype
    assert y.shape == x.shape
    assert torch.equal(y.float(), torch.where(x >= 0, 1.0, -1.0))
    drawn, seed = compiled_update.random_signs(x, dtype, 12345), np.uint64(12345)
    with np.errstate(over="ignore"):
        z = seed + np.arange(x.numel(), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    u = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    assert drawn.dtype == dtype
    assert torch.equal(
        drawn.double().flatten(),
        torch.from_numpy(np.where(x.double().flatten().numpy() > u, 1.0, -1.0)),
    )
