"""Codes in parameter blocks: which function, reduction or rounding a kernel computes."""

from __future__ import annotations

from enum import IntEnum


class Rounding(IntEnum):
    """Codes of the field `rounding`: to the nearest whole number, halves to even; down; up."""

    ROUND = 0
    FLOOR = 1
    CEIL = 2


class SimpleFunction(IntEnum):
    """Functions of a few instructions, by `f32_f32_simple_unary`: codes of the field `function`.

    `tensor/unary_functions.py` has a formula of each name, after an underscore.
    """

    ABS = 0
    CEIL = 1
    FLOOR = 2
    LEAKY_RELU = 3
    RECIPROCAL = 4
    ROUND = 5
    SOFTSIGN = 6
    SQRT = 7
    THRESHOLDED_RELU = 8


class Function(IntEnum):
    """Functions made of exponentials and logarithms, by `f32_f32_unary`; as `SimpleFunction`."""

    CELU = 0
    ELU = 1
    SELU = ELU  # the same formula, of another beta
    ERF = 2
    EXP = 3
    GELU = 4
    GELU_TANH = 5
    LOG = 6
    MISH = 7
    SIGMOID = 8
    SILU = 9
    SOFTPLUS = 10
    TANH = 11


class Reduction(IntEnum):
    """Codes of the field `reduction` of `tensor/reductions.py`."""

    SUM = 0
    MAGNITUDES = 1
    SQUARES = 2
    MAX = 3
    MIN = 4
