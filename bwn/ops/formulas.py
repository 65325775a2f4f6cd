"""The functions of `Unary`: their formulas in float64, their parameters, their ONNX operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from bwn.ir.node import Floats

Name = Literal[
    "abs", "ceil", "celu", "elu", "erf", "exp", "floor", "gelu", "gelu_tanh", "leaky_relu", "log",
    "mish", "reciprocal", "round", "selu", "sigmoid", "silu", "softplus", "softsign", "sqrt",
    "tanh", "thresholded_relu",
]  # fmt: skip


class Function(NamedTuple):
    """One function of a number.

    Attributes:
        formula: (x, alpha, beta) to y, in float64.
        onnx_op: The ONNX operation with the same meaning in all opsets; empty if there is none.
        attributes: Names and defaults of its parameters, alpha and beta, as attributes of that
            operation.
        relative: Whether the error of kernels is a few roundings of y; else it is a few roundings
            of intermediate numbers, which are as large as x or 1.
        exact: Whether kernels round nothing.
        nonnegative: Whether y >= 0 for every x.
    """

    formula: Callable[[Floats, float, float], Floats]
    onnx_op: str = ""
    attributes: Mapping[str, float] = {}
    relative: bool = False
    exact: bool = False
    nonnegative: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Which of alpha and beta it has."""
        return ("alpha", "beta")[: len(self.attributes)]


SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Floats) -> Floats:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


def _times(x: Floats, gate: Floats) -> Floats:
    """x * gate(x), whose limit at -inf is 0."""
    return np.asarray(np.where(gate == 0, 0, x) * gate)


def _gelu(x: Floats, a: float, b: float) -> Floats:
    return _times(x, (1 + _erf(x / math.sqrt(2))) / 2)


def _gelu_tanh(x: Floats, a: float, b: float) -> Floats:
    return _times(x, (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2)


def _softplus(x: Floats) -> Floats:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _softsign(x: Floats, a: float, b: float) -> Floats:
    finite = np.clip(x, -1e300, 1e300)
    return np.asarray(finite / (1 + np.abs(finite)))


def _elu(x: Floats, a: float, b: float) -> Floats:
    return np.asarray(np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))))


FUNCTIONS: dict[Name, Function] = {
    "abs": Function(lambda x, a, b: np.abs(x), "Abs", exact=True, nonnegative=True),
    "ceil": Function(lambda x, a, b: np.ceil(x), "Ceil", exact=True),
    "celu": Function(
        lambda x, a, b: _elu(x / a, a, b) * np.where(x > 0, a, 1), "Celu", {"alpha": 1.0}
    ),
    "elu": Function(_elu, "Elu", {"alpha": 1.0}),
    "erf": Function(lambda x, a, b: _erf(x), "Erf"),
    "exp": Function(lambda x, a, b: np.exp(x), "Exp", relative=True, nonnegative=True),
    "floor": Function(lambda x, a, b: np.floor(x), "Floor", exact=True),
    "gelu": Function(_gelu),
    "gelu_tanh": Function(_gelu_tanh),
    "leaky_relu": Function(
        lambda x, a, b: np.where(x < 0, a * x, x), "LeakyRelu", {"alpha": 0.01}, relative=True
    ),
    "log": Function(lambda x, a, b: np.log(x), "Log"),
    "mish": Function(lambda x, a, b: _times(x, np.tanh(_softplus(x)))),
    "reciprocal": Function(lambda x, a, b: 1 / x, "Reciprocal", relative=True),
    "round": Function(lambda x, a, b: np.rint(x), "Round", exact=True),
    "selu": Function(lambda x, a, b: b * _elu(x, a, b), "Selu", SELU),
    "sigmoid": Function(lambda x, a, b: _sigmoid(x), "Sigmoid", nonnegative=True),
    "silu": Function(lambda x, a, b: _times(x, _sigmoid(a * x)), attributes={"alpha": 1.0}),
    "softplus": Function(lambda x, a, b: _softplus(x), "Softplus", nonnegative=True),
    "softsign": Function(_softsign, "Softsign"),
    "sqrt": Function(lambda x, a, b: np.sqrt(x), "Sqrt", relative=True, nonnegative=True),
    "tanh": Function(lambda x, a, b: np.tanh(x), "Tanh"),
    "thresholded_relu": Function(
        lambda x, a, b: np.where(x > a, x, 0), "ThresholdedRelu", {"alpha": 1.0}, exact=True
    ),
}
