"""Interleaved timing, by a clock that only the contenders move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat

import pytest

from bwn.tools.timing import MIN_TURNS, Timing, interleave


class FakeClock:
    """A clock that moves when a contender runs, and a record of who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def contender(self, name: str, seconds: Iterable[float]) -> Callable[[], None]:
        """A call that takes the next of `seconds`."""
        durations: Iterator[float] = iter(seconds)

        def call() -> None:
            self.order.append(name)
            self.now += next(durations)

        return call


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_contenders_take_turns_of_a_few_calls(clock: FakeClock) -> None:
    calls = {"a": clock.contender("a", repeat(0.25)), "b": clock.contender("b", repeat(1.0))}
    times = interleave(calls, 0, turn_seconds=0.75, warm_up_seconds=0, clock=clock)
    warm_up, rounds = ["a", "b"], (["a"] * 4 + ["b"] * 2) * MIN_TURNS
    assert clock.order == warm_up + rounds
    assert times == {
        "a": Timing((0.25,) * MIN_TURNS, 0.25, 3 * MIN_TURNS),
        "b": Timing((1.0,) * MIN_TURNS, 1.0, MIN_TURNS),
    }


def test_the_first_call_of_a_turn_and_the_warm_up_are_not_counted(clock: FakeClock) -> None:
    slow_first = [9.0] + [8.0, 1.0] * MIN_TURNS
    times = interleave(
        {"a": clock.contender("a", slow_first)}, 0, turn_seconds=0, warm_up_seconds=0, clock=clock
    )
    assert times["a"] == Timing((1.0,) * MIN_TURNS, 1.0, MIN_TURNS)


def test_a_turn_is_the_median_of_its_calls(clock: FakeClock) -> None:
    durations = [1.0] + [1.0, 1.0, 6.0, 2.0] * MIN_TURNS
    times = interleave(
        {"a": clock.contender("a", durations)}, 0, turn_seconds=9, warm_up_seconds=0, clock=clock
    )
    assert times["a"] == Timing((2.0,) * MIN_TURNS, 1.0, 3 * MIN_TURNS)


def test_each_contender_warms_up_for_a_time(clock: FakeClock) -> None:
    calls = {"a": clock.contender("a", repeat(0.5)), "b": clock.contender("b", repeat(2.0))}
    interleave(calls, 0, turn_seconds=0, warm_up_seconds=1.5, clock=clock)
    assert clock.order[:5] == ["a", "a", "a", "b", "a"]


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, MIN_TURNS), (11.0, MIN_TURNS + 1)])
def test_rounds_end_when_the_time_is_over(clock: FakeClock, seconds: float, rounds: int) -> None:
    times = interleave(
        {"a": clock.contender("a", repeat(1.0))},
        seconds,
        turn_seconds=0,
        warm_up_seconds=0,
        clock=clock,
    )
    assert len(times["a"].turns) == rounds


def test_progress_grows_to_all(clock: FakeClock) -> None:
    shares: list[float] = []
    interleave(
        {"a": clock.contender("a", repeat(1.0))},
        20,
        turn_seconds=0,
        warm_up_seconds=0,
        progress=shares.append,
        clock=clock,
    )
    assert shares == pytest.approx([0.1 * tenth for tenth in range(1, 11)])


def test_progress_waits_for_the_fewest_turns(clock: FakeClock) -> None:
    shares: list[float] = []
    calls = {"a": clock.contender("a", repeat(1.0))}
    interleave(calls, 0, turn_seconds=0, warm_up_seconds=0, progress=shares.append, clock=clock)
    assert shares == [(turn + 1) / MIN_TURNS for turn in range(MIN_TURNS)]


def test_the_speedup_is_the_median_of_the_ratios_within_a_round() -> None:
    ours, theirs = Timing((1.0, 2.0, 4.0), 1.0, 3), Timing((3.0, 4.0, 4.0), 3.0, 3)
    assert ours.median == 2
    assert theirs.median == 4
    assert ours.speedup(theirs) == 2  # of 3, 2 and 1
    assert Timing((1.0, 2.0, 2.0), 1.0, 3).speedup(Timing((3.0, 2.0, 8.0), 2.0, 3)) == 3


def test_a_speedup_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="zip"):
        Timing((1.0,), 1.0, 1).speedup(Timing((1.0, 1.0), 1.0, 2))
