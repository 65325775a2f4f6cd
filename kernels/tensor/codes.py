"""Codes in parameter blocks: which function, reduction or rounding a kernel computes."""

from __future__ import annotations

from enum import IntEnum


class Rounding(IntEnum):
    """Codes of the field `rounding`: to the nearest whole number, halves to even; down; up."""

    ROUND = 0
    FLOOR = 1
    CEIL = 2


class Function(IntEnum):
    """Codes of the field `function`; `tensor/unary_functions.py` has their formulas."""

    ABS = 0
    CEIL = 1
    CELU = 2
    ELU = 3
    ERF = 4
    EXP = 5
    FLOOR = 6
    GELU = 7
    GELU_TANH = 8
    LEAKY_RELU = 9
    LOG = 10
    MISH = 11
    RECIPROCAL = 12
    ROUND = 13
    SIGMOID = 14
    SILU = 15
    SOFTPLUS = 16
    SOFTSIGN = 17
    SQRT = 18
    TANH = 19
    THRESHOLDED_RELU = 20


class Reduction(IntEnum):
    """Codes of the field `reduction` of `tensor/reductions.py`."""

    SUM = 0
    MAGNITUDES = 1
    SQUARES = 2
    MAX = 3
    MIN = 4
