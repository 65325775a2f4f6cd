"""Sums of `lut_permute.py`: tiles of positions by vectors of outputs, looked up in tables."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from bwn.kernels.gemm.lut import add_to_totals
from bwn.kernels.gemm.lut_permute_packing import TABLE_BYTES, TILE, Layout
from bwn.kernels.simd.scalars import get_i64
from bwn.kernels.simd.shuffles import take_value
from bwn.kernels.simd.vectors import Vec, add, llvm_type, load_at, offset_by, zeros
from bwn.kernels.simd.widths import VECTOR_BYTES
from bwn.kernels.target.jit import Codegen, helper, intrinsic


@intrinsic
def load_indices(sums: Any, address: Any, stride: Any) -> tuple[Any, Codegen]:
    """load_indices(sums, address, stride): a vector of indices for each vector of outputs.

    stride: bytes from one to the next.
    """
    vec = sums.dtype
    index = Vec(types.int32 if vec.element == types.float32 else types.int16, vec.lanes)
    count = sums.count // TILE

    def gen(builder: Any, args: Any) -> Any:
        address, indices = args[1], []
        for _vector in range(count):
            indices.append(load_at(builder, index, address))
            address = builder.add(address, args[2])
        return indices

    return types.UniTuple(index, count)(sums, types.intp, types.intp), gen


@intrinsic
def next_indices(indices: Any) -> tuple[Any, Codegen]:
    """next_indices(indices): the next group's indices in the low bits."""
    index = indices.dtype
    bits = 5 if index.element == types.int32 else 6

    def gen(builder: Any, args: Any) -> Any:
        shift = ir.Constant(llvm_type(index), [bits] * index.lanes)
        return [
            builder.lshr(builder.extract_value(args[0], v), shift) for v in range(indices.count)
        ]

    return indices(indices), gen


@intrinsic
def add_entries(sums: Any, table: Any, stride: Any, indices: Any) -> tuple[Any, Codegen]:
    """add_entries(sums, table, stride, indices): sums plus the entries that the indices' low bits
    name.

    sums: vectors of outputs by positions. table: address of the first position's; `stride` bytes to
    the next.
    """
    vec = sums.dtype

    def gen(builder: Any, args: Any) -> Any:
        totals = [builder.extract_value(args[0], i) for i in range(sums.count)]
        vectors = [builder.extract_value(args[3], v) for v in range(indices.count)]
        address = args[1]
        for p in range(TILE):
            low = load_at(builder, vec, address)
            high = load_at(builder, vec, offset_by(builder, address, VECTOR_BYTES))
            for v, index in enumerate(vectors):
                entry = take_value(builder, vec, [low, high], index)
                totals[v * TILE + p] = add(builder, vec, totals[v * TILE + p], entry)
            address = builder.add(address, args[2])
        return totals

    return sums(sums, types.intp, types.intp, indices), gen


@intrinsic
def keep_rolled() -> tuple[Any, Codegen]:
    """keep_rolled(): nothing, but LLVM must not unroll a loop that holds it.

    Twice a tile's registers are more than there are.
    """

    def gen(builder: Any, args: Any) -> None:
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), ()), "", "", side_effect=True)
        builder.call(nothing, (), attrs=("convergent",))

    return types.void(), gen


class Chunk(NamedTuple):
    """A chunk of channels of one segment, and the taps that read it.

    Attributes:
        tables: Address of the tables of position 0.
        groups: Tables at a position, one a group of channels.
        first_tap: First tap, by its place in `shifts`.
        end_tap: One past the last tap.
        indices: Address of the packed weights.
    """

    tables: int
    groups: int
    first_tap: int
    end_tap: int
    indices: int


def tile_summer(layout: Layout) -> Any:
    """A helper that adds a chunk to the totals of a tile."""
    lanes, held = layout.lanes, layout.held

    @helper
    def sum_tile(
        sums_zero: Any, f: Any, chunk: Chunk, table: int, indices: int, total: int
    ) -> None:
        """The tile has as many vectors of outputs as there are zeroed sums.

        table: address of the tables of the tile's first position.
        """
        vectors = (f.outputs + lanes - 1) // lanes
        stride = f.chunk * TABLE_BYTES
        vector_bytes = (f.chunk + held - 1) // held * VECTOR_BYTES
        sums, summed = sums_zero, 0
        for tap in range(chunk.first_tap, chunk.end_tap):
            tap_table = table + get_i64(f.shifts, tap) * stride
            if summed + chunk.groups > layout.safe_tables:
                add_to_totals(total, sums)
                sums, summed = sums_zero, 0
            address, left = indices, chunk.groups
            while left > 0:
                vector = load_indices(sums, address, vector_bytes)
                for _group in range(min(held, left)):
                    keep_rolled()
                    sums = add_entries(sums, tap_table, stride, vector)
                    vector = next_indices(vector)
                    tap_table += TABLE_BYTES
                address += VECTOR_BYTES
                left -= held
            summed += chunk.groups
            indices += vectors * vector_bytes
        add_to_totals(total, sums)

    return sum_tile


def chunk_summer(kind: Any, layout: Layout) -> Any:
    """A helper that adds a chunk to the totals of blocks. kind: of the tables, F32 or I16."""
    lanes, held, sum_tile = layout.lanes, layout.held, tile_summer(layout)

    @helper
    def sum_tiles(sums_zero: Any, v: int, f: Any, chunk: Chunk, table: int, total: int) -> int:
        """Tiles as wide as there are zeroed sums, from vector v of outputs on; the next vector."""
        wide, vectors = len(sums_zero) // TILE, (f.outputs + lanes - 1) // lanes
        vector_bytes = (f.chunk + held - 1) // held * VECTOR_BYTES
        while v + wide <= vectors:
            indices = chunk.indices + v * vector_bytes
            sum_tile(sums_zero, f, chunk, table, indices, total + v * TILE * lanes * 4)
            v += wide
        return v

    @helper
    def sum_chunk(f: Any, chunk: Chunk, first: int, last: int, totals: int) -> None:
        """Add a chunk to the totals of blocks first..last-1."""
        block_bytes = (f.outputs + lanes - 1) // lanes * TILE * lanes * 4
        for block in range(first, last):
            table = chunk.tables + get_i64(f.starts, block) * f.chunk * TABLE_BYTES
            total = totals + (block - first) * block_bytes
            v = sum_tiles(zeros(kind, 16), 0, f, chunk, table, total)
            v = sum_tiles(zeros(kind, 8), v, f, chunk, table, total)
            sum_tiles(zeros(kind, 4), v, f, chunk, table, total)

    return sum_chunk
