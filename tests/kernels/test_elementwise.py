"""Elementwise kernels against numpy, over sizes around every edge of vectors and planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from gemm_cases import activated

from bwn.kernels.params import Activation
from bwn.kernels.registry import AFFINE, Kernel

GUARD = 7


@dataclass(frozen=True)
class Case:
    positions: int
    channels: int = 2
    images: int = 1
    lead: int = 0

    def __str__(self) -> str:
        return "-".join(f"{key[0]}{int(value)}" for key, value in vars(self).items() if value)


CASES = [
    *(Case(positions) for positions in (1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 47, 48, 49, 130)),
    *(Case(35, channels, images=3, lead=5) for channels in (1, 2, 3, 17)),
    Case(65_601, 1),
    Case(1, 65_601),
]


def planes(values: np.ndarray, lead: int, rest: float) -> np.ndarray:
    """Planes of whole vectors with `values` (images, channels, positions) in them."""
    images, channels, positions = values.shape
    size = lead + -(-positions // 16) * 16 + 16
    room = np.full((images, channels, size), rest, np.float32)
    room[:, :, lead : lead + positions] = values
    return room


def run(kernel: Kernel, case: Case, parts: int = 1, **fields: int) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel writes where the mask is set, and its input there. Checks all else."""
    rng = np.random.default_rng([case.positions, case.channels, case.images])
    size = (case.images, case.channels, case.positions)
    x = rng.normal(0, 3, size).astype(np.float32)
    # What lies around the values must not show in any output: it is a NaN.
    source = planes(x, case.lead, np.nan)
    out = np.full((*size[:2], source.shape[2] + 16), GUARD, np.float32)
    mask = np.zeros(-(-case.positions // 16) * 16, np.int32)
    mask[: case.positions] = -(rng.random(case.positions) < 0.9).astype(np.int32)
    block = kernel.block(
        **dict.fromkeys(kernel.params.fields, 0)
        | {
            "x": source.ctypes.data, "x_image": source[0].size, "x_plane": source.shape[2],
            "x_lead": case.lead,
            "out": out.ctypes.data, "out_image": out[0].size, "out_plane": out.shape[2],
            "out_lead": case.lead + 6,
            "channels": case.channels, "positions": case.positions, "mask": mask.ctypes.data,
        }
        | fields
    )  # fmt: skip
    units = case.images * case.channels
    for part in range(parts):
        kernel.entry()(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
    is_output = mask[: case.positions] != 0
    values = out[:, :, case.lead + 6 :][:, :, : case.positions]
    written = values[:, :, is_output].copy()
    values[:, :, is_output] = 0
    assert not out.any(), "the padding is not zero"
    return written, x[:, :, is_output]


def bounds(low: float, high: float) -> np.ndarray:
    return np.array([low, high], np.float32)


@pytest.mark.parametrize("activation", list(Activation))
def test_affine_clamps_then_activates(activation: Activation) -> None:
    rng, clamps = np.random.default_rng(1), bounds(-3.5, 6)
    for case in CASES:
        scale, bias = rng.normal(0, 1, (2, case.channels)).astype(np.float32)
        out, x = run(
            AFFINE, case, scale=scale.ctypes.data, bias=bias.ctypes.data,
            bounds=clamps.ctypes.data, activation=activation,
        )  # fmt: skip
        once = x.astype(np.float64) * scale[:, None] + bias[:, None]
        expected = activated(activation, np.clip(once, *clamps.astype(np.float64)))
        np.testing.assert_allclose(out, expected, rtol=5e-7, atol=5e-7, err_msg=str(case))
