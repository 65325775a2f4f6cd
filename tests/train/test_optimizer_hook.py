"""margin: hooks on any optimizer do what a loop written by hand does, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bwn.errors import ArgumentError
from bwn.train import (
    PENALTIES,
    BinaryLinear,
    Penalty,
    Settings,
    binarize,
    binary_layers,
    margin,
    unbinarize,
)
from bwn.train.optimizer import Adam

STEPS = 12
OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
}


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(),
        nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    binarize(net)
    return net


def loss_of(net, step):
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randn(16, 6, generator=generator), torch.arange(16) % 3
    return F.cross_entropy(net(x), y)


def bits(net):
    return {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}


def by_hand(make, penalty="margin", strength=30.0, ramp=2.0, accumulate=1):
    """A loop that scales, pulls and clips itself, with a group for each layer's learning rate."""
    net = network()
    layers = list(binary_layers(net).values())
    weights = [layer.weight for layer in layers]
    others = [p for p in net.parameters() if not any(p is weight for weight in weights)]
    optimizer = make([{"params": others}, *({"params": [weight]} for weight in weights)])
    first = optimizer.param_groups[0]["lr"]
    for step in range(STEPS):
        rate = first * (1 - step / STEPS)
        optimizer.param_groups[0]["lr"] = rate
        for group, layer in zip(optimizer.param_groups[1:], layers, strict=True):
            group["lr"] = rate * layer.learning_rate_scale
        optimizer.zero_grad()
        for part in range(accumulate):
            loss_of(net, step * accumulate + part).backward()
        slopes = [PENALTIES[penalty].gradient(weight.detach()) for weight in weights]
        optimizer.step()
        pull = min(strength * 10 ** (-ramp * (1 - step / STEPS)) / STEPS, 1)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(slope, alpha=pull / 2).clamp_(-1, 1)
    return bits(net)


def train(net, optimizer, begin=0, end=STEPS, accumulate=1):
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - (begin + step) / STEPS)
    for step in range(begin, end):
        optimizer.zero_grad()
        for part in range(accumulate):
            loss_of(net, step * accumulate + part).backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_equals_a_loop_by_hand(name):
    net = network()
    optimizer = OPTIMIZERS[name](net.parameters())
    hook = margin(optimizer, net, STEPS, strength=30.0, ramp=2.0)
    train(net, optimizer)
    assert bits(net) == by_hand(OPTIMIZERS[name])
    assert hook.step == STEPS
    assert len(optimizer.param_groups) == 1
    assert all(bool((layer.weight.abs() <= 1).all()) for layer in binary_layers(net).values())


def test_accumulated_gradients_make_one_step_and_a_penalty_is_chosen():
    net = network()
    optimizer = OPTIMIZERS["adam"](net.parameters())
    hook = margin(optimizer, net, STEPS, strength=30.0, ramp=2.0, penalty="double-well")
    train(net, optimizer, accumulate=3)
    assert hook.step == STEPS
    assert bits(net) == by_hand(OPTIMIZERS["adam"], "double-well", accumulate=3)


def test_it_is_what_fits_own_adam_does():
    settings = Settings(
        learning_rate=0.01, final_learning_rate=0.01, penalty="margin", strength=30.0, ramp=2.0
    )
    ours = network().double()  # float32 on a CPU has a compiled form, with roundings of its own
    adam = Adam(ours, settings, STEPS)
    hooked = network().double()
    optimizer = torch.optim.AdamW(hooked.parameters(), lr=0.01, weight_decay=0, fused=True)
    margin(optimizer, hooked, STEPS, strength=30.0, ramp=2.0)
    x, y = torch.randn(16, 6).double(), torch.arange(16) % 3
    for step in range(STEPS):
        for net, own in ((ours, adam), (hooked, optimizer)):
            own.zero_grad()
            F.cross_entropy(net(x), y).backward()
            own.step(step) if net is ours else own.step()
    assert bits(ours) == bits(hooked)


def test_a_closure_works():
    net = network()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    margin(optimizer, net, STEPS, strength=30.0, ramp=2.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    for step in range(STEPS):

        def closure(step=step):
            optimizer.zero_grad()
            loss = loss_of(net, step)
            loss.backward()
            return loss

        assert optimizer.step(closure) is not None
        schedule.step()
    assert bits(net) == by_hand(OPTIMIZERS["sgd"])


def test_grad_scaler_skips_steps_and_their_count():
    net = network()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    hook = margin(optimizer, net, STEPS)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(loss_of(net, step)).backward()
        if step == 1:
            net[2].weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
    assert hook.step == 3


def stopped_run():
    """States of a network and its optimizer after five steps with margin."""
    net = network()
    optimizer = OPTIMIZERS["adamw"](net.parameters())
    margin(optimizer, net, STEPS, strength=30.0, ramp=2.0)
    train(net, optimizer, 0, 5)
    return copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())


