"""Calls of products on seeded arrays, beside the plain reference: for tests, golden bits and instruction counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bwn.kernels import bits
from bwn.kernels.gemm import lut_permute_packing
from bwn.kernels.params import Activation
from bwn.kernels.registry import IndirectGemm, LutPermuteGemm
from bwn.ops import NODES

EPSILON = np.finfo(np.float32).eps
ADDED_LEAD = 2
ACTIVATIONS = {
    Activation.NONE: lambda x: x,
    Activation.HARD_SWISH: lambda x: x * np.clip(x + 3, 0, 6) / 6,
}
"""The formulas in numpy, in the precision of x and in the order of the kernels."""


def activated(code: int, x: np.ndarray) -> np.ndarray:
    """The activation of x; of an operation that is not in ACTIVATIONS, its float64 reference."""
    if code in ACTIVATIONS:
        return ACTIVATIONS[code](x)
    formula = Activation(code).name.lower()
    (kind,) = (kind for kind in NODES if getattr(kind, "formula", None) == formula)
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

    def __str__(self) -> str:
        return "-".join(f"{key[0]}{int(value)}" for key, value in vars(self).items() if value)


def activations(
    row: IndirectGemm | LutPermuteGemm,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    extreme: int,
) -> np.ndarray:
    if row.activations == "f32":
        return rng.standard_normal(shape).astype(np.float32)
    top = 127 if row.activations == "i8" else 1
    return (np.full(shape, top) if extreme else rng.integers(-top, top + 1, shape)).astype(np.int8)


@dataclass
class Given:
    """Arrays that a call works on; x stands in room, three elements in."""

    x: np.ndarray
    room: np.ndarray
    stored: np.ndarray
    out: np.ndarray
    mask: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    bounds: np.ndarray
    steps: np.ndarray
    added: np.ndarray

    def fields(self, case: Case) -> dict[str, int]:
        """The fields that all products share."""
        return {
            "x": self.room.ctypes.data + 3 * self.x.itemsize, "x_image": self.x[0].size, "x_group": self.x[0, 0].size,
            "images": case.images, "groups": case.groups, "outputs": case.outputs,
            "out": self.out.ctypes.data, "out_image": self.out[0].size, "out_plane": self.out.shape[2],
            "out_lead": case.lead, "mask": self.mask.ctypes.data, "bounds": self.bounds.ctypes.data,
            "activation": case.activation,
            "added": self.added.ctypes.data if self.added.size else 0, "added_lead": ADDED_LEAD, "out_scale": 0,
            "added_image": self.added[0].size if self.added.size else 0, "added_plane": self.added.shape[-1],
            "x_scales": self.steps.ctypes.data, "scale_per_position": int(case.per_lane),
        }  # fmt: skip


def scratch(share: int, parts: int) -> tuple[np.ndarray, dict[str, int]]:
    """Scratch of all parts, and its fields."""
    share = -(-share // 64) * 64
    room = np.full(share * parts + 64, 0x77, np.uint8)  # no kernel may count on zeros
    return room, {"scratch": room.ctypes.data + (-room.ctypes.data % 64), "scratch_part": share}


def planned(
    row: IndirectGemm | LutPermuteGemm, case: Case, given: Given, parts: int
) -> tuple[np.ndarray, int, object]:
    """Parameter block, units of work, and what must stay alive, of a product over offsets."""
    room, ends = scratch(row.scratch(case.outputs, case.depth), parts)
    offsets = np.arange(case.depth, dtype=np.int64) * given.x.shape[3]
    words = row.pack(given.stored)
    block = row.block(
        words=words.ctypes.data, row_words=given.stored.shape[1], depth=case.depth,
        offsets=offsets.ctypes.data, positions=case.positions,
        scale=given.scale.ctypes.data, bias=given.bias.ctypes.data, correction=given.shift.ctypes.data,
        **given.fields(case), **ends,
    )  # fmt: skip
    blocks = -(-case.positions // row.lanes) if row.lanes else 0
    units = blocks * case.groups * case.images if row.lanes else case.groups * case.outputs
    return block, units, (room, offsets, words)


def permuted(
    row: LutPermuteGemm, case: Case, given: Given, parts: int
) -> tuple[np.ndarray, int, object]:
    """The same of a product whose tables stand in registers: one tap, bands of three blocks."""
    layout, band = row.layout, 3
    end = given.out.shape[2] - case.lead
    tap, kept = lut_permute_packing.in_a_row(
        layout, given.stored, case.groups, case.depth, 1, case.positions, end, band
    )
    width = layout.vectors(case.outputs) * layout.lanes
    vectors = [np.full((case.groups, width), 7, np.float32) for _ in range(3)]
    for vector, values in zip(vectors, (given.scale, given.bias, given.shift), strict=True):
        vector[:, : case.outputs] = values.reshape(case.groups, -1)
    room, ends = scratch(
        layout.scratch_bytes(case.outputs, case.depth, band * lut_permute_packing.TILE, band), parts
    )
    block = row.block(
        x_plane=given.x.shape[3], scale=vectors[0].ctypes.data, bias=vectors[1].ctypes.data,
        correction=vectors[2].ctypes.data,
        **tap, **given.fields(case), **ends,
    )  # fmt: skip
    return block, -(-tap["blocks"] // band) * case.groups * case.images, (room, vectors, kept)


def run(
    row: IndirectGemm | LutPermuteGemm, case: Case, parts: int = 1, only: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes written, NaN where nothing was, expected values, and the mask of positions that are values."""
    rng = np.random.default_rng([case.depth, case.outputs, case.positions])
    padded = -(-case.positions // 16) * 16
    # Each input k of a group has a row of its own, at no aligned place.
    step = padded + 64 + 1
    x = activations(row, rng, (case.images, case.groups, case.depth, step), case.extreme)
    if case.poison:
        x[:, :, 3, 1] = case.poison
    room = np.concatenate([np.zeros(3, x.dtype), x.ravel(), np.zeros(4096, x.dtype)])
    signs = rng.integers(0, 2, (case.groups * case.outputs, case.depth)) * 2 - 1
    signs = np.full_like(signs, case.extreme) if case.extreme else signs
    if isinstance(row, LutPermuteGemm) or row.weights == "b1":
        weights, stored = signs, bits.pack(signs)
    else:
        weights = stored = rng.standard_normal(signs.shape).astype(np.float32)
    channels = case.groups * case.outputs
    mask = np.zeros(padded, np.int32)
    mask[: case.positions] = -(rng.random(case.positions) < 0.9).astype(np.int32)
    plane = case.lead + padded + 16
    out = np.full((case.images, channels, plane), np.nan, np.float32)
    one = not case.epilogue
    scale = np.ones(channels, np.float32) if one else rng.normal(0, 1, channels).astype(np.float32)
    bias = np.zeros(channels, np.float32) if one else rng.normal(0, 1, channels).astype(np.float32)
    bounds = np.array([-np.inf, np.inf] * 2 if one else [-1.5, 2.5, -0.5, np.inf], np.float32)
    added = (
        np.zeros(0, np.float32)
        if one
        else rng.standard_normal((case.images, channels, plane + 3), np.float32)
    )
    count = padded if case.per_lane else case.images
    steps = np.ones(count, np.float32) if one else rng.uniform(0.5, 1, count).astype(np.float32)
    shift = (row.exact * 127 * signs.sum(axis=1)).astype(
        np.float32
    )  # as with activations of 0..254
    given = Given(x, room, stored, out, mask, scale, bias, shift, bounds, steps, added)
    block, units, kept = (permuted if isinstance(row, LutPermuteGemm) else planned)(
        row, case, given, parts
    )
    for part in range(parts) if only is None else [only]:
        row.entry()(block.ctypes.data, units * part // parts, units * (part + 1) // parts, part)
    del kept
    kind = np.float64 if row.activations == "f32" else np.int64
    sums = np.einsum(
        "gnk,igkp->ignp",
        weights.reshape(case.groups, case.outputs, case.depth).astype(kind),
        x[..., : case.positions].astype(kind),
        optimize=True,
    ).reshape(case.images, channels, case.positions)
    step_of = steps[None, None, : case.positions] if case.per_lane else steps[:, None, None]
    expected = (sums + shift[:, None].astype(kind)) * (
        scale[:, None].astype(np.float64) * step_of
    ) + bias[:, None]
    expected = activated(case.activation, np.clip(expected, *bounds[:2]))
    if added.size:
        expected = np.clip(
            expected + added[:, :, ADDED_LEAD : ADDED_LEAD + case.positions], *bounds[2:]
        )
    return out, expected, mask[: case.positions] != 0


def check(row: IndirectGemm | LutPermuteGemm, case: Case, parts: int = 1) -> None:
    out, expected, mask = run(row, case, parts)
    values = out[:, :, case.lead : case.lead + case.positions]
    margins = np.delete(out, np.s_[case.lead : case.lead + case.positions], axis=2)
    assert not margins.any(), f"{row.name} {case}: margins are not zero"
    assert not values[:, :, ~mask].any(), f"{row.name} {case}: a masked position is not zero"
    found, truth = values[:, :, mask], expected[:, :, mask]
    if row.exact and not case.epilogue and not case.activation:
        assert np.array_equal(found, truth.astype(np.float32)), f"{row.name} {case}"
        return
    apart = np.abs(found - truth)
    allowed = EPSILON * (case.depth + 4) * max(1.0, np.abs(truth).max(initial=0.0))
    assert apart.max(initial=0.0) <= allowed, (
        f"{row.name} {case} at {np.unravel_index(apart.argmax(), apart.shape)}: {apart.max()}"
    )
