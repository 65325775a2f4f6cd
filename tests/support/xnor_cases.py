"""Calls of GEMMs of packed signs on seeded arrays, with their references: for tests and counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gemm_cases import activated

from bwn.kernels import bits, reference, registry
from bwn.kernels.gemm import tiles, xnor_packing
from bwn.kernels.gemm.xnor_packing import Axis
from bwn.kernels.params import Activation
from bwn.kernels.simd.widths import xor_halves

Pair = tuple[int, int]
LEAD = 5


@dataclass(frozen=True)
class Case:
    channels: int
    outputs: int
    size: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    images: int = 1
    around: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Zeros around the output."""

    def __str__(self) -> str:
        window = f"k{self.kernel}-s{self.stride}-p{self.pads}-d{self.dilation}"
        return (
            f"c{self.channels}-n{self.outputs}-{self.size}-{window}-g{self.groups}-i{self.images}"
        )

    def axes(self, outputs: Pair) -> tuple[Axis, Axis]:
        return tuple(
            Axis(
                self.size[i], outputs[i], self.kernel[i], self.stride[i], self.pads[i],
                self.dilation[i],
            )
            for i in (0, 1)
        )  # fmt: skip


def stored(signs: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    """Packed positions with zeros around, as kernels store them: (N, rows, columns, words)."""
    images, channels, height, width = signs.shape
    rows = signs.transpose(0, 2, 3, 1).reshape(-1, channels)
    words = xor_halves(bits.pack(rows).reshape(images, height, width, -1))
    return np.pad(words, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))


