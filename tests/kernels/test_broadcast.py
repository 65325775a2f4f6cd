"""Kernels of two operands against numpy, repeated along any axis, around every edge of vectors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from graphs import floats

from bwn.kernels import reference
from bwn.kernels.registry import BINARY

FORMULAS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "prelu": lambda x, slope: reference.prelu(x, slope).astype(np.float32),
    "pow": lambda x, y: np.power(x.astype(np.float64), y).astype(np.float32),
}
GUARD = 7.0
MARGIN = 40
SIZES = [
    *((1, 1, 1, width) for width in (1, 2, 15, 16, 17, 31, 33)),
    *((2, 3, height, width) for height, width in ((1, 1), (5, 1), (3, 2), (4, 7), (2, 15), (3, 16), (3, 17), (2, 40))),
]  # fmt: skip
Size = tuple[int, ...]


def repeats(size: Size) -> list[Size]:
    """The size with any of channels, rows and columns as 1."""
    kept = product(*([axis, 1] if axis > 1 else [axis] for axis in size[1:]))
    return [(size[0], *rest) for rest in kept]


def in_memory(values: np.ndarray, row: int) -> tuple[np.ndarray, int, int]:
    """Rows of `row` numbers between NaNs: memory, address of the first value, plane stride."""
    images, channels, height, width = values.shape
    plane = height * row + 5
    memory = np.full(images * channels * plane + 2 * MARGIN, np.nan, np.float32)
    planes = memory[MARGIN : memory.size - MARGIN].reshape(images, channels, plane)
    planes[..., : height * row].reshape(images, channels, height, row)[..., :width] = values
    return memory, memory[MARGIN:].ctypes.data, plane


def run(
    function: str, x: np.ndarray, other: np.ndarray, low: float, high: float, parts: int = 1
) -> np.ndarray:
    """What the kernel makes; checks that all around it is zero."""
    shape = np.broadcast_shapes(x.shape, other.shape)
    images, channels, height, width = shape
    row, lead = width + 2, 3
    positions = height * row
    whole = -(-positions // 16) * 16
    out = np.full((images, channels, lead + whole + 16), GUARD, np.float32)
    mask = np.zeros(whole, np.int32)
    mask[:positions].reshape(height, row)[:, :width] = -1
    bounds = np.array([low, high], np.float32)
    params = {
        "channels": channels, "height": height, "positions": positions, "mask": mask.ctypes.data,
        "bounds": bounds.ctypes.data, "out": out.ctypes.data, "out_image": out[0].size,
        "out_plane": out.shape[2], "out_lead": lead, "out_row": row,
    }  # fmt: skip
    kept = []
    for name, values in (("x", x), ("other", other)):
        same = values.shape[2:] == shape[2:]
        memory, address, plane = in_memory(values, row if same else values.shape[3] + 1)
        kept.append(memory)
        params |= {
            name: address,
            f"{name}_image": plane * values.shape[1],
            f"{name}_plane": plane if values.shape[1] > 1 else 0,
            f"{name}_row": row if same else (values.shape[3] + 1) * (values.shape[2] > 1),
            f"{name}_column": int(same or values.shape[3] > 1),
        }
    block = BINARY[function].block(**params)
    units = images * channels
    for part in range(parts):
        begin, end = units * part // parts, units * (part + 1) // parts
        BINARY[function].entry()(block.ctypes.data, begin, end, part)
    rows = out[:, :, lead : lead + positions].reshape(images, channels, height, row)
    values = rows[..., :width].copy()
    rows[..., :width] = 0
    assert not out.any(), "the padding is not zero"
    return values


@pytest.mark.parametrize("function", FORMULAS)
def test_every_broadcast_equals_numpy(function: str) -> None:
    for size in SIZES:
        for first, second in product(repeats(size), repeats(size)):
            x, other = floats(*first), floats(*second, seed=1)
            if function == "pow":
                x = np.abs(x)
            if function == "prelu" and np.broadcast_shapes(first, second) != first:
                continue
            for low, high, parts in ((-np.inf, np.inf, 1), (-0.5, 1, 3)):
                actual = run(function, x, other, low, high, parts)
                expected = np.clip(FORMULAS[function](x, other), low, high)
                same = np.testing.assert_array_equal
                if function in ("pow", "prelu"):  # rounded from float64, perhaps the other way
                    same = np.testing.assert_array_almost_equal_nulp
                same(actual, expected.astype(np.float32))


@pytest.mark.parametrize("function", FORMULAS)
def test_a_nan_stays_one(function: str) -> None:
    nan, one = np.full((1, 1, 1, 16), np.nan, np.float32), np.ones((1, 1, 1, 16), np.float32)
    assert np.isnan(run(function, nan, one * 2, -1, 1)).all()
    if function not in ("prelu",):  # a slope is not read where x is positive
        assert np.isnan(run(function, one * 2, nan, -1, 1)).all()


def test_an_infinite_slope_leaves_positive_numbers() -> None:
    x = np.array([2, -2, 0, np.inf, -np.inf], np.float32).reshape(1, 1, 1, -1)
    slope = np.full_like(x, np.inf)
    expected = np.array([2, -np.inf, 0, np.inf, -np.inf], np.float32).reshape(1, 1, 1, -1)
    np.testing.assert_array_equal(run("prelu", x, slope, -np.inf, np.inf), expected)


def test_powers_follow_ieee_754() -> None:
    special = [0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1 / 3, 1e-45, 1e38, -1e38, np.inf, -np.inf,
               np.nan]  # fmt: skip
    pairs = np.array(list(product(special, [*special, 200, -200, 2**24 + 2])), np.float32)
    x, y = (pairs[:, i].reshape(1, 1, 1, -1) for i in (0, 1))
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), y).astype(np.float32)
    actual = run("pow", x, y, -np.inf, np.inf)
    np.testing.assert_allclose(actual, expected, rtol=3e-6, atol=1e-44)
    kept = expected == 0  # zeros have their sign
    np.testing.assert_array_equal(np.signbit(actual[kept]), np.signbit(expected[kept]))


@pytest.mark.parametrize(("largest", "worst"), [(10, 1.6), (20, 2.5), (80, 10)])
def test_powers_are_near_numpy_over_all_sizes(largest: float, worst: float) -> None:
    rng = np.random.default_rng(0)
    for logarithms in (20, 0.5):
        x = np.exp(rng.uniform(-logarithms, logarithms, (1, 1, 1, 1 << 16))).astype(np.float32)
        y = (rng.uniform(-largest, largest, x.shape) / np.log(x)).astype(np.float32)
        expected = np.power(x.astype(np.float64), y)
        ulp = np.spacing(expected.astype(np.float32))
        error = np.abs(run("pow", x, y, -np.inf, np.inf) - expected) / ulp
        assert 0.4 < error.max() < worst
