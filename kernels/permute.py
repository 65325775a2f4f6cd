"""Lookup-accumulate inside registers, for AVX-512: output channels stand in the lanes, tables in two registers.

    sum[n, p] = sum_t sum_c s[n, t, c] * x[c, p + shift[t]],    s = +-1

1. For G consecutive channels at one position, the 2**G sums +-x0 +-x1 ... make one table of 128 bytes: 32 float32
   (G = 5) or 64 int16 (G = 6). It serves all taps that fall on that position, and all outputs.
2. The weights' bits are laid out once (`prepare`): a lane of an index vector holds table indices of one output, 6 of 5
   bits (float32) or 2 of 6 bits (int16).
3. One permute looks up 16 or 32 outputs at once: 80 or 192 multiply-accumulates for a permute and an add.

Positions are those of the padded plane, so a tap is a shift. Channels are taken in chunks: the tables of a chunk
around 4 positions stay in L1 while all taps and outputs read them. A tile is 4 positions by 4 vectors of outputs.

8-bit activations are within +-128, so int16 sums are widened after 255 inputs: exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from bwn.kernels.bits import unpack
from bwn.kernels.compiler import helper, intrinsic
from bwn.kernels.finish import added_plane, clamp, clear, out_plane
from bwn.kernels.lookup import load_as, merge, no_sums, totals_as_float
from bwn.kernels.memory import get_f32, get_i16, get_i64, reader
from bwn.kernels.vectors import (
    F32,
    F32_4,
    I16,
    VECTOR_BYTES,
    Codegen,
    Vec,
    add,
    at,
    fma,
    fma_value,
    keep,
    llvm_type,
    load,
    load_at,
    marker,
    splat,
    splat_value,
    store,
    sub,
    take_value,
    zero,
)

TILE = 4
"""Positions of a tile."""
TABLE_BYTES = 2 * VECTOR_BYTES
MOST_CHUNK = 13
"""Groups of a chunk: for 3x3 taps the tables around a tile take 18 positions of 13 tables, 30 KB."""
I16_GROUPS = 255 // 6
"""Groups of 6 inputs within +-128 whose sum fits int16."""
ANY_GROUPS = 1 << 40
MASK = marker(types.int32, TILE)


class PermuteFields(NamedTuple):
    """Fields of a permuted product. Sizes count elements unless they say bytes."""

    x: int
    """Address of position 0 of channel 0 of image 0."""
    x_image: int
    x_group: int
    x_plane: int
    x_segment: int
    """From the channels of one segment (a phase of a strided convolution) to those of the next."""
    channels: int
    """Input channels of one group."""
    chunk: int
    """Tables of one chunk of channels."""
    segments: int
    taps: int
    """Address of (segments + 1,) int64: where each segment's taps begin in `shifts`."""
    shifts: int
    """Address of (taps,) int64: from an output's position to the tap's."""
    least: int
    most: int
    """Smallest and largest shift."""
    indices: int
    """Address of what `prepare` made."""
    index_group: int
    """Bytes of one group of it."""
    images: int
    groups: int
    outputs: int
    """Output channels of one group."""
    starts: int
    """Address of (blocks + 1,) int64: first position of each block of 4, then the plane's end."""
    blocks: int
    band: int
    """Blocks of one unit of work."""
    out: int
    """Address of the first element of the first plane, padding included."""
    out_image: int
    out_plane: int
    out_lead: int
    mask: int
    """As in ProductFields, likewise what follows; but scale, bias, shift of a group are padded to whole vectors."""
    scale: int
    bias: int
    shift: int
    bounds: int
    added: int
    added_image: int
    added_plane: int
    added_lead: int
    steps: int
    steps_per_lane: int
    room: int
    """Bytes of scratch for a chunk's activations around a band, as int16."""
    scratch: int
    scratch_part: int


permute_fields = reader(PermuteFields)