class Call:
    """One GEMM with random signs, scales and biases; `run` writes into memory full of ones."""

    def __init__(
        self, case: Case, seed: int = 0, low: float | None = -3.5, high: float | None = 40.0
    ) -> None:
        self.case, rng = case, np.random.default_rng(seed)
        inputs = case.channels // case.groups
        self.x = rng.choice(np.array([-1, 1], np.int8), (case.images, case.channels, *case.size))
        self.w = rng.choice(np.array([-1, 1], np.int8), (case.outputs, inputs, *case.kernel))
        self.sums = reference.conv(
            self.x, self.w, stride=case.stride, pads=case.pads, dilation=case.dilation,
            groups=case.groups,
        )  # fmt: skip
        self.scale = rng.normal(0, 1, case.outputs).astype(np.float32)
        self.scale[rng.random(case.outputs) < 0.1] = 0
        # Halves of sums, so that some results are exactly zero.
        self.bias = (self.scale * rng.integers(-9, 10, case.outputs)).astype(np.float32)
        self.low, self.high, self.activation = low, high, Activation.NONE
        self.height, self.width = self.sums.shape[2:]
        self.row = self.width + 3
        self.positions = self.height * self.row
        self.keep_alive: list[np.ndarray] = []

    def address(self, array: np.ndarray) -> int:
        self.keep_alive.append(array)
        return array.ctypes.data

    def block(self, compares: bool, scratch: np.ndarray) -> np.ndarray:
        """The parameter block. compares: to packed signs, not to planes."""
        kernel = registry.XNOR_SIGNS if compares else registry.XNOR_PLANES
        params = self.input_params() | self.weight_params(compares) | self.epilogue_params()
        params |= self.output_params(compares)
        return kernel.block(
            **params, scratch=scratch.ctypes.data, scratch_part=tiles.xnor_scratch()
        )

    def input_params(self) -> dict[str, int]:
        case, packed = self.case, stored(self.x, self.case.pads)
        words = packed.shape[3]
        position, line = words * 8, packed.shape[2] * words * 8
        # Neighboring taps are one run, as in plans.
        (kh, kw), (dy, dx) = case.kernel, case.dilation
        taps = kw if dx == 1 and case.groups == 1 else 1
        runs = [y * dy * line + x * dx * position for y in range(kh) for x in range(0, kw, taps)]
        return {
            "x": self.address(packed),
            "x_image": packed[0].nbytes,
            "x_row": line * case.stride[0],
            "x_position": position * case.stride[1],
            "x_group": position // case.groups,
            "runs": self.address(np.array(runs, np.int64)),
            "run_count": len(runs),
            "run_pairs": taps * words // case.groups,
            "images": case.images,
            "groups": case.groups,
        }

    def weight_params(self, compares: bool) -> dict[str, int]:
        case = self.case
        signs = self.w.transpose(0, 2, 3, 1).reshape(case.outputs, -1, self.w.shape[1])
        (rows, class_y), (columns, class_x) = (
            axis.classes() for axis in case.axes((self.height, self.width))
        )
        base, inverted = xnor_packing.base_sums(signs, rows, columns), np.zeros(case.outputs, bool)
        if compares:
            sums, inverted = xnor_packing.sum_thresholds(
                self.scale, self.bias, self.low, self.high, signs.shape[1] * signs.shape[2]
            )
            thresholds = xnor_packing.max_differences(base, sums)
        else:
            thresholds = xnor_packing.in_blocks(base, 0)
        return {
            "words": self.address(xnor_packing.pack(signs)),
            "blocks": -(-case.outputs // case.groups // 64),
            "thresholds": self.address(thresholds),
            "thresholds_row": thresholds[0].nbytes,
            "class_y": self.address(class_y * len(columns)),
            "class_x": self.address(class_x),
            "inverted": self.address(bits.pack(np.where(inverted, 1, -1)[None])),
        }

    def output_params(self, compares: bool) -> dict[str, int]:
        case, (top, left, bottom, right) = self.case, self.case.around
        padded = -(-self.positions // 16) * 16
        mask = np.zeros(padded, np.int32)
        mask[: self.positions].reshape(self.height, self.row)[:, : self.width] = -1
        params = dict.fromkeys(("out_row", "out_position", "rows", "columns"), 0)
        if compares:
            rows, columns = top + self.height + bottom, left + self.width + right
            words = bits.words_for(case.outputs)
            self.out = np.full((case.images, rows, columns, words), 2**64 - 1, np.uint64)
            params = {
                "out_row": self.out[0, 0].nbytes,
                "out_position": words * 8,
                "rows": rows,
                "columns": columns,
            }
        else:
            plane = LEAD + padded + 16
            self.out = np.full((case.images, case.outputs, plane), np.nan, np.float32)
        return params | {
            "out": self.out.ctypes.data,
            "out_image": self.out[0].nbytes if compares else self.out[0].size,
            "top": top,
            "left": left,
            "height": self.height,
            "width": self.width,
            "out_plane": LEAD + padded + 16,
            "out_lead": LEAD,
            "plane_row": self.row,
            "positions": self.positions,
            "outputs": case.outputs,
            "mask": self.address(mask),
        }

    def epilogue_params(self) -> dict[str, int]:
        low, high = (-np.inf if self.low is None else self.low), self.high
        bounds = np.array([low, np.inf if high is None else high], np.float32)
        none = dict.fromkeys(("added", "added_image", "added_plane", "added_lead", "rounding"), 0)
        return none | {
            "scale": self.scale.ctypes.data,
            "bias": self.bias.ctypes.data,
            "bounds": self.address(bounds),
            "activation": self.activation,
        }

    def run(self, compares: bool, parts: int = 1, only: int | None = None) -> np.ndarray:
        scratch = np.zeros(tiles.xnor_scratch() * parts, np.uint8)
        block = self.block(compares, scratch)
        chunks = self.height if compares else -(-self.positions // 16)
        units = chunks * self.case.images * -(-self.case.outputs // 64)
        entry = (registry.XNOR_SIGNS if compares else registry.XNOR_PLANES).entry()
        for part in range(parts) if only is None else [only]:
            entry(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
        return self.out

    def expected(self) -> np.ndarray:
        """Outputs as float32 makes them: scale * sum + bias rounded once, clamped, activated."""
        once = self.sums * self.scale[:, None, None].astype(np.float64) + self.bias[:, None, None]
        clamped = np.clip(once.astype(np.float32), self.low, self.high)
        return activated(self.activation, clamped)

    def check_signs(self, parts: int = 1) -> None:
        signs = np.where(self.expected() >= 0, 1, -1)
        expected = stored(signs, self.case.around)
        assert np.array_equal(self.run(True, parts), expected), str(self.case)

    def check_planes(self, parts: int = 1) -> None:
        out = self.run(False, parts)
        values = out[:, :, LEAD : LEAD + self.positions]
        values = values.reshape(*out.shape[:2], self.height, self.row)
        # float64 rounds scale * sum + bias once more: that may differ in the last bit of float32.
        # Sigmoid and SiLU are 2.2 and 2.4 ulp off (test_elementary.py).
        most = 4 if self.activation in (Activation.SIGMOID, Activation.SILU) else 1
        expected = self.expected().astype(np.float32)
        np.testing.assert_array_max_ulp(values[..., : self.width], expected, most)
        assert not values[..., self.width :].any()
        assert not out[:, :, :LEAD].any()
        assert not out[:, :, LEAD + self.positions :].any()
