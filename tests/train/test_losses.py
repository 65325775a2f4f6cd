"""The losses, and what weights of classes do to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bwn.data.datasets import Dataset
from bwn.errors import BwnError
from bwn.train.losses import LOSSES, cross_entropy, image_weights, squared_hinge

SCORES = torch.tensor([[0.5, -2.0], [1.5, 0.25]])
LABELS = torch.tensor([0, 1])
WEIGHTS = torch.tensor([0.5, 3.0])


def data(*counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Dataset(np.zeros((len(labels), 2, 2), np.uint8), labels, tuple("abc"[: len(counts)]))


def test_squared_hinge_is_the_written_out_sum():
    assert float(squared_hinge(SCORES, LABELS)) == pytest.approx(
        (0.5**2 + 0 + (1 + 1.5) ** 2 + 0.75**2) / 4
    )
    expected = (0.5 * 0.5**2 + 3 * ((1 + 1.5) ** 2 + 0.75**2)) / 4
    assert float(squared_hinge(SCORES, LABELS, WEIGHTS)) == pytest.approx(expected)


def test_cross_entropy_is_the_written_out_sum():
    first, second = (
        np.log(np.exp(row).sum()) - row[label]
        for row, label in zip(SCORES.numpy(), LABELS, strict=True)
    )
    assert float(cross_entropy(SCORES, LABELS)) == pytest.approx((first + second) / 2)
    assert float(cross_entropy(SCORES, LABELS, WEIGHTS)) == pytest.approx(
        (0.5 * first + 3 * second) / 2
    )


@pytest.mark.parametrize("loss", LOSSES.values())
def test_weights_of_one_change_nothing(loss):
    assert float(loss(SCORES, LABELS, torch.ones(2))) == pytest.approx(
        float(loss(SCORES, LABELS, None)), rel=1e-6
    )


def test_balanced_classes_weigh_alike_together():
    weights = image_weights("balanced", data(6, 3, 1))
    np.testing.assert_allclose(weights, [10 / (3 * 6), 10 / (3 * 3), 10 / 3], rtol=1e-6)
    assert float(weights @ torch.tensor([6.0, 3.0, 1.0])) == pytest.approx(10), (
        "the mean over images is 1"
    )


def test_given_weights_are_scaled_to_a_mean_of_one():
    np.testing.assert_allclose(image_weights((1.0, 5.0), data(3, 1)), [0.5, 2.5])
    np.testing.assert_allclose(image_weights((10.0, 50.0), data(3, 1)), [0.5, 2.5])
    assert image_weights("none", data(3, 1)) is None


def test_a_class_without_images_does_no_harm():
    np.testing.assert_allclose(image_weights("balanced", data(2, 0, 2))[[0, 2]], [1, 1])


def test_other_numbers_of_weights_than_classes_are_refused():
    with pytest.raises(BwnError, match="2 class weights for 3 classes: a, b, c"):
        image_weights((1.0, 2.0), data(1, 1, 1))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_smoothing_mixes_the_label_with_all_classes(name, weights):
    def one(row, label):  # without weights: they are those of the true class
        return float(LOSSES[name](SCORES[row : row + 1], torch.tensor([label]), None, 0.0))

    expected = 0.0
    for row, label in enumerate(LABELS.tolist()):
        smoothed = 0.7 * one(row, label) + 0.3 * (one(row, 0) + one(row, 1)) / 2
        expected += smoothed * (1 if weights is None else float(weights[label])) / 2
    assert float(LOSSES[name](SCORES, LABELS, weights, 0.3)) == pytest.approx(expected)