def test_a_resumed_run_equals_one_that_was_not_stopped():
    weights, state = stopped_run()
    again = network()
    again.load_state_dict(weights)
    optimizer = OPTIMIZERS["adamw"](again.parameters())
    hook = margin(optimizer, again, STEPS, strength=30.0, ramp=2.0)
    plain = OPTIMIZERS["adamw"](network().parameters())
    plain.load_state_dict(state)  # also without the hook
    for group in state["param_groups"]:
        group["lr"] = group["initial_lr"]
    optimizer.load_state_dict(state)
    assert hook.step == 5
    train(again, optimizer, 5)
    assert bits(again) == by_hand(OPTIMIZERS["adamw"])
    hook.load_state_dict({"step": 3})
    assert hook.state_dict() == {"step": 3}
    assert hook.strength == pytest.approx(30 * 10 ** (-2 * (1 - 3 / STEPS)))


def test_margin_after_a_loaded_state_continues_from_its_steps():
    weights, state = stopped_run()
    for group in state["param_groups"]:
        group["lr"] = group["initial_lr"]
    again = network()
    again.load_state_dict(weights)
    optimizer = OPTIMIZERS["adamw"](again.parameters())
    optimizer.load_state_dict(state)
    hook = margin(optimizer, again, STEPS, strength=30.0, ramp=2.0)
    assert hook.step == 5
    train(again, optimizer, 5)
    assert bits(again) == by_hand(OPTIMIZERS["adamw"])
    hook.remove()
    assert margin(optimizer, again, STEPS).step == 0, "the loaded steps were used up"


def test_removed_hooks_leave_the_optimizer_as_it_was():
    net, other = network(), network()
    optimizer, plain = OPTIMIZERS["adam"](net.parameters()), OPTIMIZERS["adam"](other.parameters())
    before = {name: value for name, value in vars(optimizer).items() if "hooks" in name}
    hook = margin(optimizer, net, STEPS)
    hook.remove()
    assert not any(len(before[name]) for name in before)
    train(net, optimizer)
    train(other, plain)
    assert bits(net) == bits(other)
    assert not any("bwn" in key for key in optimizer.state_dict()["param_groups"][0])
    margin(optimizer, net, STEPS)


def test_layers_made_float_again_are_left_alone():
    net, other = network(), network()
    optimizer, plain = OPTIMIZERS["adam"](net.parameters()), OPTIMIZERS["adam"](other.parameters())
    margin(optimizer, net, STEPS)
    unbinarize(net)
    unbinarize(other)
    train(net, optimizer)
    train(other, plain)
    assert bits(net) == bits(other)


def test_without_penalty_or_scale_it_only_clips():
    net, other = network(), network()
    optimizer, plain = OPTIMIZERS["sgd"](net.parameters()), OPTIMIZERS["sgd"](other.parameters())
    hook = margin(optimizer, net, STEPS, penalty=None, scale=False)
    assert hook.strength == 0
    train(net, optimizer)
    train(other, plain)
    assert bits(net) == bits(other), "nothing left +-1"
    net[2].weight.data.fill_(3.0)
    train(net, optimizer, 0, 1)
    assert bool((net[2].weight == 1).all())


def test_tied_weights_are_pulled_once():
    net = nn.Sequential(BinaryLinear(4, 4), BinaryLinear(4, 4))
    net[1].weight = net[0].weight
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    seen = []
    penalty = Penalty("counted", lambda w: w.sum(), lambda w: seen.append(1) or torch.ones_like(w))
    margin(optimizer, net, 10, penalty=penalty)
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert len(seen) == 1


def test_a_step_that_fails_leaves_the_groups_whole():
    net = network()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    margin(optimizer, net, STEPS)

    def closure():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    loss_of(net, 0).backward()
    optimizer.step()
    assert len(optimizer.param_groups) == 1


def test_what_does_not_fit_is_refused():
    net = network()
    parameters = list(net.parameters())
    adam = torch.optim.Adam(parameters)
    with pytest.raises(ArgumentError, match="LBFGS searches along a line"):
        margin(torch.optim.LBFGS(parameters), net, 10)
    with pytest.raises(ArgumentError, match="optimizer is int, expected Optimizer"):
        margin(3, net, 10)
    with pytest.raises(ArgumentError, match="steps must be 1 or more"):
        margin(adam, net, 0)
    with pytest.raises(ArgumentError, match="unknown penalty 'l2'"):
        margin(adam, net, 10, penalty="l2")
    with pytest.raises(ArgumentError, match=r"call bwn.train.binarize\(module\) first"):
        margin(adam, nn.Linear(2, 2), 10)
    margin(adam, net, 10)
    with pytest.raises(ArgumentError, match="has these hooks already"):
        margin(adam, net, 10)
    adam = torch.optim.Adam(parameters)
    adam.param_groups[0]["lr"] = None
    with pytest.raises(ArgumentError, match="Adam has no learning rate to scale"):
        margin(adam, net, 10)
