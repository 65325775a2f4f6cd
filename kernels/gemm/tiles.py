"""Tiles of GEMM kernels and the scratch that they need. Nothing here needs a compiler."""

from __future__ import annotations

from typing import Literal

from bwn.kernels.simd.widths import BLOCK, LANES, VECTOR_BYTES
from bwn.kernels.target.cpu import features

CHANNELS = 8 if "avx512f" in features() else 4
"""Output channels at a time: as many as leave room for one loaded entry."""

GROUP = 4
"""Inputs of a table of `lut.py`."""
ENTRIES = 1 << GROUP
TABLE_BYTES = ENTRIES * VECTOR_BYTES
WORD_GROUPS = 64 // GROUP
WORD_BYTES = WORD_GROUPS * TABLE_BYTES
MAX_WORDS = 2
"""Words whose tables are kept at once: 32 KiB of tables."""

# Registers for the sums: 16 of AVX-512's 32, 12 of AVX2's 16, 20 of NEON's 32, where inputs take 4
# and weights 5. With one vector of AVX-512, loads bound the tile, not multiplications.
_NARROW = (6, 1) if "avx2" in features() else (5, 1) if "neon" in features() else (4, 1)
MULTIPLY = (8, 2) if "avx512f" in features() else _NARROW
"""Channels and vectors of positions of a tile of `f32.py`."""
MULTIPLY_SIGNS = (8, 2) if "avx512f" in features() else (4, 1)
"""Of `f32_to_bits.py`; channels divide 32."""

Form = Literal["vpdpbusd", "sdot", "smlal", "vpmaddubsw", "portable"]
"""How four products of bytes are added up: by one instruction of x86 or of ARM, by several of NEON
or of AVX2, or by those that every machine has."""


def dots_form() -> Form:
    """The form of the CPU that kernels are compiled for."""
    if not features().isdisjoint({"avx512vnni", "avxvnni"}):
        return "vpdpbusd"
    if "neon" in features():
        return "sdot" if "dotprod" in features() else "smlal"
    return "vpmaddubsw" if "avx2" in features() else "portable"


_TILES: dict[Form, tuple[int, int]] = {
    "vpdpbusd": (8, 2) if "avx512vnni" in features() else (6, 1),
    "sdot": (5, 1),
    "smlal": (4, 1),
    "vpmaddubsw": (4, 1),
    "portable": (2, 1),
}
DOTS = _TILES[dots_form()]
"""Channels and vectors of positions of a tile of `i8.py`."""
DOTS_COLUMN = DOTS[1] * LANES
"""Positions of a tile of it."""
DOTS_CHUNK_BYTES = 1 << 17
"""Of the inputs that `i8.py` interleaves at once: a part of a second-level cache."""
AMX_ROWS, AMX_STEP = 16, 64
"""Channels and inputs of a tile of weights of `amx.py`."""
AMX_BLOCKS, AMX_VECTORS = 2, 2
"""Tiles of channels and vectors of positions that it sums at once."""
AMX_COLUMN = AMX_VECTORS * LANES
AMX_CHUNK_BYTES = 1 << 19
"""Of the inputs that it interleaves at once: bits become bytes for all of them."""
DEPTHWISE_CHUNK = 1024
"""Positions whose sums `depthwise.py` keeps at once, where more than scale and bias ends them."""

RUN_FIELDS, RUNS_STEP = 5, 64
"""int64 of a run of inputs of `depthwise_dots.py`: offset, the inputs from there on; its positions
at a time."""


def lookup_scratch(outputs: int, depth: int) -> int:
    """Bytes a part needs: the tables of two words, and up to 128 bytes of totals a row."""
    return MAX_WORDS * WORD_BYTES + outputs * 2 * VECTOR_BYTES


def multiply_scratch(outputs: int, depth: int) -> int:
    """Bytes a part needs: the sums of a tile."""
    return MULTIPLY[0] * MULTIPLY[1] * VECTOR_BYTES


def dots_scratch(outputs: int, depth: int) -> int:
    """Bytes a part needs: the sums of a tile, a line, the bytes of its weights, and inputs."""
    row_bytes = (depth + 63) // 64 * 64 + VECTOR_BYTES
    inputs = max(DOTS_CHUNK_BYTES, (depth + 3) // 4 * 4 * DOTS_COLUMN)
    return (DOTS[0] * DOTS[1] + 1) * VECTOR_BYTES + DOTS[0] * row_bytes + inputs


def amx_scratch(outputs: int, depth: int) -> int:
    """Bytes a part needs: the sums of a step, what they start at, bytes of weights, and inputs."""
    channels = AMX_BLOCKS * AMX_ROWS
    padded = (depth + AMX_STEP - 1) // AMX_STEP * AMX_STEP
    inputs = max(AMX_CHUNK_BYTES, padded * AMX_COLUMN)
    return (channels * AMX_VECTORS + 2) * VECTOR_BYTES + channels * (padded + VECTOR_BYTES) + inputs


def depthwise_scratch(outputs: int, depth: int) -> int:
    """Bytes a part needs: the sums of a chunk of positions."""
    return DEPTHWISE_CHUNK * 4


def runs_scratch(outputs: int, depth: int) -> int:
    """Bytes a part needs: the sums of a step, the runs, and their weights."""
    return RUNS_STEP * 4 + depth * (RUN_FIELDS * 8 + 4)


def strided_scratch(positions: int) -> int:
    """Bytes a part needs: the sums of a plane, of whole vectors from the last row's start on."""
    return (positions + 2 * LANES) * 4


def strided_runs_scratch(positions: int, depth: int) -> int:
    """Bytes a part needs: the same sums, the runs, and their weights."""
    return strided_scratch(positions) + depth * (RUN_FIELDS * 8 + 4)


def single_scratch(outputs: int, depth: int) -> int:
    """Bytes a part needs: the gathered inputs."""
    return (depth + 63) // 64 * 64 * 4


def multiply_signs_scratch() -> int:
    """Bytes a part needs: the words of a tile's positions."""
    return MULTIPLY_SIGNS[1] * LANES * 8


def bitpacked_scratch() -> int:
    """Bytes a part needs to pack or unpack planes: the words of 16 positions."""
    return LANES * 8


def xnor_scratch() -> int:
    """Bytes a part needs to write planes: the sums of 16 positions of a block, twice."""
    return 2 * LANES * BLOCK * 4
