"""A tile of packed signs: two positions by vectors of output channels, and how often their bits
differ.

`xnor.py` describes what is counted, and in which form words are stored. Here are the operations:
one more pair of words, and what becomes of the counts.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bwn.kernels.simd.bit_lanes import popcount_lanes
from bwn.kernels.simd.neon import add_neighbours, hidden
from bwn.kernels.simd.vectors import I32, at, call_function, llvm_type, load_at, offset_by, splat_at
from bwn.kernels.simd.widths import BLOCK, BLOCK_VECTORS, CARRIES, LANES, VECTOR_BYTES
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import Codegen, intrinsic

VECTORS = BLOCK_VECTORS if "avx512f" in features() else 2 if "neon" in features() else 1
"""Vectors of channels counted at a time, for two positions: their state fits the registers."""
WIDE = "avx512vpopcntdq" in features()
"""Whether the CPU counts bits by lanes of 32; else bytes are counted, and folded into lanes before
they overflow."""
MAX_PAIRS = 255 // 8 if CARRIES else 255 // 16
"""Pairs whose bits bytes can count before `fold`."""
COUNT = 0 if WIDE else 1
PER_VECTOR = COUNT + 1 + CARRIES
"""Vectors of state: counts by lanes; counts by bytes, not yet folded into lanes; running ones."""
PAIR_BYTES = 2 * BLOCK_VECTORS * VECTOR_BYTES
"""Weights of one pair of words of a block."""


def _ternary(builder: Any, table: int, a: Any, b: Any, c: Any) -> Any:
    """LLVM value of one operation of three operands: bit 4a + 2b + c of `table`."""
    name = "llvm.x86.avx512.pternlog.d.512"
    return call_function(builder, name, a.type, a, b, c, ir.Constant(ir.IntType(32), table))


def _carry(builder: Any, ones: Any, u: Any, next_ones: Any) -> Any:
    """LLVM value of the carry of s + u + v: s where s = u, else not s'."""
    if "avx512f" in features():
        return _ternary(builder, 0xD4, ones, u, next_ones)
    return builder.xor(ones, builder.and_(builder.xor(ones, u), builder.xor(u, next_ones)))


def _add_popcount(builder: Any, counts: Any, value: Any) -> Any:
    """LLVM value of counts plus the bits of `value`, in lanes or in bytes."""
    if WIDE:
        return builder.add(counts, popcount_lanes(builder, value))
    octets = ir.VectorType(ir.IntType(8), VECTOR_BYTES)
    more = popcount_lanes(builder, builder.bitcast(value, octets))
    sums = hidden(builder, builder.add(builder.bitcast(counts, octets), more))
    return builder.bitcast(sums, counts.type)


@intrinsic
def no_differences(inputs: Any) -> tuple[Any, Codegen]:
    """no_differences(inputs): the state of a tile before the first pair."""

    count = PER_VECTOR * inputs.count * VECTORS

    def gen(builder: Any, args: Any) -> Any:
        return [ir.Constant(llvm_type(I32.dtype), None)] * count

    return types.UniTuple(I32.dtype, count)(inputs), gen


@intrinsic
def count_pair(state: Any, inputs: Any, offset: Any, words: Any) -> tuple[Any, Codegen]:
    """count_pair(state, inputs, offset, words): the state with one pair of each position added.

    state: PER_VECTOR vectors for each position and vector of channels. inputs: tuple of addresses
    of activations; the pair is `offset` bytes further. words: address of the pair's weights.
    """
    vec = state.dtype

    def gen(builder: Any, args: Any) -> Any:
        now = [builder.extract_value(args[0], i) for i in range(state.count)]

        def load_input(p: int, half: int) -> Any:
            start = offset_by(builder, args[2], half * 4)
            return splat_at(builder, vec, builder.add(builder.extract_value(args[1], p), start))

        def load_weights(v: int, half: int) -> Any:
            offset = (half * BLOCK_VECTORS + v) * VECTOR_BYTES
            return load_at(builder, vec, offset_by(builder, args[3], offset))

        def count(i: int, word: Any) -> None:
            now[i + COUNT] = _add_popcount(builder, now[i + COUNT], word)

        positions = range(inputs.count)
        tile = [(v, p, PER_VECTOR * (p * VECTORS + v)) for v in range(VECTORS) for p in positions]
        xs = [[load_input(p, half) for p in positions] for half in (0, 1)]
        weights = [[load_weights(v, half) for v in range(VECTORS)] for half in (0, 1)]
        if CARRIES:
            for v, p, i in tile:
                last = i + PER_VECTOR - 1
                ones = builder.xor(builder.xor(now[last], weights[1][v]), xs[1][p])
                u = builder.xor(xs[0][p], weights[0][v])
                count(i, _carry(builder, now[last], u, ones))
                now[last] = ones
        else:
            for half in (0, 1):
                for v, p, i in tile:
                    count(i, builder.xor(xs[half][p], weights[half][v]))
        return now

    return state(state, inputs, types.intp, types.intp), gen


