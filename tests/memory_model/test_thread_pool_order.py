"""The thread pool's claim protocol in all interleavings of two and three threads, and broken on
purpose. What this proves: docs/decisions/2026-11-28-memory-order.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from explore import Model, Run, ViolationError
from programs import accesses

from bwn.kernels.simd.atomics import add, read, replace, write
from bwn.kernels.target.jit import OPTIONS, SIGNATURE

SPLIT, ALONE = (2, 1), (1, 1)
"""A step of two units that threads share, and one that is not split."""


@pytest.mark.parametrize(
    ("callers", "workers"),
    [
        pytest.param([[(SPLIT, ALONE, SPLIT), (SPLIT,)]], 1, id="two runs, one worker"),
        pytest.param([[(SPLIT, SPLIT)]], 2, id="two steps, two workers"),
        pytest.param([[(SPLIT,)], [(SPLIT,)]], 1, id="two callers, one worker"),
        pytest.param([[((4, 0),)]], 1, id="four units, one worker"),
    ],
)
def test_every_interleaving(callers: list[list[Run]], workers: int) -> None:
    model = Model(callers, workers)
    assert model.explore() > 2000
    assert not model.races, "a plain access races"


def changed(old: str, new: str) -> Callable[[str], str]:
    """An edit of the source that must apply once."""

    def edit(source: str) -> str:
        assert source.count(old) == 1, old
        return source.replace(old, new)

    return edit


CALL = "        call(f.entry, f.params, f.units - left, f.units - left + count, part)\n"
DONE = "        add(state + UNFINISHED, -count)\n"
COUNT = "    write(state + UNFINISHED, f.units)\n"
ANNOUNCE = "    write(state + TICKET, (threads << (UNIT_BITS + STEP_BITS)) | (index << UNIT_BITS) | f.units)\n"
ROW = "        index = (ticket >> UNIT_BITS) & ((1 << STEP_BITS) - 1)\n        f = step_params(get_i64(state + TABLE, 0) + index * STEP_BYTES)\n"
CLAIM = "    if replace(state + TICKET, ticket, ticket - count):\n"
BROKEN = {
    "units are counted as finished before they are": changed(CALL + DONE, DONE + CALL),
    "a step is announced before its units are counted": changed(COUNT + ANNOUNCE, ANNOUNCE + COUNT),
    "the leader does not wait": changed("while read(state + UNFINISHED) > 0:", "while False:"),
    "units are taken by a write": changed(
        CLAIM, "    write(state + TICKET, ticket - count)\n    if True:\n"
    ),
    "the table is read before units are claimed": changed(
        CLAIM + "        # Only from here on, and until these units are finished, the step and the table are kept.\n" + ROW,
        ROW.replace("        ", "    ") + CLAIM,
    ),
    "units are never counted as finished": changed(DONE, ""),
    "two callers take the pool": changed("replace(r.state + BUSY, 0, part)", "True"),
    "the pool is given back before the run has ended": changed(
        "    for index in range(begin, end):\n", "    write(r.state + BUSY, 0)\n    for index in range(begin, end):\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_protocol_is_found(name: str) -> None:
    with pytest.raises(ViolationError):
        explore_all(BROKEN[name])


def explore_all(edit: Callable[[str], str]) -> None:
    """One caller with two runs, then two callers."""
    for callers in ([[(SPLIT, SPLIT), (SPLIT,)]], [[(SPLIT,)], [(SPLIT,)]]):
        model = Model(callers, 1, edit)
        model.explore()
        if model.races:
            raise ViolationError(f"races: {model.races}")


@pytest.mark.parametrize("operation", ["add", "read", "write", "replace"])
def test_an_operation_without_order_is_found(operation: str) -> None:
    model = Model([[(SPLIT, SPLIT), (SPLIT,)]], 1, relaxed=frozenset({operation}))
    with pytest.raises(ViolationError):
        model.explore()


def test_every_shared_word_but_one_is_accessed_atomically() -> None:
    # The model reads the operations from the source; this says what they are today.
    plain = {
        (name, operation, word)
        for name in ("take", "lead", "run", "work")
        for operation, word in accesses(name)
        if operation in ("get_i64", "put_i64") and word
    }
    assert plain == {
        ("take", "get_i64", "TABLE"),
        ("run", "put_i64", "TABLE"),
    }


def test_compiled_atomics_are_sequentially_consistent() -> None:
    @numba.cfunc(SIGNATURE, **OPTIONS)
    def each(p, begin, end, part):
        if replace(p, begin, end):
            write(p, add(p + 128, part) + read(p + 256))

    lines = re.findall(
        r"^.*(?:load atomic|store atomic|cmpxchg|atomicrmw).*$", each.inspect_llvm(), re.MULTILINE
    )
    assert len(lines) == 4
    assert all("seq_cst" in line and "monotonic" not in line for line in lines)
