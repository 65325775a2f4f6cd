"""From a plan to the content of a library: an arena without addresses, and constants.

Which words of the parameter blocks are addresses is found by planning twice. Two plans of one graph
differ in nothing but where their memory lies, so the words that differ are the addresses.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Array
from bwn.kernels.aot.c_spec import Layout
from bwn.plan.buffers import GUARD, LINE, round_up
from bwn.plan.builder import PlanBuilder
from bwn.plan.planner import Plan

WORD = 8


class OwnConstants(PlanBuilder):
    """Plans whose constants are copies: another plan of the same graph has none of them."""

    def constant(self, key: Hashable, make: Callable[[], Array]) -> int:
        """A copy of what any plan stores."""
        return super().constant(key, lambda: np.array(make()))


class Span(NamedTuple):
    """Memory of a plan that parameter blocks point into.

    Attributes:
        start: Its address.
        twin: Its address in the other plan.
        size: Bytes.
        own: Whether it is in the arena; else it is a constant.
        place: Offset in the arena, or in the constants.
    """

    start: int
    twin: int
    size: int
    own: bool
    place: int


def lay_out(plan: Plan, twin: Plan, *, inputs: int = 0, outputs: int = 0, work: int = 0) -> Layout:
    """Lay out a plan.

    Args:
        plan: The plan, for one thread.
        twin: A second plan of the same graph. `OwnConstants` has built both.
        inputs: Bytes of the input that the arena has room for.
        outputs: Bytes of the output that the arena has room for.
        work: Least bytes of the memory that is free between runs.
    """
    blocks, twins = (np.concatenate([step.block for step in p.steps]) for p in (plan, twin))
    starts = np.cumsum([0, *(len(step.block) for step in plan.steps)])[:-1]
    image, spans = _with_written(plan, twin, blocks)
    seal = len(image)
    image = np.append(image, 0)
    x = round_up(image.nbytes, LINE)
    scores = x + round_up(inputs, LINE)
    memory = round_up(max(scores + outputs, GUARD), LINE)
    scratch = memory + round_up(plan.memory.nbytes, LINE)
    end = max(scratch + plan.written[0].nbytes, memory + _readable(plan) - GUARD) + GUARD
    constants, fixed_spans = _with_constants(plan, twin)
    spans += fixed_spans
    spans += [
        _span(plan.memory, twin.memory, True, memory, GUARD, _readable(plan)),
        _span(plan.written[0], twin.written[0], True, scratch),
    ]
    own, fixed = _make_relative(image, blocks, twins, sorted(spans))
    words = {name: WORD * _word(plan, starts, name) for name in ("x", "out")}
    return Layout(
        image=image,
        own=np.append(own, np.int32(seal)),
        fixed=fixed,
        constants=constants,
        blocks=tuple(WORD * int(start) for start in starts),
        x_word=words["x"],
        out_word=words["out"],
        seal=WORD * seal,
        x=x,
        scores=scores,
        work=(memory, max(end - memory, work)),
        size=round_up(memory + max(end - memory, work), LINE),
    )


def _readable(plan: Plan) -> int:
    """Bytes from the start of the plan's arena that its kernels may read."""
    base = plan.memory.base
    assert base is not None
    return int(base.nbytes) - GUARD - LINE


def _span(
    array: Array, twin: Array, own: bool, place: int, before: int = 0, size: int | None = None
) -> Span:
    """The span of an array. before: bytes before it, and size: bytes from its start that count."""
    start, other = (int(a.ctypes.data) - before for a in (array, twin))
    size = max(1, array.nbytes) if size is None else size  # an empty array has an address too
    return Span(start, other, before + size, own, place - before)


def _with_written(
    plan: Plan, twin: Plan, blocks: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], list[Span]]:
    """Parameter blocks, then the arrays that a run fills, each on a cache line."""
    image, spans = bytearray(blocks.tobytes()), []
    for array, other in zip(plan.written[1:], twin.written[1:], strict=True):
        image += bytes(-len(image) % LINE)
        spans.append(_span(array, other, True, len(image)))
        image += array.tobytes()
    image += bytes(-len(image) % WORD)
    return np.frombuffer(image, np.int64).copy(), spans


def _with_constants(plan: Plan, twin: Plan) -> tuple[bytes, list[Span]]:
    """All constants, each on a cache line and each content once."""
    content, places, spans = bytearray(), dict[bytes, int](), []
    for array, other in zip(plan.constants, twin.constants, strict=True):
        data = array.tobytes()
        if data != other.tobytes():
            raise RuntimeError("two plans of one graph have different constants")
        if data not in places:
            content += bytes(-len(content) % LINE)
            places[data] = len(content)
            content += data
        spans.append(_span(array, other, False, places[data]))
    return bytes(content), spans


def _make_relative(
    image: npt.NDArray[np.int64],
    blocks: npt.NDArray[np.int64],
    twins: npt.NDArray[np.int64],
    spans: list[Span],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Replace the addresses among the blocks by offsets; which words point into the arena, and
    into the constants."""
    own: list[int] = []
    fixed: list[int] = []
    for index, (word, other) in enumerate(zip(blocks.tolist(), twins.tolist(), strict=True)):
        span = spans[max(0, bisect_right(spans, word, key=lambda span: span.start) - 1)]
        offset = word - span.start
        inside = 0 <= offset < span.size
        if inside != (word != other) or (inside and other - span.twin != offset):
            raise RuntimeError(f"word {index} of the parameter blocks: an unknown address")
        if inside:
            image[index] = span.place + offset
            (own if span.own else fixed).append(index)
    return np.array(own, np.int32), np.array(fixed, np.int32)


def _word(plan: Plan, starts: npt.NDArray[np.int64], name: str) -> int:
    """Index of the word that holds the address of the caller's array."""
    (index,) = (
        int(start + step.kernel.params.fields.index(name))
        for step, start in zip(plan.steps, starts, strict=True)
        if step.external == name
    )
    return index
