"""Ends of the sums of `lut_window.py`: rows of neighboring outputs, from float32 sums."""

from __future__ import annotations

from typing import Any, NamedTuple

from bwn.kernels.gemm.epilogue import (
    end_in_bytes,
    fill_padding,
    is_plain,
    is_quantized,
    out_plane,
    quantized_end,
    write_one,
    write_outputs,
    x_scale_at,
)
from bwn.kernels.gemm.lut_window_packing import RUN_FIELDS, Tile
from bwn.kernels.simd.activations import activate
from bwn.kernels.simd.arithmetic import fma, maximum, minimum
from bwn.kernels.simd.scalars import get_f32, get_i64, put_f32
from bwn.kernels.simd.stores import clamp, x_scales_at
from bwn.kernels.simd.vectors import (
    F32,
    F32_4,
    F32_HALF,
    I32,
    I32_4,
    I32_HALF,
    like,
    load,
    splat,
    store,
)
from bwn.kernels.target.jit import helper

FLOATS = ((F32, I32, 16), (F32_HALF, I32_HALF, 8), (F32_4, I32_4, 4))
"""Vectors of outputs, and of their mask, and their lanes."""


class Place(NamedTuple):
    """Where neighboring outputs go.

    Attributes:
        sums: Address of their sums.
        out: Address of the first.
        image: Of the batch.
        n: Output channel.
        position: Of the first.
    """

    sums: int
    out: int
    image: int
    n: int
    position: int


class PlainEnd(NamedTuple):
    """What ends the sums of a channel in one image, where `is_plain` is."""

    scale: Any
    bias: Any
    low: Any
    high: Any


@helper
def moved(place: Any, count: int, out_bytes: int) -> Any:
    """The place `count` outputs further."""
    return Place(
        place.sums + count * 4, place.out + count * out_bytes, place.image, place.n,
        place.position + count,
    )  # fmt: skip


def plain_writer(kind: Any, mask_kind: Any) -> Any:
    """A helper that writes as many outputs as `kind` has lanes, where `is_plain` is."""

    @helper
    def write(f: Any, end: Any, place: Any) -> None:
        y = fma(load(kind, place.sums, 0), splat(kind, end.scale), splat(kind, end.bias))
        y = minimum(maximum(y, splat(kind, end.low)), splat(kind, end.high))
        store(place.out, 0, y)

    return write


@helper
def write_plain(f: Any, end: Any, place: Any) -> None:
    """The same of one output."""
    y = fma(get_f32(place.sums, 0), end.scale, end.bias)
    put_f32(place.out, 0, minimum(maximum(y, end.low), end.high))


def bytes_writer(kind: Any, mask_kind: Any) -> Any:
    """A helper that does so where `is_quantized` is."""

    @helper
    def write(f: Any, end: Any, place: Any) -> None:
        store(place.out, 0, end_in_bytes(kind, load(kind, place.sums, 0), end))

    return write


def any_writer(kind: Any, mask_kind: Any) -> Any:
    """A helper that does so with any epilogue."""

    @helper
    def write(f: Any, end: Any, place: Any) -> None:
        x_scale = x_scales_at(kind, f, place.image, place.position)
        scale = like(x_scale, get_f32(f.scale, place.n)) * x_scale
        y = fma(load(kind, place.sums, 0), scale, like(x_scale, get_f32(f.bias, place.n)))
        y = activate(f.activation, clamp(f, y, 0))
        write_outputs(kind, mask_kind, f, y, place.image, place.n, place.position)

    return write


@helper
def write_any(f: Any, end: Any, place: Any) -> None:
    """The same of one output."""
    x_scale = x_scale_at(f, place.image, place.position)
    write_one(f, get_f32(place.sums, 0), place.image, place.n, place.position, x_scale)


def row_writer(writer: Any, write: Any, out_bytes: int, most: int) -> Any:
    """A helper that writes neighboring outputs: by the largest vectors that they fill, of which the
    last may overlap those before.

    writer: makes a helper for vectors of a kind. write: a helper for one output.
    """

    @helper
    def write_row(f: Any, end: Any, place: Any, length: int) -> None:
        for i in range(length):
            write(f, end, moved(place, i, out_bytes))

    def by_vectors(write_some: Any, lanes: int, otherwise: Any) -> Any:
        @helper
        def write_row(f: Any, end: Any, place: Any, length: int) -> None:
            if length == lanes:  # apart, so that LLVM unrolls the loop over such rows
                write_some(f, end, place)
            elif length > lanes and lanes < most:
                for i in range(0, length, lanes):
                    write_some(f, end, moved(place, min(i, length - lanes), out_bytes))
            else:
                otherwise(f, end, place, length)

        return write_row

    for kind, mask_kind, lanes in reversed(FLOATS):
        if lanes <= most:
            write_row = by_vectors(writer(kind, mask_kind), lanes, write_row)
    return write_row


def run_ender(tile: Tile) -> Any:
    """A helper that writes the outputs of a channel from the rows of their sums."""
    row_bytes = tile.row_outputs * 4
    write_plain_row = row_writer(plain_writer, write_plain, 4, tile.row_outputs)
    write_bytes_row = row_writer(bytes_writer, write_any, 1, tile.row_outputs)
    write_any_row = row_writer(any_writer, write_any, 4, tile.row_outputs)

    @helper
    def end_run(
        f: Any, write_row: Any, out_bytes: int, end: Any, rows: int, run: int, n: int
    ) -> None:
        image, position = get_i64(run, 0), get_i64(run, 1)
        out = out_plane(f, image, n) + (f.out_lead + position) * out_bytes
        place = Place(rows + get_i64(run, 2) * 4, out, image, n, position)
        for _row in range(get_i64(run, 4)):
            write_row(f, end, place, get_i64(run, 3))
            place = Place(
                place.sums + row_bytes, place.out + f.out_row * out_bytes, image, n,
                place.position + f.out_row,
            )  # fmt: skip

    @helper
    def end_channel(f: Any, rows: int, runs: int, count: int, n: int, bounds: Any) -> None:
        """runs: address of so many. bounds: of the outputs."""
        for run in range(runs, runs + count * (RUN_FIELDS * 8), RUN_FIELDS * 8):
            image = get_i64(run, 0)
            if is_quantized(f):
                end_run(f, write_bytes_row, 1, quantized_end(f, image, n), rows, run, n)
            elif is_plain(f):
                scale = get_f32(f.scale, n) * get_f32(f.x_scales, image)
                end = PlainEnd(scale, get_f32(f.bias, n), bounds[0], bounds[1])
                end_run(f, write_plain_row, 4, end, rows, run, n)
            else:
                end_run(f, write_any_row, 4, 0, rows, run, n)

    return end_channel


@helper
def fill_around(f: Any, image: int, n: int) -> None:
    """Fill the padding of an output plane: before, between and after its rows."""
    plane, slack = out_plane(f, image, n), f.out_row - f.width
    fill_padding(f, plane, 0, f.out_lead)
    for row in range(f.height):
        fill_padding(f, plane, f.out_lead + row * f.out_row + f.width, slack)
    end = f.out_lead + f.height * f.out_row
    fill_padding(f, plane, end, f.out_plane - end)
