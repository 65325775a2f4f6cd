"""The end of every product over planes: sums become outputs.

    y = min(max(sum * (scale[n] * step) + bias[n], low), high)

step is 1 for float32 and sign activations; for 8-bit ones it is the quantization step of the image. A product writes
the whole plane that it owns: outputs where the mask is set and exact zeros elsewhere, so that the next layer reads
its padding from the same plane.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
from __future__ import annotations

from bwn.kernels.compiler import helper
from bwn.kernels.memory import get_f32, put_f32, put_i8
from bwn.kernels.vectors import F32, I32, fma, keep, load, maximum, minimum, splat, store, zero

LANES = 16

PRODUCT_FIELDS = (
    "x", "x_image", "x_group", "words", "row_words", "depth", "offsets", "images", "groups", "outputs", "positions",
    "out", "out_image", "out_plane", "out_lead", "mask", "scale", "bias", "bounds", "steps", "steps_per_lane",
    "scratch", "scratch_part",
)  # fmt: skip
"""Fields of every product.

Addresses: x (position 0 of channel 0 of image 0), words (packed rows, or float32 rows), offsets ((depth,) int64: where
input k of position 0 lies, in elements from x), out (first element of the first plane, padding included), mask
((positions up to a multiple of 16,) int32: -1 where a position is an output, else 0), scale, bias, bounds, steps,
scratch. outputs and depth are of one group. scratch_part is in bytes; the other sizes count elements (row_words: words,
or float32 weights).
"""
PRODUCT_COUNT = len(PRODUCT_FIELDS)


@helper
def clear(address, count):
    """Zero `count` float32 elements."""
    i = 0
    while i + LANES <= count:
        store(address, i, zero(F32))
        i += LANES
    while i < count:
        put_f32(address, i, 0.0)
        i += 1


@helper
def clear_bytes(address, count):
    """Zero `count` bytes."""
    whole = count // 4
    clear(address, whole)
    for i in range(whole * 4, count):
        put_i8(address, i, 0)


@helper
def steps_at(steps, image, position, per_lane):
    """The quantization steps of 16 positions: one a position (a batch in the lanes), or one an image."""
    if per_lane:
        return load(F32, steps, position)
    return splat(F32, get_f32(steps, image))


@helper
def finish(sums, out, mask, scale, bias, bounds, n, step):
    """Write 16 outputs of channel n.

    sums: F32 vector. out, mask: addresses of the first output and of its (16,) int32 mask. scale, bias: addresses of
    (outputs,) float32. bounds: address of low and high. step: F32 vector.
    """
    y = fma(sums, splat(F32, get_f32(scale, n)) * step, splat(F32, get_f32(bias, n)))
    y = minimum(maximum(y, splat(F32, get_f32(bounds, 0))), splat(F32, get_f32(bounds, 1)))
    store(out, 0, keep(y, load(I32, mask, 0)))


@helper
def clear_margins(plane, size, lead, positions, first, last):
    """Zero what stands before the first position of a plane and, up to `size`, after its last vector."""
    if first:
        clear(plane, lead)
    if last:
        end = lead + (positions + LANES - 1) // LANES * LANES
        clear(plane + end * 4, size - end)


@helper
def finish_one(total, scale, bias, bounds, n, step):
    """One output of channel n from its total, as `finish` computes it."""
    y = total * (get_f32(scale, n) * step) + get_f32(bias, n)
    low, high = get_f32(bounds, 0), get_f32(bounds, 1)
    y = low if y < low else y
    return high if y > high else y


@helper
def step_at(steps, image, position, per_lane):
    """The quantization step of one position."""
    return get_f32(steps, position if per_lane else image)
