"""A tile of packed signs: two positions by vectors of output channels, and how often their bits differ.

What is counted, and in which form words are stored, is said in `xnor.py`. Here are the operations: one pair of words
more, and what the counts become.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from bwn.kernels.simd.neon import add_neighbours, hidden
from bwn.kernels.simd.vectors import I32, Codegen, at, llvm_type, load_at, splat_value
from bwn.kernels.simd.widths import BLOCK, BLOCK_VECTORS, CARRIES, LANES, VECTOR_BYTES
from bwn.kernels.target.cpu import features
from bwn.kernels.target.jit import intrinsic

VECTORS = BLOCK_VECTORS if "avx512f" in features() else 2 if "neon" in features() else 1
"""Vectors of channels that are counted at a time, for two positions: their states stay in registers."""
WIDE = "avx512vpopcntdq" in features()
"""Whether the CPU counts bits by lanes of 32; else bytes are counted, and folded into lanes before they overflow."""
MOST_PAIRS = 255 // 8 if CARRIES else 255 // 16
"""Pairs whose bits bytes can count before `fold`."""
COUNT = 0 if WIDE else 1
PER_VECTOR = COUNT + 1 + CARRIES
"""Vectors of state: the count by lanes; before it is folded into that, the one by bytes; the running ones, last."""
PAIR_BYTES = 2 * BLOCK_VECTORS * VECTOR_BYTES
"""Weights of one pair of words of a block."""


def _ternary(builder: Any, table: int, a: Any, b: Any, c: Any) -> Any:
    """One operation of three operands: bit 4a + 2b + c of `table`."""
    kind = a.type
    number = ir.IntType(32)
    name = "llvm.x86.avx512.pternlog.d.512"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, (kind, kind, kind, number)), name
    )
    return builder.call(function, (a, b, c, ir.Constant(number, table)))


def _carry(builder: Any, ones: Any, u: Any, after: Any) -> Any:
    """The carry of s + u + v: s where s = u, else not s'."""
    if "avx512f" in features():
        return _ternary(builder, 0xD4, ones, u, after)
    return builder.xor(ones, builder.and_(builder.xor(ones, u), builder.xor(u, after)))


def _add_count(builder: Any, counts: Any, value: Any) -> Any:
    """Counts plus the bits of `value`, in lanes or in bytes."""
    if WIDE:
        return builder.add(counts, _count(builder, value))
    octets = ir.VectorType(ir.IntType(8), VECTOR_BYTES)
    more = builder.add(
        builder.bitcast(counts, octets), _count(builder, builder.bitcast(value, octets))
    )
    return builder.bitcast(hidden(builder, more), counts.type)


def _count(builder: Any, value: Any) -> Any:
    kind = value.type
    name = f"llvm.ctpop.v{kind.count}i{kind.element.width}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, (kind,)), name)
    return builder.call(function, (value,))


