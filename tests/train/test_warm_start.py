"""Starting from a checkpoint's weights: what is taken, in which range, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bwn.errors import CheckpointError
from bwn.train import Architecture, Settings, Trainer, accuracy, measure
from bwn.train.architectures import build_seeded
from bwn.train.checkpoint import Checkpoint, Description
from bwn.train.preprocessing import as_input
from bwn.train.warm_start import load_weights, measure_statistics

CLASSES = ("left", "top", "corner")


def network(scheme="margin", **more):
    return Architecture(
        **{
            "name": "mlp",
            "input_shape": (1, 8, 8),
            "classes": 3,
            "scheme": scheme,
            "width": 16,
            **more,
        }
    )


@pytest.fixture
def trained(shapes_set):
    """A checkpoint of a trained network."""

    def make(scheme="float", **more) -> Checkpoint:
        data, architecture = shapes_set(), network(scheme, **more)
        settings = Settings(epochs=4, batch_size=20, learning_rate=0.01)
        trainer = Trainer(build_seeded(architecture, 0), data, measure(data), settings)
        trainer.run()
        description = Description(
            architecture=architecture,
            settings=settings,
            preprocess=trainer.preprocess,
            classes=CLASSES,
            source="",
            digest="",
        )
        return Checkpoint("old.pt", description, trainer.module, {})

    return make


def begun(architecture, checkpoint, classes=CLASSES):
    module = build_seeded(architecture, 7)
    load_weights(module, architecture, classes, checkpoint)
    return module


def weights(module):
    return [p.detach() for name, p in module.named_parameters() if p.ndim > 1]


def size(weight):
    return float(weight.square().mean().sqrt())


@pytest.mark.parametrize("scheme", ["deterministic", "stochastic", "scaled", "margin"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet20"])
def test_float_weights_fill_the_range_of_a_binary_scheme_and_keep_their_signs(
    trained, scheme, name
):
    width = {"mlp": 16, "lenet": 4, "resnet20": 2}[name]
    old = trained(name=name, width=width, float_ends=False)
    new = begun(network(scheme, name=name, width=width, float_ends=False), old)
    for before, after in zip(weights(old.module), weights(new), strict=True):
        assert torch.equal(before >= 0, after >= 0)
        assert float(after.abs().max()) <= 1
        assert 0.4 < size(after) < 0.65, (
            "uniform weights within +-1 have 0.577; clipping takes a little"
        )
        inside = after.abs() < 1
        ratio = (after / before)[inside & (before.abs() > 1e-6)]
        torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-4, atol=0)


@pytest.mark.parametrize("scheme", ["float", "margin", "stochastic"])
def test_the_first_evaluation_is_finite_and_better_than_chance(trained, shapes_set, scheme):
    data, fresh = shapes_set(), shapes_set(90, seed=5)
    old = trained(width=64)
    new = begun(network(scheme, width=64), old)
    preprocess = old.description.preprocess
    measure_statistics(new, torch.from_numpy(data.images), 20, preprocess)
    with torch.no_grad():
        assert bool(torch.isfinite(new(as_input(torch.from_numpy(fresh.images), preprocess))).all())
    assert accuracy(new, fresh, preprocess) > 0.6, "chance is a third"


def test_statistics_are_those_of_the_images(trained, shapes_set):
    images = torch.from_numpy(shapes_set().images)
    old = trained()
    new = begun(network(), old)
    measure_statistics(
        new, images, 500, old.description.preprocess
    )  # more than there are: all of them
    first, norm = new[1], new[2]
    with torch.no_grad():
        y = nn.functional.linear(
            as_input(images, old.description.preprocess).flatten(1), first.binarized()
        )
    torch.testing.assert_close(norm.running_mean, y.mean(0), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(norm.running_var, y.var(0), rtol=1e-4, atol=1e-3)
    assert norm.momentum == 0.1, "which training continues with"
    assert torch.equal(norm.weight, old.module[2].weight)
    assert torch.equal(norm.bias, old.module[2].bias)


def test_images_that_are_sorted_by_class_are_shuffled_first(trained, shapes_set):
    data = shapes_set(600)
    by_class = torch.from_numpy(data.images[np.argsort(data.labels, kind="stable")])
    old = trained()
    whole, parts = begun(network(), old), begun(network(), old)
    measure_statistics(whole, by_class, 600, old.description.preprocess)
    measure_statistics(
        parts, by_class, 60, old.description.preprocess
    )  # ten batches, again all images
    torch.testing.assert_close(parts[2].running_mean, whole[2].running_mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(parts[2].running_var, whole[2].running_var, rtol=0.1, atol=0)


def test_real_weights_of_a_binary_network_stay_in_another_one(trained):
    old = trained("deterministic")
    for before, after in zip(
        weights(old.module), weights(begun(network("margin"), old)), strict=True
    ):
        assert torch.equal(before, after)


def test_a_float_network_gets_the_deployed_weights_at_the_size_of_its_own(trained):
    old = trained("stochastic")
    new = begun(network("float"), old)
    fresh = build_seeded(network("float"), 7)
    for before, after, own in zip(weights(old.module), weights(new), weights(fresh), strict=True):
        expected = torch.where(before >= 0, size(own), -size(own))
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("classes", [("a", "b", "c", "d"), ("top", "left", "corner")])
def test_with_other_classes_the_last_layer_starts_fresh(trained, classes):
    old = trained()
    architecture = network(classes=len(classes))
    new, fresh = begun(architecture, old, classes), build_seeded(architecture, 7)
    for layer, own in zip(new[-2:], fresh[-2:], strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip(layer.parameters(), own.parameters(), strict=True)
        )
    assert torch.equal(new[-4].weight, old.module[-4].weight), (
        "the batch norm before it is taken over"
    )


def test_a_layer_of_zeros_stays_one(trained):
    old = trained()
    with torch.no_grad():
        old.module[1].weight.zero_()
    assert not begun(network(), old)[1].weight.any()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"width": 8}, "the width is 16 there, 8 here"),
        (
            {"name": "lenet", "width": None},
            "the network is mlp there, lenet here; the width is 16 there, 32 here",
        ),
        ({"input_shape": (1, 8, 9)}, "images are 1 x 8 x 8 there, 1 x 8 x 9 here"),
    ],
)
def test_weights_that_do_not_fit_are_refused(trained, more, words):
    with pytest.raises(CheckpointError) as caught:
        begun(network(**more), trained())
    assert str(caught.value) == f"old.pt: its weights do not fit: {words}"


def test_blocks_of_another_activation_do_not_fit(trained):
    old = trained(name="resnet20", width=2)
    with pytest.raises(CheckpointError, match="activations are relu there, sign here"):
        begun(network(name="resnet20", width=2, activations="sign"), old)
    assert begun(network(activations="sign"), trained()), "where no layer differs, they do"


def test_a_relu_network_becomes_one_with_8_bit_activations_whose_steps_are_measured(
    trained, shapes_set
):
    data, checkpoint = shapes_set(), trained()
    module = begun(network(activations="int8"), checkpoint)
    for mine, theirs in zip(weights(module), weights(checkpoint.module), strict=True):
        assert torch.equal(mine >= 0, theirs >= 0)
    images, preprocess = torch.from_numpy(data.images), checkpoint.description.preprocess
    measure_statistics(module, images, 20, preprocess)
    steps = [tensor for name, tensor in module.state_dict().items() if name.endswith(".step")]
    assert len(steps) == 4
    assert all(float(step) > 0 for step in steps)
    assert accuracy(module, data, preprocess) > 0.5