def _differences(builder: Any, state: Any, i: int) -> Any:
    """LLVM value of D of vector i of a folded tile: the count, or 2 * carries + ones left."""
    count = builder.extract_value(state, PER_VECTOR * i)
    if not CARRIES:
        return count
    ones = builder.extract_value(state, PER_VECTOR * (i + 1) - 1)
    return builder.add(builder.add(count, count), popcount_lanes(builder, ones))


@intrinsic
def fold(state: Any) -> tuple[Any, Codegen]:
    """fold(state): the state with the counts of bytes added to those of their lanes."""

    def gen(builder: Any, args: Any) -> Any:
        if WIDE:
            return args[0]
        now = [builder.extract_value(args[0], i) for i in range(state.count)]
        kind = llvm_type(state.dtype)
        for i in range(0, state.count, PER_VECTOR):
            octets = builder.bitcast(now[i + COUNT], ir.VectorType(ir.IntType(8), VECTOR_BYTES))
            more = add_neighbours(builder, add_neighbours(builder, octets))
            now[i], now[i + COUNT] = builder.add(now[i], more), ir.Constant(kind, None)
        return now

    return state(state), gen


@intrinsic
def within(state: Any, thresholds: Any, v: Any) -> tuple[Any, Codegen]:
    """within(state, thresholds, v): for each position a word, bit 16 v + i for channel i: D <=
    threshold.

    thresholds: tuple of addresses of the block's thresholds. v: the first vector of the tile.
    """
    vec = state.dtype

    def gen(builder: Any, args: Any) -> Any:
        i64, words = ir.IntType(64), []
        shift = builder.mul(args[2], ir.Constant(i64, LANES))
        first = builder.mul(args[2], ir.Constant(i64, VECTOR_BYTES))
        for p in range(thresholds.count):
            word = ir.Constant(i64, 0)
            row = builder.add(builder.extract_value(args[1], p), first)
            for i in range(VECTORS):
                threshold = load_at(builder, vec, offset_by(builder, row, i * VECTOR_BYTES))
                count = _differences(builder, args[0], p * VECTORS + i)
                bits = builder.icmp_signed("<=", count, threshold)
                piece = builder.zext(builder.bitcast(bits, ir.IntType(LANES)), i64)
                word = builder.or_(word, builder.shl(piece, ir.Constant(i64, LANES * i)))
            words.append(builder.shl(word, shift))
        return words

    return types.UniTuple(types.uint64, thresholds.count)(state, thresholds, types.intp), gen


@intrinsic
def store_sums(address: Any, state: Any, bases: Any, v: Any) -> tuple[Any, Codegen]:
    """store_sums(address, state, bases, v): base - 2 * D of each position, a row of 64 int32 sums
    each.

    bases: tuple of addresses of the block's numbers. v: the first vector of the tile.
    """
    vec = state.dtype

    def gen(builder: Any, args: Any) -> None:
        first = builder.mul(args[3], ir.Constant(ir.IntType(64), VECTOR_BYTES))
        for p in range(bases.count):
            base_row = builder.add(builder.extract_value(args[2], p), first)
            sum_row = builder.add(offset_by(builder, args[0], p * BLOCK * 4), first)
            for i in range(VECTORS):
                count = _differences(builder, args[1], p * VECTORS + i)
                base = load_at(builder, vec, offset_by(builder, base_row, i * VECTOR_BYTES))
                sums = builder.sub(base, builder.add(count, count))
                target = offset_by(builder, sum_row, i * VECTOR_BYTES)
                builder.store(sums, at(builder, target, llvm_type(vec)), align=4)

    return types.void(types.intp, state, bases, types.intp), gen