class Layout(NamedTuple):
    """How one type of activations is looked up: inputs of a table, outputs of a vector, table indices of a lane."""

    group: int
    lanes: int
    held: int
    dtype: str

    def vectors(self, outputs: int) -> int:
        """Vectors of `outputs`."""
        return -(-outputs // self.lanes)

    def chunk(self, channels: int) -> int:
        """Tables of a chunk: the fewest chunks of at most MOST_CHUNK, as even as can be."""
        tables = -(-channels // self.group)
        return -(-tables // -(-tables // MOST_CHUNK))

    def room_bytes(self, channels: int, positions: int) -> int:
        """Bytes of a chunk's activations at `positions` as int16, a multiple of 64."""
        return self.chunk(channels) * self.group * (-(-positions // 32) * 32) * 2

    def scratch_bytes(self, outputs: int, channels: int, positions: int, tiles: int) -> int:
        """Scratch that a part needs: a chunk's activations and tables, the totals of `tiles`, a tile of outputs."""
        totals = tiles * TILE * self.vectors(outputs) * self.lanes * 4
        tables = positions * self.chunk(channels) * TABLE_BYTES
        return self.room_bytes(channels, positions) + tables + totals + TILE * VECTOR_BYTES


F32_LAYOUT = Layout(5, 16, 6, "<u4")
I8_LAYOUT = Layout(6, 32, 2, "<u2")


def prepare(
    layout: Layout, words: npt.NDArray[np.uint64], groups: int, channels: int, segments: list[list[int]]
) -> npt.NDArray[Any]:
    """Table indices of packed weights, in the order that they are read.

    words: (groups * outputs, ceil(K / 64)) uint64, K = taps * channels, tap by tap. segments: the taps of each segment.
    Returns (groups, chunks of all segments and their taps, vectors, index vectors of a chunk, lanes).
    """
    size, chunk = layout.group, layout.chunk(channels)
    chunks = -(-channels // (chunk * size))
    taps = sum(map(len, segments))
    rows, held = len(words) // groups, -(-chunk // layout.held)
    signs = np.zeros((groups, layout.vectors(rows) * layout.lanes, taps, chunks * chunk * size), np.uint8)
    signs[:, :rows, :, :channels] = unpack(words, taps * channels).reshape(groups, rows, taps, channels) > 0
    picks = np.zeros((*signs.shape[:3], chunks, held * layout.held), layout.dtype)
    tables = signs.reshape(*signs.shape[:3], chunks, chunk, size)
    picks[..., :chunk] = np.packbits(tables, axis=-1, bitorder="little")[..., 0]
    lane = np.zeros((*picks.shape[:4], held), layout.dtype)
    for number in range(layout.held):
        lane |= picks[..., number :: layout.held] << np.array(number * size, layout.dtype)
    lane = lane.reshape(groups, -1, layout.lanes, taps, chunks, held)
    order = [lane[:, :, :, taps_of].transpose(0, 4, 3, 1, 5, 2).reshape(groups, -1) for taps_of in segments]
    return np.ascontiguousarray(np.concatenate(order, axis=1))


def one_tap(
    layout: Layout, words: npt.NDArray[np.uint64], groups: int, depth: int, positions: int, end: int, band: int
) -> tuple[dict[str, int], tuple[npt.NDArray[Any], ...]]:
    """Fields of a product with no window, and the arrays that they point to: for tests and measurements.

    words: (groups * outputs, ceil(depth / 64)) uint64. end: the plane's end, from position 0. band: blocks of a unit.
    """
    indices = prepare(layout, words, groups, depth, [[0]])
    starts = np.array([*range(0, positions, TILE), end])
    taps, shifts = np.array([0, 1]), np.zeros(1, np.int64)
    fields = {
        "x_segment": 0, "channels": depth, "chunk": layout.chunk(depth), "segments": 1, "taps": taps.ctypes.data,
        "shifts": shifts.ctypes.data, "least": 0, "most": 0, "indices": indices.ctypes.data,
        "index_group": indices[0].nbytes, "starts": starts.ctypes.data, "blocks": len(starts) - 1, "band": band,
        "room": layout.room_bytes(depth, band * TILE),
    }  # fmt: skip
    return fields, (indices, starts, taps, shifts)


@intrinsic
def write_table(_: Any, kind: Any, table: Any, inputs: Any) -> tuple[Any, Codegen]:
    """write_table(F32, table, inputs): all signed sums; bit j of an entry's number is the sign of input j."""
    vec = kind.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        shape = llvm_type(vec)
        spread = [splat_value(builder, vec, builder.extract_value(args[2], j)) for j in range(inputs.count)]
        entries = ir.Constant(shape, None)
        for bit, value in enumerate(spread[:-1]):
            plus = [i >> bit & 1 for i in range(vec.lanes)]
            if vec.element == types.float32:
                signs = ir.Constant(shape, [1.0 if one else -1.0 for one in plus])
                entries = fma_value(builder, value, signs, entries) if bit else builder.fmul(value, signs)
            else:
                signs = ir.Constant(ir.VectorType(ir.IntType(1), vec.lanes), plus)
                more, less = builder.add(entries, value), builder.sub(entries, value)
                entries = builder.select(signs, more, less)
        where = at(builder, args[1], shape)
        builder.store(sub(builder, vec, entries, spread[-1]), where, align=VECTOR_BYTES)
        upper = builder.add(args[1], ir.Constant(ir.IntType(64), VECTOR_BYTES))
        builder.store(add(builder, vec, entries, spread[-1]), at(builder, upper, shape), align=VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(kind, types.intp, inputs), gen


@intrinsic
def load_indices(_: Any, sums: Any, address: Any, stride: Any) -> tuple[Any, Codegen]:
    """load_indices(sums, address, stride): an index vector for each vector of outputs, `stride` bytes apart."""
    vec = sums.dtype
    index = Vec(types.int32 if vec.element == types.float32 else types.int16, vec.lanes)
    count = sums.count // TILE

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where, loaded = args[1], []
        for _vector in range(count):
            loaded.append(load_at(builder, index, where))
            where = builder.add(where, args[2])
        return context.make_tuple(builder, sig.return_type, loaded)

    return types.UniTuple(index, count)(sums, types.intp, types.intp), gen


@intrinsic
def next_indices(_: Any, indices: Any) -> tuple[Any, Codegen]:
    """next_indices(indices): the next group's table indices in the low bits."""
    index = indices.dtype
    bits = 5 if index.element == types.int32 else 6

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        by = ir.Constant(llvm_type(index), [bits] * index.lanes)
        moved = [builder.lshr(builder.extract_value(args[0], v), by) for v in range(indices.count)]
        return context.make_tuple(builder, sig.return_type, moved)

    return indices(indices), gen


@intrinsic
def look_up(_: Any, sums: Any, table: Any, stride: Any, indices: Any) -> tuple[Any, Codegen]:
    """look_up(sums, table, stride, indices): sums plus the entries that the indices' low bits name.

    sums: vectors of outputs by positions. table: address of the first position's; `stride` bytes to the next.
    """
    vec = sums.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        totals = [builder.extract_value(args[0], i) for i in range(sums.count)]
        picks = [builder.extract_value(args[3], v) for v in range(indices.count)]
        where = args[1]
        for p in range(TILE):
            low = load_at(builder, vec, where)
            high = load_at(builder, vec, builder.add(where, ir.Constant(ir.IntType(64), VECTOR_BYTES)))
            for v, pick in enumerate(picks):
                i = v * TILE + p
                totals[i] = add(builder, vec, totals[i], take_value(builder, vec, [low, high], pick))
            where = builder.add(where, args[2])
        return context.make_tuple(builder, sig.return_type, totals)

    return sums(sums, types.intp, types.intp, indices), gen


@intrinsic
def keep_rolled(_: Any) -> tuple[Any, Codegen]:
    """keep_rolled(): nothing, in a loop that LLVM must not unroll: twice a tile's registers are more than there are."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), ()), "", "", side_effect=True)
        builder.call(nothing, (), attrs=("convergent",))
        return context.get_dummy_value()

    return types.void(), gen


@helper
def rows_f32(x: int, plane: int, count: int, span: int, room: int) -> Any:
    """float32 activations stay where they are: their address, and elements from one channel to the next."""
    return x, plane


@helper
def rows_i8(x: int, plane: int, count: int, span: int, room: int) -> Any:
    """`count` channels of `span` int8 activations as int16 rows in `room`, so that one load spreads one of them."""
    step = (span + 31) // 32 * 32
    for channel in range(count):
        for i in range(0, span, 32):
            store(room, channel * step + i, load_as(I16, x + channel * plane, i))
    return room, step


@helper
def five(x: int, i: int, plane: int, count: int) -> Any:
    """The inputs of a table of float32; 0 where there are fewer."""
    none = np.float32(0.0)
    return (
        get_f32(x, i),
        get_f32(x, i + plane) if count > 1 else none,
        get_f32(x, i + 2 * plane) if count > 2 else none,
        get_f32(x, i + 3 * plane) if count > 3 else none,
        get_f32(x, i + 4 * plane) if count > 4 else none,
    )


@helper
def six(x: int, i: int, plane: int, count: int) -> Any:
    """The inputs of a table of int16; 0 where there are fewer."""
    none = np.int16(0)
    return (
        get_i16(x, i),
        get_i16(x, i + plane) if count > 1 else none,
        get_i16(x, i + 2 * plane) if count > 2 else none,
        get_i16(x, i + 3 * plane) if count > 3 else none,
        get_i16(x, i + 4 * plane) if count > 4 else none,
        get_i16(x, i + 5 * plane) if count > 5 else none,
    )


@helper
def write_tables(
    kind: Any, size: int, rows: Any, take: Any, f: Any, x: int, x_bytes: int, first: int, count: int, span: int,
    tables: int, room: int,
) -> None:  # fmt: skip
    """Tables first..first+count-1 of `span` positions. x: address of the first position in the segment's channel 0."""
    stride = f.chunk * TABLE_BYTES
    left = min(count * size, f.channels - first * size)
    source, step = rows(x + first * size * f.x_plane * x_bytes, f.x_plane, left, span, room)
    for t in range(count):
        start, table = t * size * step, tables + t * TABLE_BYTES
        if left >= size:
            for i in range(span):
                write_table(kind, table + i * stride, take(source, start + i, step, size))
        else:
            for i in range(span):
                write_table(kind, table + i * stride, take(source, start + i, step, left))
        left -= size


@helper
def tile(
    none: Any, held: int, most: int, f: Any, tables: int, count: int, begin: int, end: int, indices: int, step: int,
    totals: int,
) -> None:  # fmt: skip
    """Add taps begin..end-1 of a chunk of `count` tables to the totals of one tile.

    none: no sums, as many as the tile has. tables: of the tile's first position at shift 0. step: bytes of index
    vectors from one tap to the next. most: tables whose sums need no widening.
    """
    stride = f.chunk * TABLE_BYTES
    vector_step = (f.chunk + held - 1) // held * VECTOR_BYTES
    sums, since = none, 0
    for t in range(begin, end):
        table = tables + get_i64(f.shifts, t) * stride
        if since + count > most:
            merge(totals, sums)
            sums, since = none, 0
        word = indices
        left = count
        while left > 0:
            picks = load_indices(sums, word, vector_step)
            here = min(held, left)
            for _group in range(here):
                keep_rolled()
                sums = look_up(sums, table, stride, picks)
                picks = next_indices(picks)
                table += TABLE_BYTES
            word += VECTOR_BYTES
            left -= held
        since += count
        indices += step
    merge(totals, sums)


@helper
def chunk_totals(
    kind: Any, lanes: int, held: int, most: int, f: Any, tables: int, count: int, begin: int, end: int,
    indices: int, first: int, last: int, totals: int,
) -> None:  # fmt: skip
    """Add one chunk to the totals of blocks first..last-1. tables: those of position 0."""
    vectors, total_bytes = (f.outputs + lanes - 1) // lanes, TILE * lanes * 4
    stride = f.chunk * TABLE_BYTES
    vector_step = (f.chunk + held - 1) // held * VECTOR_BYTES
    step = vectors * vector_step
    for block in range(first, last):
        table = tables + get_i64(f.starts, block) * stride
        total = totals + (block - first) * vectors * total_bytes
        v = 0
        while v + 4 <= vectors:
            here = indices + v * vector_step
            tile(no_sums(kind, 16), held, most, f, table, count, begin, end, here, step, total + v * total_bytes)
            v += 4
        while v + 2 <= vectors:
            here = indices + v * vector_step
            tile(no_sums(kind, 8), held, most, f, table, count, begin, end, here, step, total + v * total_bytes)
            v += 2
        while v < vectors:
            here = indices + v * vector_step
            tile(no_sums(kind, 4), held, most, f, table, count, begin, end, here, step, total + v * total_bytes)
            v += 1


@intrinsic
def turn(_: Any, rows: Any, address: Any) -> tuple[Any, Codegen]:
    """turn(rows, address): write 4 vectors of 16 lanes transposed, 16 rows of 4."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b, c, d = (builder.extract_value(args[0], i) for i in range(TILE))
        lanes = 16
        both = ir.VectorType(ir.IntType(32), lanes)

        def mix(x: Any, y: Any, picks: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(both, picks))

        for quarter in range(4):
            # Lanes 4q..4q+3 of a, b, c, d: first a with b and c with d, then both.
            n = [4 * quarter + i for i in range(4)]
            pairs = [n[0], 16 + n[0], n[1], 16 + n[1], n[2], 16 + n[2], n[3], 16 + n[3]]
            ab, cd = mix(a, b, pairs + pairs), mix(c, d, pairs + pairs)
            order = [i for k in range(4) for i in (2 * k, 2 * k + 1, 16 + 2 * k, 17 + 2 * k)]
            where = builder.add(args[1], ir.Constant(ir.IntType(64), quarter * VECTOR_BYTES))
            builder.store(mix(ab, cd, order), at(builder, where, args[0].type.elements[0]), align=VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(rows, types.intp), gen


@helper
def outputs_at(kind: Any, f: Any, total: int, n: int, image: int, position: int) -> Any:
    """16 outputs at one position. total: address of their totals. n: the first of them among the padded outputs."""
    step = get_f32(f.steps, position if f.steps_per_lane else image)
    sums = totals_as_float(kind, total, 0) + load(F32, f.shift, n)
    y = fma(sums, load(F32, f.scale, n) * splat(F32, step), load(F32, f.bias, n))
    return clamp(F32, f, y, 0)


@helper
def write_outputs(
    kind: Any, lanes: int, f: Any, image: int, group: int, first: int, last: int, totals: int, turned: int
) -> None:
    """Outputs of blocks first..last-1 from their totals. turned: room for one tile."""
    vectors = (f.outputs + lanes - 1) // lanes
    row = lanes * 4  # bytes of the totals of one vector at one position
    for n in range(0, f.outputs, 16):
        padded = group * vectors * lanes + n
        for block in range(first, last):
            start, after = get_i64(f.starts, block), get_i64(f.starts, block + 1)
            total = totals + ((block - first) * vectors + n // lanes) * TILE * row + n % lanes * 4
            rows = (
                outputs_at(kind, f, total, padded, image, start),
                outputs_at(kind, f, total + row, padded, image, start + 1),
                outputs_at(kind, f, total + 2 * row, padded, image, start + 2),
                outputs_at(kind, f, total + 3 * row, padded, image, start + 3),
            )
            turn(rows, turned)
            mask = load(MASK, f.mask, start)
            for i in range(min(16, f.outputs - n)):
                channel = group * f.outputs + n + i
                plane, y = out_plane(f, image, channel), load(F32_4, turned, i * TILE)
                if f.added != 0:
                    y = clamp(F32_4, f, y + load(F32_4, added_plane(f, image, channel), start), 2)
                store(plane, f.out_lead + start, keep(y, mask))
                if after > start + TILE:
                    clear(plane + (f.out_lead + start + TILE) * 4, after - start - TILE)
                if block == 0:
                    clear(plane, f.out_lead + start)


@helper
def product(
    kind: Any, size: int, lanes: int, held: int, most: int, rows: Any, take: Any, x_bytes: int,
    p: int, begin: int, end: int, part: int,
) -> None:  # fmt: skip
    """Units begin..end-1; a unit is one band of blocks of one group of one image."""
    f = permute_fields(p)
    turned = f.scratch + part * f.scratch_part
    totals = turned + TILE * VECTOR_BYTES
    bands = (f.blocks + f.band - 1) // f.band
    vectors = (f.outputs + lanes - 1) // lanes
    vector_step = (f.chunk + held - 1) // held * VECTOR_BYTES
    stride = f.chunk * TABLE_BYTES
    room = totals + f.band * vectors * TILE * lanes * 4
    tables = room + f.room
    for unit in range(begin, end):
        band, group, image = unit % bands, unit // bands % f.groups, unit // (bands * f.groups)
        first, last = band * f.band, min(f.blocks, (band + 1) * f.band)
        origin = get_i64(f.starts, first) + f.least
        span = get_i64(f.starts, last - 1) + TILE + f.most - origin
        for i in range((last - first) * vectors * TILE * lanes // 16):
            store(totals, i * 16, zero(F32))
        indices = f.indices + group * f.index_group
        for segment in range(f.segments):
            tap, tap_end = get_i64(f.taps, segment), get_i64(f.taps, segment + 1)
            x = f.x + (image * f.x_image + group * f.x_group + segment * f.x_segment + origin) * x_bytes
            for table in range(0, (f.channels + size - 1) // size, f.chunk):
                count = min(f.chunk, (f.channels + size - 1) // size - table)
                write_tables(kind, size, rows, take, f, x, x_bytes, table, count, span, tables, room)
                at_zero = tables - origin * stride
                chunk_totals(
                    kind, lanes, held, most, f, at_zero, count, tap, tap_end, indices, first, last, totals
                )  # fmt: skip
                indices += (tap_end - tap) * vectors * vector_step
        write_outputs(kind, lanes, f, image, group, first, last, totals, turned)


def f32_b1_f32_planes_permute(p: int, begin: int, end: int, part: int) -> None:
    """float32 activations."""
    product(F32, 5, 16, 6, ANY_GROUPS, rows_f32, five, 4, p, begin, end, part)


def i8_b1_f32_planes_permute(p: int, begin: int, end: int, part: int) -> None:
    """8-bit activations within +-128: exact sums."""
    product(I16, 6, 32, 2, I16_GROUPS, rows_i8, six, 1, p, begin, end, part)
