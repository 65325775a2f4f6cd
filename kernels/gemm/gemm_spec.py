"""What is known of a GEMM kernel without compiling it: what it reads, needs, packs and costs.

The cost of a call on one thread is predicted from four coefficients a kernel and CPU family:

    nanoseconds = call + passes * (K * gather + K * N * sums + N * end)

passes: how often a kernel goes over the rows of a group: once a block of positions, a partly filled
one like a whole one, or once a position where it has no lanes (`GemmSpec.terms`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import mul
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.kernels import bits
from bwn.kernels.gemm.byte_rows import byte_row, pack_byte_rows
from bwn.kernels.gemm.gemm_params import GemmParams, LutPermuteParams, LutWindowParams
from bwn.kernels.gemm.lut_permute_packing import TILE, Layout
from bwn.kernels.gemm.lut_window_packing import Tile
from bwn.kernels.lazy import lazy
from bwn.kernels.simd.widths import LANES
from bwn.kernels.target.kernel import Kernel

Weights = Literal["b1", "i8", "f32"]
"""b1: one bit each. i8: integers within +-127."""
Element = Literal["f32", "i8", "s1"]
"""f32: float32. i8: integers within +-127, as `tensor/elementwise.py` stores 8-bit activations.
s1: int8 that is +-1 or 0."""


class Cost(NamedTuple):
    """Coefficients of one kernel, nanoseconds.

    Attributes:
        call: Of a call.
        gather: Of reading an input, and making what all rows share of it.
        sums: Of what one row does with an input.
        end: Of writing one row's outputs.
    """

    call: float
    gather: float
    sums: float
    end: float


class Work(NamedTuple):
    """Size of a product.

    Attributes:
        depth: K, the inputs of one output.
        outputs: N, the output channels of one group.
        positions: Positions of an image, the slack of its rows included.
        values: Positions of an image that are outputs.
        images: Images of the batch.
        groups: Groups of channels.
        taps: Taps of the window.
        height: Rows of an image's outputs.
        rectangles: Rows and columns of the rectangles of taps that lie side by side.
        phases: Phases of the stride that the taps read.
    """

    depth: int
    outputs: int
    positions: int
    values: int
    images: int = 1
    groups: int = 1
    taps: int = 1
    height: int = 1
    rectangles: tuple[tuple[int, int], ...] = ((1, 1),)
    phases: int = 1


class GemmSpec(Kernel, frozen=True, eq=False, kw_only=True):
    """A kernel of sums of products.

    Attributes:
        activations: What it reads.
        weights: What it reads.
        needs: CPU features of which it needs one; none where it runs everywhere.
        max_depth: Largest K whose sums cannot overflow.
        lanes: Positions of a block, 0 where it goes position by position.
        costs: Its cost by family of CPUs (`target.cpu.family`).
    """

    activations: Element
    weights: Weights
    max_depth: int
    lanes: int
    costs: Mapping[str, Cost]
    needs: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether sums are integers: bit-equal in every kernel and on every machine."""
        return self.activations != "f32"

    @property
    def table_bytes(self) -> int:
        """Bytes of a table that is to stay in the L1 data cache."""
        return 0

    @lazy
    def variant(self) -> str:
        """The last part of its name: what tells it from the others of its types."""
        return self.name.rpartition("_")[2]

    def runs_on(self, features: frozenset[str]) -> bool:
        """Whether a CPU with these features has the instructions that the kernel is written in."""
        return not self.needs or not features.isdisjoint(self.needs)

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """How often each coefficient of its `Cost` counts on one thread."""
        raise NotImplementedError(self.name)

    def microseconds(self, work: Work, cost: Cost) -> float:
        """Predicted time on one thread."""
        return sum(map(mul, cost, self.terms(work))) / 1000


class Packing(NamedTuple):
    """How weights are packed for a kernel.

    Attributes:
        pack: Rows of weights as the model stores them, (N, row), as the kernel reads them.
        row_words: Length of a stored row to the parameter `row_words`.
        unpacks: Whether a one-bit weight becomes a number of its own.
    """

    pack: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    row_words: Callable[[int], int] = int
    unpacks: bool = False


