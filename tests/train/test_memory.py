"""Training that would not fit in memory is refused before anything is allocated."""

from __future__ import annotations

import pytest
import torch

from bwn.errors import ArgumentError
from bwn.train import Architecture, build
from bwn.train.device import CPU
from bwn.train.memory import check_memory, training_bytes
from bwn.train.networks import NETWORK_NAMES


def network(name="lenet", size=32, **fields):
    return Architecture(name=name, input_shape=(3, size, size), classes=3, **fields)


@pytest.mark.parametrize("name", NETWORK_NAMES)
@pytest.mark.parametrize("activations", ["relu", "sign", "int8"])
def test_every_network_is_counted(name, activations):
    architecture = network(name, width=16, activations=activations)
    weights = sum(parameter.numel() for parameter in build(architecture).parameters())
    one, two = (training_bytes(architecture, batch) for batch in (1, 2))
    assert one > 16 * weights
    assert two - one == one - 16 * weights, "activations grow with the batch, weights do not"


def test_counting_allocates_nothing_and_draws_nothing():
    state = torch.get_rng_state()
    assert training_bytes(network(size=3000), 50) > 2**36
    assert torch.equal(torch.get_rng_state(), state)


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("bwn.train.memory.available_memory", lambda: 10**6)
    with pytest.raises(
        ArgumentError, match=r"training lenet on images of 32 x 32 takes about .* MiB"
    ):
        check_memory(network(), 50, CPU)
    monkeypatch.setattr("bwn.train.memory.available_memory", lambda: None)
    check_memory(network(), 50, CPU)


def test_on_a_gpu_its_own_memory_counts(monkeypatch):
    monkeypatch.setattr("bwn.train.memory.available_memory", lambda: 10**6)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**10, 10**10))
    check_memory(network(), 50, torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 10**10))
    with pytest.raises(ArgumentError, match=r"976\.6 KiB are available"):
        check_memory(network(), 50, torch.device("cuda", 0))
