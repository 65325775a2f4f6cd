"""Calls of products of packed signs on seeded arrays, beside the plain reference: for tests and instruction counts."""

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


def stored(signs: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    """ModelSpec positions with zeros around, as kernels store them: (N, rows, columns, words)."""
    images, channels, height, width = signs.shape
    words = bits.pack(signs.transpose(0, 2, 3, 1).reshape(-1, channels)).reshape(
        images, height, width, -1
    )
    return np.pad(xor_halves(words), ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))


class Call:
    """One product with random signs, scales and biases; `run` writes into memory that was full of ones."""

    def __init__(
        self, case: Case, seed: int = 0, low: float | None = -3.5, high: float | None = 40.0
    ) -> None:
        self.case, rng = case, np.random.default_rng(seed)
        inputs = case.channels // case.groups
        self.x = rng.choice(np.array([-1, 1], np.int8), (case.images, case.channels, *case.size))
        self.w = rng.choice(np.array([-1, 1], np.int8), (case.outputs, inputs, *case.kernel))
        self.sums = reference.conv(self.x, self.w, stride=case.stride, pads=case.pads, dilation=case.dilation,
                                   groups=case.groups)  # fmt: skip
        self.scale = rng.normal(0, 1, case.outputs).astype(np.float32)
        self.scale[rng.random(case.outputs) < 0.1] = 0
        # Halves of sums, so that some results are exactly zero.
        self.bias = (self.scale * rng.integers(-9, 10, case.outputs)).astype(np.float32)
        self.low, self.high, self.activation = low, high, Activation.NONE

    def block(self, compares: bool, scratch: np.ndarray) -> np.ndarray:
        case = self.case
        self.spec = stored(self.x, case.pads)
        signs = np.ascontiguousarray(self.w.transpose(0, 2, 3, 1)).reshape(
            case.outputs, -1, self.w.shape[1]
        )
        (height, width), (kh, kw) = self.sums.shape[2:], case.kernel
        rows, self.class_y = Axis(
            case.size[0], height, kh, case.stride[0], case.pads[0], case.dilation[0]
        ).classes()
        columns, class_x = Axis(
            case.size[1], width, kw, case.stride[1], case.pads[1], case.dilation[1]
        ).classes()
        position, line = self.spec.shape[3] * 8, self.spec.shape[2] * self.spec.shape[3] * 8
        # Taps beside each other are one run, as plans have them.
        taps = kw if case.dilation[1] == 1 and case.groups == 1 else 1
        self.runs = np.array([y * case.dilation[0] * line + x * case.dilation[1] * position
                              for y in range(kh) for x in range(0, kw, taps)], np.int64)  # fmt: skip
        base = xnor_packing.base_sums(signs, rows, columns)
        flips = np.zeros(case.outputs, bool)
        if compares:
            depth = signs.shape[1] * signs.shape[2]
            least, flips = xnor_packing.sum_thresholds(
                self.scale, self.bias, self.low, self.high, depth
            )
            self.limits = xnor_packing.max_differences(base, least)
        else:
            self.limits = xnor_packing.in_blocks(base, 0)
        bounds = [
            -np.inf if self.low is None else self.low,
            np.inf if self.high is None else self.high,
        ]
        self.row = width + 3
        padded = -(-height * self.row // 16) * 16
        top, left, bottom, right = case.around
        if compares:
            grid = (top + height + bottom, left + width + right, bits.words_for(case.outputs))
            self.out = np.full((case.images, *grid), 2**64 - 1, np.uint64)
            places = {
                "out_image": self.out[0].nbytes,
                "out_row": self.out[0, 0].nbytes,
                "out_position": grid[2] * 8,
            }
        else:
            self.out = np.full((case.images, case.outputs, 5 + padded + 16), np.nan, np.float32)
            places = {"out_image": self.out[0].size, "out_row": 0, "out_position": 0}
            grid = (0, 0, 0)
        mask = np.zeros(padded, np.int32)
        mask[: height * self.row].reshape(height, self.row)[:, :width] = -1
        self.kept = [xnor_packing.pack_weights(signs), self.class_y * len(columns), class_x,
                     bits.pack(np.where(flips, 1, -1)[None]), mask, np.array(bounds, np.float32)]  # fmt: skip
        words, class_y, classes_x, flip, masks, ends = (array.ctypes.data for array in self.kept)
        kernel = registry.XNOR_SIGNS if compares else registry.XNOR_PLANES
        return kernel.block(
            x=self.spec.ctypes.data, x_image=self.spec[0].nbytes, x_row=line * case.stride[0],
            x_position=position * case.stride[1], x_group=position // case.groups, words=words,
            runs=self.runs.ctypes.data, run_count=len(self.runs), run_pairs=taps * self.spec.shape[3] // case.groups,
            images=case.images, groups=case.groups, blocks=-(-case.outputs // case.groups // 64), height=height,
            width=width, thresholds=self.limits.ctypes.data, thresholds_row=self.limits[0].nbytes, class_y=class_y,
            class_x=classes_x, inverted=flip, out=self.out.ctypes.data, **places, top=top, left=left, rows=grid[0],
            columns=grid[1], out_plane=5 + padded + 16, out_lead=5, plane_row=self.row, positions=height * self.row,
            outputs=case.outputs, mask=masks, scale=self.scale.ctypes.data, bias=self.bias.ctypes.data, bounds=ends,
            activation=self.activation, added=0, added_image=0, added_plane=0, added_lead=0, out_scale=0, scratch=scratch.ctypes.data,
            scratch_part=tiles.xnor_scratch(),
        )  # fmt: skip

    def run(self, compares: bool, parts: int = 1, only: int | None = None) -> np.ndarray:
        scratch = np.zeros(tiles.xnor_scratch() * parts, np.uint8)
        block = self.block(compares, scratch)
        chunks = self.sums.shape[2] if compares else -(-self.sums.shape[2] * self.row // 16)
        units = chunks * self.case.images * -(-self.case.outputs // 64)
        entry = (registry.XNOR_SIGNS if compares else registry.XNOR_PLANES).entry()
        for part in range(parts) if only is None else [only]:
            entry(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
        return self.out

    def expected(self) -> np.ndarray:
        """Outputs as float32 makes them: scale * sum + bias rounded once, then clamped."""
        once = self.sums * self.scale[:, None, None].astype(np.float64) + self.bias[:, None, None]
        return activated(self.activation, np.clip(once.astype(np.float32), self.low, self.high))

    def check_signs(self, parts: int = 1) -> None:
        signs = np.where(self.expected() >= 0, 1, -1)
        assert np.array_equal(self.run(True, parts), stored(signs, self.case.around)), str(
            self.case
        )

    def check_planes(self, parts: int = 1) -> None:
        out = self.run(False, parts)
        height, width = self.sums.shape[2:]
        values = out[:, :, 5 : 5 + height * self.row].reshape(*out.shape[:2], height, self.row)
        # float64 rounds scale * sum + bias a first time, which can differ by one last bit of
        # float32 from rounding once
        np.testing.assert_array_max_ulp(values[..., :width], self.expected(), 1)
        assert not values[..., width:].any()
        assert not out[:, :, :5].any()
        assert not out[:, :, 5 + height * self.row :].any()
