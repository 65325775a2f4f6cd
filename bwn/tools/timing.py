"""How every speed in this project is measured: contenders interleaved in turns.

A turn is a few calls of one contender. Its first call is not counted: threads of the contender
before it may still spin, and its own data has left the caches. The time of a turn is the median of
its counted calls, that of a contender the median of its turns, so that a short interruption of the
machine does not show. Two contenders are compared within each round of turns, where they ran next
to each other, and the ratio reported is the median over the rounds: a machine that slows down slows
both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import NamedTuple, TypeVar

WARM_UP_SECONDS = 0.3
"""Calls of each contender before anything is counted."""
TURN_SECONDS = 0.04
"""Counted calls of a turn, at least one."""
MIN_TURNS = 5

Contender = TypeVar("Contender", bound=Hashable)


class Timing(NamedTuple):
    """Times of one contender.

    Attributes:
        turns: Seconds of one call, the median of each turn.
        minimum: Seconds of the fastest counted call.
        calls: Number of counted calls.
    """

    turns: tuple[float, ...]
    minimum: float
    calls: int

    @property
    def median(self) -> float:
        """Seconds of one call: the median of the turns."""
        return median(self.turns)

    def speedup(self, other: Timing) -> float:
        """How many times as fast as `other`, which was timed in the same rounds."""
        return median(b / a for a, b in zip(self.turns, other.turns, strict=True))


def interleave(
    calls: Mapping[Contender, Callable[[], object]],
    seconds: float,
    *,
    turn_seconds: float = TURN_SECONDS,
    warm_up_seconds: float = WARM_UP_SECONDS,
    progress: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Contender, Timing]:
    """Time contenders in turns.

    Args:
        calls: What to call, by contender.
        seconds: Time for all contenders together, warm-up not included. Rounds of turns begin
            until it is over, and at least `MIN_TURNS` do.
        turn_seconds: Time for the counted calls of a turn.
        warm_up_seconds: Time for the calls of each contender before the first turn, at least one.
        progress: Called after each round with the share that is done, 0 to 1.
        clock: Gives the time in seconds.

    Returns:
        The times of each contender, in the same number of turns.
    """
    for call in calls.values():
        _call_for(call, warm_up_seconds, clock)
    turns: dict[Contender, list[list[float]]] = {contender: [] for contender in calls}
    rounds, begin = 0, clock()
    while rounds < MIN_TURNS or clock() - begin < seconds:
        for contender, call in calls.items():
            call()
            turns[contender].append(_call_for(call, turn_seconds, clock))
        rounds += 1
        if progress is not None:
            elapsed = (clock() - begin) / seconds if seconds > 0 else 1.0
            progress(min(1.0, elapsed, rounds / MIN_TURNS))
    return {contender: _summary(times) for contender, times in turns.items()}


def _call_for(
    call: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> list[float]:
    """Seconds of calls that begin until `seconds` are over; at least one."""
    times: list[float] = []
    start = begin = clock()
    while not times or start - begin < seconds:
        call()
        times.append(clock() - start)
        start = clock()
    return times


def _summary(turns: list[list[float]]) -> Timing:
    return Timing(tuple(map(median, turns)), min(map(min, turns)), sum(map(len, turns)))