@intrinsic
def no_differences(_: Any, places: Any) -> tuple[Any, Codegen]:
    """no_differences(places): the state of a tile before the first pair."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(sig.return_type), None)

    return types.UniTuple(I32.dtype, PER_VECTOR * places.count * VECTORS)(places), gen


@intrinsic
def count_pair(_: Any, state: Any, places: Any, offset: Any, words: Any) -> tuple[Any, Codegen]:
    """count_pair(state, places, offset, words): the state with one pair of each place added.

    state: for each place and vector of channels PER_VECTOR vectors. places: tuple of addresses
    of activations, the pair lies `offset` bytes further. words: address of the pair's weights.
    """
    vec = state.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        now = [builder.extract_value(args[0], i) for i in range(state.count)]
        i64 = ir.IntType(64)

        def input_of(p: int, half: int) -> Any:
            start = builder.add(args[2], ir.Constant(i64, half * 4))
            where = at(
                builder, builder.add(builder.extract_value(args[1], p), start), ir.IntType(32)
            )
            return splat_value(builder, vec, builder.load(where, align=4))

        def weights_of(v: int, half: int) -> Any:
            return load_at(
                builder,
                vec,
                builder.add(args[3], ir.Constant(i64, (half * BLOCK_VECTORS + v) * VECTOR_BYTES)),
            )

        def count(i: int, word: Any) -> None:
            now[i + COUNT] = _add_count(builder, now[i + COUNT], word)

        tile = [
            (v, p, PER_VECTOR * (p * VECTORS + v))
            for v in range(VECTORS)
            for p in range(places.count)
        ]
        inputs = [[input_of(p, half) for p in range(places.count)] for half in (0, 1)]
        weights = [[weights_of(v, half) for v in range(VECTORS)] for half in (0, 1)]
        if CARRIES:
            for v, p, i in tile:
                last = i + PER_VECTOR - 1
                ones = builder.xor(builder.xor(now[last], weights[1][v]), inputs[1][p])
                count(i, _carry(builder, now[last], builder.xor(inputs[0][p], weights[0][v]), ones))
                now[last] = ones
        else:
            for half in (0, 1):
                for v, p, i in tile:
                    count(i, builder.xor(inputs[half][p], weights[half][v]))
        return context.make_tuple(builder, sig.return_type, now)

    return state(state, places, types.intp, types.intp), gen


def _differences(builder: Any, state: Any, i: int) -> Any:
    """How many bits differ, of vector i of a folded tile: the count, or 2 * carries + ones that are left."""
    count = builder.extract_value(state, PER_VECTOR * i)
    if not CARRIES:
        return count
    ones = builder.extract_value(state, PER_VECTOR * (i + 1) - 1)
    return builder.add(builder.add(count, count), _count(builder, ones))


@intrinsic
def fold(_: Any, state: Any) -> tuple[Any, Codegen]:
    """fold(state): the state with the counts of bytes added to those of their lanes."""

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if WIDE:
            return args[0]
        now = [builder.extract_value(args[0], i) for i in range(state.count)]
        kind = llvm_type(state.dtype)
        for i in range(0, state.count, PER_VECTOR):
            octets = builder.bitcast(now[i + COUNT], ir.VectorType(ir.IntType(8), VECTOR_BYTES))
            more = add_neighbours(builder, add_neighbours(builder, octets))
            now[i], now[i + COUNT] = builder.add(now[i], more), ir.Constant(kind, None)
        return context.make_tuple(builder, sig.return_type, now)

    return state(state), gen


@intrinsic
def within(_: Any, state: Any, limits: Any, v: Any) -> tuple[Any, Codegen]:
    """within(state, limits, v): for each place a word, bit 16 v + i for channel i: whether it differs no oftener than
    its limit. limits: tuple of addresses of the block's limits. v: the first vector of the tile."""
    vec = state.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i64, words = ir.IntType(64), []
        shift = builder.mul(args[2], ir.Constant(i64, LANES))
        for p in range(limits.count):
            word = ir.Constant(i64, 0)
            start = builder.add(
                builder.extract_value(args[1], p),
                builder.mul(args[2], ir.Constant(i64, VECTOR_BYTES)),
            )
            for i in range(VECTORS):
                limit = load_at(
                    builder, vec, builder.add(start, ir.Constant(i64, i * VECTOR_BYTES))
                )
                bits = builder.icmp_signed(
                    "<=", _differences(builder, args[0], p * VECTORS + i), limit
                )
                piece = builder.zext(builder.bitcast(bits, ir.IntType(LANES)), i64)
                word = builder.or_(word, builder.shl(piece, ir.Constant(i64, LANES * i)))
            words.append(builder.shl(word, shift))
        return context.make_tuple(builder, sig.return_type, words)

    return types.UniTuple(types.uint64, limits.count)(state, limits, types.intp), gen


@intrinsic
def store_sums(_: Any, address: Any, state: Any, bases: Any, v: Any) -> tuple[Any, Codegen]:
    """store_sums(address, state, bases, v): base - 2 * D of each place, a row of the block's int32 sums each."""
    vec = state.dtype

    def gen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        first = builder.mul(args[3], ir.Constant(i64, VECTOR_BYTES))
        for p in range(bases.count):
            start = builder.add(builder.extract_value(args[2], p), first)
            row = builder.add(builder.add(args[0], ir.Constant(i64, p * BLOCK * 4)), first)
            for i in range(VECTORS):
                step = ir.Constant(i64, i * VECTOR_BYTES)
                differ = _differences(builder, args[1], p * VECTORS + i)
                sums = builder.sub(
                    load_at(builder, vec, builder.add(start, step)), builder.add(differ, differ)
                )
                builder.store(sums, at(builder, builder.add(row, step), llvm_type(vec)), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, state, bases, types.intp), gen