def signs_of(words: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Packed signs as int8 +-1, 64 of each word."""
    return bits.unpack(words, bits.WORD * words.shape[1])


def signs_in(words: int) -> int:
    """Signs of so many words."""
    return bits.WORD * words


STORED = Packing(lambda weights: weights)
FLOATS = Packing(lambda words: signs_of(words).astype(np.float32), signs_in, unpacks=True)
BYTES = Packing(signs_of, signs_in, unpacks=True)
BYTE_ROWS = Packing(pack_byte_rows, byte_row)


class IndirectGemm(GemmSpec, frozen=True, eq=False, kw_only=True):
    """A GEMM over planes at offsets, with GemmParams.

    A unit of work is a block of positions of one group of one image; an output channel where there
    are no lanes.

    Attributes:
        scratch: (outputs of a group, K) to the bytes of scratch that a part needs.
        packing: How it reads weights.
        tile: Output channels that it sums at once; fewer take as long.
    """

    params: Any = GemmParams
    scratch: Callable[[int, int], int]
    packing: Packing = STORED
    tile: int = 1

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """A pass is a block of positions, or one position where there are no lanes."""
        passes = -(-work.positions // self.lanes) if self.lanes else work.values
        passes *= work.images * work.groups
        words = self.weights == "b1" and not self.packing.unpacks
        depth = -(-work.depth // 64) * 64 if words else work.depth
        outputs = -(-work.outputs // self.tile) * self.tile
        return 1.0, passes * depth, passes * depth * outputs, passes * work.outputs


class DotGemm(IndirectGemm, frozen=True, eq=False, kw_only=True):
    """A GEMM by dot products of bytes; outputs go one by one where they do not fill a tile.

    Attributes:
        step: Inputs that it takes at once.
    """

    step: int = 4

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """A pass is a column of positions, or the part of one that whole vectors fill.

        Inputs go by steps.
        """
        passes = -(-work.positions // LANES) * LANES / self.lanes * work.images * work.groups
        depth, tiles = -(-work.depth // self.step) * self.step, -(-work.outputs // self.tile)
        outputs = tiles * self.tile if work.outputs >= self.tile else work.outputs
        return 1.0, passes * depth, passes * depth * outputs, passes * work.outputs


class RunsGemm(IndirectGemm, frozen=True, eq=False, kw_only=True):
    """A GEMM by runs of neighboring inputs.

    Attributes:
        step: Positions at a time.
    """

    step: int

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """A pass is a step of an output channel.

        gather: of the weights of a run of a channel. sums: of a run in a pass.
        """
        runs = work.depth // work.taps * sum(rows for rows, _columns in work.rectangles)
        channels = work.images * work.groups * work.outputs
        passes = -(-work.positions // self.step) * channels
        return 1.0, channels * runs, passes * runs, passes


class LutPermuteGemm(GemmSpec, frozen=True, eq=False, kw_only=True):
    """A GEMM by tables in registers, with LutPermuteParams.

    Attributes:
        layout: How its weights are packed.
    """

    params: Any = LutPermuteParams
    layout: Layout

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """A pass is a position; a table serves all taps of a phase, outputs go by whole vectors.

        Outputs of 16 positions are written together, fewer in as much time.
        """
        batch = work.images * work.groups
        passes, written = (-(-work.positions // lanes) * lanes * batch for lanes in (TILE, LANES))
        channels = work.depth // work.taps
        tables = -(-channels // self.layout.group) * self.layout.group
        outputs = self.layout.vectors(work.outputs) * self.layout.lanes
        sums = passes * tables * work.taps * outputs
        return 1.0, passes * tables * work.phases, sums, written * work.outputs


class LutWindowGemm(GemmSpec, frozen=True, eq=False, kw_only=True):
    """A GEMM by tables that are shared by the taps of a window, with LutWindowParams.

    Attributes:
        tile: How its weights are packed and how much it does at once.
    """

    params: Any = LutWindowParams
    tile: Tile

    @property
    def table_bytes(self) -> int:
        """Bytes of the table of a group of channels."""
        return self.tile.table_bytes

    def terms(self, work: Work) -> tuple[float, float, float, float]:
        """A pass is a tile.

        gather: of a register of a table. sums: of a lookup, and of a word of indices, which takes
        as long. end: of the outputs of a tile.
        """
        tile, channels = self.tile, work.depth // work.taps
        tiles = tile.tiles(work.images, work.height, work.values // work.height) * work.groups
        registers = lookups = 0
        for y, x in work.rectangles:
            tables, reads = -(-channels // tile.step(y, x)), tile.reads(y, x)
            columns = tile.columns + max(column for _, column in reads)
            registers += tables * (tile.rows + y - 1) * columns
            lookups += tables * (len(reads) + 1)
        return 1.0, tiles * registers, tiles * lookups * work.outputs, tiles * work.outputs
