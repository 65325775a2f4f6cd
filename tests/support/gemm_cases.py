"""Calls of GEMMs on seeded arrays, with their references: for tests, golden bits and counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bwn.kernels import bits
from bwn.kernels.gemm.lut_permute_packing import TILE
from bwn.kernels.gemm.lut_window_packing import Rectangle
from bwn.kernels.params import Activation
from bwn.kernels.registry import GemmSpec, IndirectGemm, LutPermuteGemm, LutWindowGemm
from bwn.ops import node_types
from bwn.ops.formulas import FUNCTIONS
from bwn.plan.reciprocal_rounding import rounding

EPSILON = np.finfo(np.float32).eps
ADDED_LEAD = 2
OUT_SCALE, CLAMP = 0.37, (-40, 60)
QUANTIZED_RANGE, UNWRITTEN = (-100, 150), 127
"""Of 8-bit outputs, which are stored less 25; no output is stored as 127."""
ACTIVATIONS = {
    Activation.NONE: lambda x: x,
    Activation.HARD_SWISH: lambda x: x * np.clip(x + 3, 0, 6) / 6,
}
"""The formulas in numpy, in the precision of x and in the order of the kernels."""


def activated(code: int, x: np.ndarray) -> np.ndarray:
    """The activation of x; of a function that is not in ACTIVATIONS, its float64 reference."""
    if code in ACTIVATIONS:
        return ACTIVATIONS[code](x)
    formula = Activation(code).name.lower()
    if formula in FUNCTIONS:
        return FUNCTIONS[formula].formula(x.astype(np.float64), 1.0, 1.0)
    (kind,) = (kind for kind in node_types() if getattr(kind, "formula", None) == formula)
    return kind(input="x", output="y").reference([x], {})


@dataclass
class Case:
    depth: int
    outputs: int
    positions: int
    images: int = 1
    groups: int = 1
    lead: int = 0
    extreme: int = 0
    epilogue: bool = False
    per_lane: bool = False
    poison: float = 0.0
    activation: int = 0
    quantized: bool = False
    alone: bool = False
    """Whether planes end after their last vector."""

    def __str__(self) -> str:
        return "-".join(f"{key[0]}{int(value)}" for key, value in vars(self).items() if value)

    @property
    def channels(self) -> int:
        return self.groups * self.outputs

    @property
    def padded(self) -> int:
        """Positions up to whole vectors."""
        return -(-self.positions // 16) * 16


class Arrays:
    """What a call reads and writes. The order of the random draws is part of the golden bits."""

    def __init__(self, spec: GemmSpec, case: Case) -> None:
        rng = np.random.default_rng([case.depth, case.outputs, case.positions])
        # Each input k of a group has a row of its own, unaligned.
        shape = (case.images, case.groups, case.depth, case.padded + 64 + 1)
        self.x = inputs(spec, rng, shape, case.extreme)
        if case.poison:
            self.x[:, :, 3, 1] = case.poison
        # Kernels read lanes past the last position.
        before, after = np.zeros(3, self.x.dtype), np.zeros(4096, self.x.dtype)
        self.memory = np.concatenate([before, self.x.ravel(), after])
        signs = rng.integers(0, 2, (case.channels, case.depth)) * 2 - 1
        signs = np.full_like(signs, case.extreme) if case.extreme else signs
        if spec.weights == "b1":
            self.weights, self.stored = signs, bits.pack(signs)
        elif spec.weights == "i8":
            self.weights = rng.integers(-127, 128, signs.shape).astype(np.int8)
            if case.extreme:
                self.weights = np.full_like(self.weights, 127 * case.extreme)
            self.stored = self.weights
        else:
            self.weights = self.stored = rng.standard_normal(signs.shape).astype(np.float32)
        self.mask = np.zeros(case.padded, np.int32)
        self.mask[: case.positions] = -(rng.random(case.positions) < 0.9).astype(np.int32)
        plane = case.lead + case.padded + (0 if case.alone else 16)
        scales = case.padded if case.per_lane else case.images
        self.out = np.full((case.images, case.channels, plane), np.nan, np.float32)
        # As with activations of 0..254.
        self.correction = (spec.exact * 127 * signs.sum(axis=1)).astype(np.float32)
        if spec.weights == "i8":
            self.correction = 127 * self.weights.sum(axis=1, dtype=np.int32)
        self.scale = np.ones(case.channels, np.float32)
        self.bias = np.zeros(case.channels, np.float32)
        self.bounds = np.array([-np.inf, np.inf] * 2, np.float32)
        self.added = np.zeros(0, np.float32)
        self.x_scales = np.ones(scales, np.float32)
        self.rounding = rounding(OUT_SCALE, QUANTIZED_RANGE, CLAMP)
        if case.quantized:
            self.out = np.full(self.out.shape, UNWRITTEN, np.int8)
            self.bounds = np.array([*CLAMP, -np.inf, np.inf, *QUANTIZED_RANGE], np.float32)
        if case.epilogue:
            self.scale = rng.normal(0, 1, case.channels).astype(np.float32)
            self.bias = rng.normal(0, 1, case.channels).astype(np.float32)
            self.bounds = np.array([-1.5, 2.5, -0.5, np.inf], np.float32)
            size = (case.images, case.channels, plane + 3)
            self.added = rng.standard_normal(size, np.float32)
            self.x_scales = rng.uniform(0.5, 1, scales).astype(np.float32)

    def params(self, case: Case) -> dict[str, int]:
        """The parameters that all GEMMs share."""
        added = self.added.size > 0
        return {
            "x": self.memory.ctypes.data + 3 * self.x.itemsize,
            "x_image": self.x[0].size,
            "x_group": self.x[0, 0].size,
            "images": case.images,
            "groups": case.groups,
            "outputs": case.outputs,
            "out": self.out.ctypes.data,
            "out_image": self.out[0].size,
            "out_plane": self.out.shape[2],
            "out_lead": case.lead,
            "mask": self.mask.ctypes.data,
            "bounds": self.bounds.ctypes.data,
            "activation": case.activation,
            "added": self.added.ctypes.data if added else 0,
            "added_image": self.added[0].size if added else 0,
            "added_plane": self.added.shape[-1],
            "added_lead": ADDED_LEAD,
            "rounding": self.rounding.ctypes.data if case.quantized else 0,
            "x_scales": self.x_scales.ctypes.data,
            "scale_per_position": int(case.per_lane),
        }

    def expected(self, spec: GemmSpec, case: Case) -> np.ndarray:
        """Outputs in float64: (images, channels, positions)."""
        kind = np.float64 if spec.activations == "f32" else np.int64
        weights = self.weights.reshape(case.groups, case.outputs, case.depth).astype(kind)
        x = self.x[..., : case.positions].astype(kind)
        sums = np.einsum("gnk,igkp->ignp", weights, x, optimize=True)
        sums = sums.reshape(case.images, case.channels, case.positions)
        sums = sums + self.correction[:, None].astype(kind)
        x_scales = self.x_scales[:, None, None]
        if case.per_lane:
            x_scales = self.x_scales[None, None, : case.positions]
        y = sums * (self.scale[:, None].astype(np.float64) * x_scales) + self.bias[:, None]
        y = activated(case.activation, np.clip(y, *self.bounds[:2]))
        if self.added.size:
            added = self.added[:, :, ADDED_LEAD : ADDED_LEAD + case.positions]
            y = np.clip(y + added, *self.bounds[2:])
        return y


def inputs(
    spec: GemmSpec, rng: np.random.Generator, shape: tuple[int, ...], extreme: int
) -> np.ndarray:
    if spec.activations == "f32":
        return rng.standard_normal(shape).astype(np.float32)
    top = 127 if spec.activations == "i8" else 1
    return (np.full(shape, top) if extreme else rng.integers(-top, top + 1, shape)).astype(np.int8)


def scratch(share: int, parts: int) -> tuple[np.ndarray, dict[str, int]]:
    """Scratch of all parts, and its parameters."""
    share = -(-share // 64) * 64
    memory = np.full(share * parts + 64, 0x77, np.uint8)  # no kernel may count on zeros
    start = memory.ctypes.data + (-memory.ctypes.data % 64)
    return memory, {"scratch": start, "scratch_part": share}


def indirect_call(
    spec: IndirectGemm, case: Case, arrays: Arrays, parts: int
) -> tuple[np.ndarray, int, object]:
    """Parameter block, units of work, and what must stay alive, of a GEMM over offsets."""
    memory, scratch_params = scratch(spec.scratch(case.outputs, case.depth), parts)
    offsets = np.arange(case.depth, dtype=np.int64) * arrays.x.shape[3]
    words = spec.packing.pack(arrays.stored)
    block = spec.block(
        words=words.ctypes.data,
        row_words=spec.packing.row_words(arrays.stored.shape[1]),
        depth=case.depth,
        offsets=offsets.ctypes.data,
        positions=case.positions,
        scale=arrays.scale.ctypes.data,
        bias=arrays.bias.ctypes.data,
        correction=arrays.correction.ctypes.data,
        **arrays.params(case),
        **scratch_params,
    )
    blocks = -(-case.positions // spec.lanes) if spec.lanes else 0
    units = blocks * case.groups * case.images if spec.lanes else case.channels
    return block, units, (memory, offsets, words)


def permute_call(
    spec: LutPermuteGemm, case: Case, arrays: Arrays, parts: int
) -> tuple[np.ndarray, int, object]:
    """The same of a GEMM by tables in registers: one tap, bands of three blocks."""
    layout, band = spec.layout, 3
    indices = layout.pack(arrays.stored, case.groups, case.depth, [[0]])
    starts = np.array([*range(0, case.positions, TILE), arrays.out.shape[2] - case.lead])
    taps, shifts = np.array([0, 1]), np.zeros(1, np.int64)
    # Vectors of a group are padded, here with what must not be used.
    width = layout.vectors(case.outputs) * layout.lanes
    vectors = [np.full((case.groups, width), 7, np.float32) for _ in range(3)]
    sources = (arrays.scale, arrays.bias, arrays.correction)
    for vector, source in zip(vectors, sources, strict=True):
        vector[:, : case.outputs] = source.reshape(case.groups, -1)
    share = layout.scratch_bytes(case.outputs, case.depth, band * TILE, band)
    memory, scratch_params = scratch(share, parts)
    block = spec.block(
        x_plane=arrays.x.shape[3],
        x_segment=0,
        channels=case.depth,
        chunk=layout.chunk(case.depth),
        segments=1,
        taps=taps.ctypes.data,
        shifts=shifts.ctypes.data,
        min_shift=0,
        max_shift=0,
        indices=indices.ctypes.data,
        index_group=indices[0].nbytes,
        starts=starts.ctypes.data,
        blocks=len(starts) - 1,
        band=band,
        rows_bytes=layout.rows_bytes(case.depth, band * TILE),
        scale=vectors[0].ctypes.data,
        bias=vectors[1].ctypes.data,
        correction=vectors[2].ctypes.data,
        **arrays.params(case),
        **scratch_params,
    )
    units = -(-(len(starts) - 1) // band) * case.groups * case.images
    return block, units, (memory, indices, starts, taps, shifts, vectors)


def window_call(
    spec: LutWindowGemm, case: Case, arrays: Arrays, parts: int
) -> tuple[np.ndarray, int, object]:
    """The same of a GEMM by tables that taps share: one tap, one row of outputs."""
    tile = spec.tile
    words = tile.pack(arrays.stored, case.groups, case.depth, [Rectangle(1, 1, 0, 0, 0, (0,))])
    memory, scratch_params = scratch(tile.scratch_bytes(case.outputs), parts)
    arrays.mask[: case.positions] = -1  # no slack between the positions of a row
    taps = np.array([1, 1, 0], np.int64)
    block = spec.block(
        x_plane=arrays.x.shape[3],
        x_row=0,
        channels=case.depth,
        rectangles=1,
        taps=taps.ctypes.data,
        words=words.ctypes.data,
        words_group=words[0].nbytes,
        shares=1,
        height=1,
        width=case.positions,
        out_row=case.positions,
        scale=arrays.scale.ctypes.data,
        bias=arrays.bias.ctypes.data,
        correction=arrays.correction.ctypes.data,
        **arrays.params(case),
        **scratch_params,
    )
    units = tile.tiles(case.images, 1, case.positions) * case.groups
    return block, units, (memory, words, taps)


def run(
    spec: GemmSpec, case: Case, parts: int = 1, only: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes written, NaN where nothing was, expected values, and the mask of outputs."""
    arrays = Arrays(spec, case)
    call: object = indirect_call
    if isinstance(spec, LutPermuteGemm):
        call = permute_call
    elif isinstance(spec, LutWindowGemm):
        call = window_call
    block, units, keep_alive = call(spec, case, arrays, parts)
    for part in range(parts) if only is None else [only]:
        spec.entry()(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
    del keep_alive
    return arrays.out, arrays.expected(spec, case), arrays.mask[: case.positions] != 0


def check(spec: GemmSpec, case: Case, parts: int = 1) -> None:
    out, expected, mask = run(spec, case, parts)
    values = out[:, :, case.lead : case.lead + case.positions]
    margins = np.delete(out, np.s_[case.lead : case.lead + case.positions], axis=2)
    assert not margins.any(), f"{spec.name} {case}: margins are not zero"
    assert not values[:, :, ~mask].any(), f"{spec.name} {case}: a masked position is not zero"
    actual, truth = values[:, :, mask], expected[:, :, mask]
    if spec.exact and not case.epilogue and not case.activation:
        assert np.array_equal(actual, truth.astype(np.float32)), f"{spec.name} {case}"
        return
    error = np.abs(actual - truth)
    allowed = EPSILON * (case.depth + 4) * max(1.0, np.abs(truth).max(initial=0.0))
    assert error.max(initial=0.0) <= allowed, (
        f"{spec.name} {case} at {np.unravel_index(error.argmax(), error.shape)}: {error.max()}"
    )


def check_quantized(spec: GemmSpec, case: Case) -> None:
    """8-bit outputs: those of integer sums are exact, others within one where rounding decides."""
    case = replace(case, quantized=True)
    out, expected, mask = run(spec, case)
    (low, high), middle = QUANTIZED_RANGE, sum(QUANTIZED_RANGE) // 2
    values = out[:, :, case.lead : case.lead + case.positions].astype(int) + middle
    margins = np.delete(out, np.s_[case.lead : case.lead + case.positions], axis=2)
    assert (margins == -middle).all(), f"{spec.name} {case}: margins are not zero"
    assert not values[:, :, ~mask].any(), f"{spec.name} {case}: a masked position is not zero"
    quotients = expected[:, :, mask].astype(np.float32) / np.float32(OUT_SCALE)
    allowed = np.clip(np.rint(quotients), low, high)
    wrong = values[:, :, mask] != allowed
    if not spec.exact:
        wrong &= np.abs(values[:, :, mask] - quotients) > 0.501
    assert not wrong.any(), f"{spec.name} {case}: {values[:, :, mask][wrong]}"
