"""Quantizers and penalties against derivatives written out by hand."""

from __future__ import annotations

import pytest
import torch

from bwn.errors import BwnError
from bwn.train import PENALTIES, SCHEMES, SignActivation
from bwn.train.penalties import find_penalty, mean_distance
from bwn.train.schemes import deterministic, find_scheme, scaled, signs, stochastic

POINTS = [-2.0, -1.0001, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 1.0001, 3.0]


def gradient(function, x, upstream):
    x = x.clone().requires_grad_()
    function(x).backward(upstream)
    return x.grad


def test_sign_of_zero_is_plus_one_and_of_nan_minus_one():
    y = signs(torch.tensor([0.0, -0.0, 1e-30, -1e-30, float("nan")]))
    assert y.tolist() == [1, 1, 1, -1, -1]


def test_deterministic_takes_signs_and_passes_the_gradient():
    x, upstream = torch.tensor(POINTS), torch.arange(1.0, 11.0)
    assert deterministic(x).tolist() == [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]
    assert torch.equal(gradient(deterministic, x, upstream), upstream)


def test_sign_activations_pass_the_gradient_where_they_could_flip_only():
    x, upstream = torch.tensor(POINTS), torch.arange(1.0, 11.0)
    assert torch.equal(SignActivation()(x), deterministic(x))
    assert gradient(SignActivation(), x, upstream).tolist() == [0, 0, 3, 4, 5, 6, 7, 8, 0, 0]


def test_under_autocast_signs_are_made_in_its_type_and_the_gradient_returns_in_the_weights():
    w = torch.tensor([[-0.5, 0.25]], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = deterministic(w)
    assert y.dtype == torch.bfloat16
    assert y.tolist() == [[-1, 1]]
    y.backward(torch.tensor([[2.0, 3.0]], dtype=torch.bfloat16))
    assert torch.equal(w.grad, torch.tensor([[2.0, 3.0]]))


def test_stochastic_draws_plus_one_with_the_hard_sigmoid_probability():
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5]).repeat(20_000, 1)
    drawn = stochastic(x)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    share = (drawn > 0).double().mean(0)
    expected = torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1], dtype=torch.float64)
    assert (share - expected).abs().max() < 5 * (0.25 / 20_000) ** 0.5  # five standard errors
    assert share[[0, 1, 5, 6]].tolist() == [0, 0, 1, 1]
    assert gradient(stochastic, torch.tensor(POINTS), torch.arange(10.0)).tolist() == list(
        range(10)
    )


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 2, 2)])
def test_scaled_has_the_written_out_gradient(shape):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    upstream = torch.randn(shape, generator=generator, dtype=torch.float64)
    rows, g = x.reshape(shape[0], -1), upstream.reshape(shape[0], -1)
    expected, values = torch.zeros_like(rows), torch.zeros_like(rows)
    depth = rows.shape[1]
    for n in range(shape[0]):
        alpha = sum(abs(float(v)) for v in rows[n]) / depth
        through_alpha = (
            sum(float(g[n, j]) * (1 if rows[n, j] >= 0 else -1) for j in range(depth)) / depth
        )
        for k in range(depth):
            sign = 1 if rows[n, k] >= 0 else -1
            values[n, k] = alpha * sign
            expected[n, k] = alpha * float(g[n, k]) + sign * through_alpha
    torch.testing.assert_close(scaled(x).reshape(shape[0], -1), values, rtol=1e-14, atol=0)
    torch.testing.assert_close(
        gradient(scaled, x, upstream).reshape(shape[0], -1), expected, rtol=1e-12, atol=1e-14
    )


def test_scaled_weights_are_one_magnitude_per_channel_to_the_bit():
    values = scaled(torch.randn(7, 3, 3, 3))
    assert all(len(row.abs().unique()) == 1 for row in values)


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_a_penaltys_gradient_is_that_of_its_value(name):
    w = torch.linspace(
        -1.5, 1.5, 62, dtype=torch.float64
    )  # no zero in it, where the margin has a kink
    penalty = PENALTIES[name]
    torch.testing.assert_close(
        penalty.gradient(w), gradient(penalty.value, w, torch.tensor(1.0, dtype=torch.float64))
    )


def test_penalties_at_known_points():
    w = torch.tensor([-1.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    assert float(PENALTIES["margin"].value(w)) == 1.25
    assert PENALTIES["margin"].gradient(w).tolist() == [0, 0, -1, 0]  # zero is not drawn
    assert float(PENALTIES["double-well"].value(w)) == 1.5625
    assert PENALTIES["double-well"].gradient(w).tolist() == [0, 0, -1.5, 0]


def test_mean_distance_weighs_every_weight_alike():
    assert mean_distance([torch.tensor([[0.5, -1.0]]), torch.tensor([0.0, 1.25])]) == pytest.approx(
        1.75 / 4
    )
    assert mean_distance([]) == 0


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(
        BwnError,
        match=r"unknown scheme 'ternary'; valid schemes are float, deterministic, .*margin",
    ):
        find_scheme("ternary")
    with pytest.raises(
        BwnError, match="unknown penalty 'l3'; valid penalties are margin, double-well"
    ):
        find_penalty("l3")
    assert find_scheme(SCHEMES["scaled"]) is SCHEMES["scaled"]
