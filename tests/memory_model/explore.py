"""All interleavings of a few threads that run the thread pool's code, and what must hold in each.

A state is where every thread is, the words in memory, and, for the order that the C11 and LLVM
memory models call happens-before, which events each thread knows of: an atomic write publishes what
its thread knows, an atomic read learns what was published. Non-atomic accesses and kernels are
events; each may only happen where its thread knows of those that it depends on. Where that holds in
every interleaving there is no data race, and then the two models allow no other behavior, however
weak the machine's memory is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from programs import PLAIN, Event, Program, programs

from bwn.kernels.threads.shared_state import (
    BUSY,
    MIN_UNITS,
    STEP_BYTES,
    STOP,
    TABLE,
    TICKET,
    UNFINISHED,
    RunParams,
    StepParams,
)

WORDS = {
    TICKET: "TICKET",
    UNFINISHED: "UNFINISHED",
    BUSY: "BUSY",
    STOP: "STOP",
    TABLE: "TABLE",
    MIN_UNITS: "MIN_UNITS",
}
TABLES = 1 << 20
"""Address of the first run's table and, divided by it, the number of the run."""

Known = frozenset[tuple[Any, ...]]
Run = tuple[tuple[int, int], ...]
"""(units, min_units) of each step."""


class ViolationError(AssertionError):
    """Something that must hold does not, in some interleaving."""


class State(NamedTuple):
    """Attributes: threads: index of local state; memory: words; known: of each thread;
    published: by each word; happened: all events."""

    threads: tuple[int, ...]
    memory: tuple[tuple[int, int], ...]
    known: tuple[Known, ...]
    published: tuple[tuple[int, Known], ...]
    happened: Known


class Thread:
    """A thread as an automaton: local states, found by replaying the values that it received."""

    def __init__(self, start: Callable[[], Program]) -> None:
        self.start = start
        self.histories: list[tuple[Any, ...]] = []
        self.events: list[Event | None] = []
        self._ids: dict[object, int] = {}
        self.after = cache(self._after)
        self.first = self._enter(())

    def _enter(self, history: tuple[Any, ...]) -> int:
        program, event = self.start(), None
        try:
            event = next(program)
            for value in history:
                event = program.send(value)
            frames: list[object] = [event]
            inner: Any = program  # `program` stays alive: without it the inner ones would end
            while inner is not None:
                frame = inner.gi_frame
                local = tuple(sorted(frame.f_locals.items(), key=str))
                frames += [frame.f_code.co_name, frame.f_lasti, local]
                inner = inner.gi_yieldfrom
            key: object = tuple(frames)
        except StopIteration:
            key, event = "ended", None
        if key not in self._ids:
            self._ids[key] = len(self.events)
            self.histories.append(history)
            self.events.append(event)
        return self._ids[key]

    def _after(self, state: int, value: Any) -> int:
        """The local state after `state` received a value."""
        return self._enter((*self.histories[state], value))


@dataclass(eq=False)
class Model:
    """Callers, each with the runs that it leads, and workers; `relaxed` atomics publish nothing."""

    callers: Sequence[Sequence[Run]]
    workers: int
    edit: Callable[[str], str] = str
    relaxed: frozenset[str] = frozenset()
    races: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.code = programs(self.edit)
        self.runs = [run for caller in self.callers for run in caller]
        numbers = iter(range(1, len(self.runs) + 1))
        leads = [tuple(next(numbers) for _ in caller) for caller in self.callers]
        self.threads = [Thread(lambda own=own: self.caller(own)) for own in leads]
        for part in range(1, self.workers + 1):
            self.threads.append(Thread(lambda part=part: self.code["work"](0, 0, 1, part)))

    def caller(self, numbers: Sequence[int]) -> Program:
        """Lead runs; a table is made before its run and freed after it."""
        for number in numbers:
            yield ("begin", number)
            yield from self.code["run"](number, 0, len(self.runs[number - 1]), self.workers + 1)
            yield ("end", number)

    def row(self, address: int) -> StepParams:
        """The row of a table, whose kernel's parameters name its run and step."""
        number, step = address // TABLES, address % TABLES // STEP_BYTES
        return StepParams(0, address, *self.runs[number - 1][step])

    def explore(self) -> int:
        """Visit every state; how many. Raises ViolationError."""
        nothing: Known = frozenset()
        words = tuple((word, 0) for word in sorted(WORDS))
        published = tuple((word, nothing) for word in sorted(WORDS))
        firsts = tuple(thread.first for thread in self.threads)
        start = State(firsts, words, (nothing,) * len(firsts), published, nothing)
        before: dict[State, list[State]] = {start: []}
        ends, waiting = [], [start]
        while waiting:
            state = waiting.pop()
            for after in self.successors(state):
                if after not in before:
                    before[after] = []
                    waiting.append(after)
                before[after].append(state)
            if all(self.event(state, i) is None for i in range(len(self.callers))):
                ends.append(state)
        reached, waiting = set(ends), ends
        while waiting:
            for earlier in before[waiting.pop()]:
                if earlier not in reached:
                    reached.add(earlier)
                    waiting.append(earlier)
        if len(reached) < len(before):
            raise ViolationError("a caller can wait forever")
        return len(before)

    def event(self, state: State, thread: int) -> Event | None:
        """What a thread does next."""
        return self.threads[thread].events[state.threads[thread]]

    def successors(self, state: State) -> list[State]:
        """The states after one event of one thread."""
        found = []
        for thread in range(len(self.threads)):
            event = self.event(state, thread)
            if event is not None:
                kind = "plain" if event[0] in PLAIN else event[0]
                found += getattr(self, f"_{kind}")(state, thread, event)
        return found

    # Events: each gives the states after it

    def _moved(self, state: State, thread: int, value: Any, *, known: Known | None = None,
               word: int = -1, content: int = 0, publish: Known | None = None,
               event: tuple[Any, ...] | None = None) -> State:  # fmt: skip
        """The state where a thread has received a value, and perhaps written a word."""
        threads = list(state.threads)
        threads[thread] = self.threads[thread].after(threads[thread], value)
        memory, published = dict(state.memory), dict(state.published)
        if word >= 0:
            memory[word] = content
        if publish is not None:
            published[word] = publish
        own = state.known[thread] if known is None else known
        happened = state.happened if event is None else state.happened | {event}
        own = own if event is None else own | {event}
        every = (*state.known[:thread], own, *state.known[thread + 1 :])
        return State(
            tuple(threads), tuple(memory.items()), every, tuple(published.items()), happened
        )

    def _learned(self, state: State, thread: int, word: int, operation: str) -> Known:
        if operation in self.relaxed:
            return state.known[thread]
        return state.known[thread] | dict(state.published)[word]

    def _read(self, state: State, thread: int, event: Event) -> list[State]:
        known = self._learned(state, thread, event[1], "read")
        return [self._moved(state, thread, dict(state.memory)[event[1]], known=known)]

    def _write(self, state: State, thread: int, event: Event) -> list[State]:
        word, content = event[1:]
        publish = frozenset() if "write" in self.relaxed else state.known[thread]
        return [self._moved(state, thread, None, word=word, content=content, publish=publish)]

    def _changed(self, state: State, thread: int, operation: str, word: int, content: int,
                 value: Any) -> list[State]:  # fmt: skip
        """A read and a write in one: it learns, and adds to what is published."""
        known = self._learned(state, thread, word, operation)
        publish = dict(state.published)[word] | (
            frozenset() if operation in self.relaxed else known
        )
        return [
            self._moved(
                state, thread, value, known=known, word=word, content=content, publish=publish
            )
        ]

    def _add(self, state: State, thread: int, event: Event) -> list[State]:
        _, word, value = event
        before = dict(state.memory)[word]
        return self._changed(state, thread, "add", word, before + value, before)

    def _replace(self, state: State, thread: int, event: Event) -> list[State]:
        _, word, old, new = event
        if dict(state.memory)[word] != old:
            known = self._learned(state, thread, word, "replace")
            return [self._moved(state, thread, False, known=known)]
        return self._changed(state, thread, "replace", word, new, True)

    def _plain(self, state: State, thread: int, event: Event) -> list[State]:
        operation, address = event[:2]
        if operation == "run_params":
            return [self._moved(state, thread, RunParams(0, address * TABLES, 0))]
        if operation == "step_params":
            number = address // TABLES
            self._depends(state, thread, [("begin", number)], "a row of a table")
            if ("end", number) in state.happened:
                raise ViolationError("a row is read of a table that was freed")
            row = self.row(address)
            return [self._moved(state, thread, row, event=("row", number, thread))]
        word = WORDS[address]
        writes = [e for e in state.happened if e[0] == "put" and e[1] == word]
        reads = [e for e in state.happened if e[0] == "get" and e[1] == word]
        if operation == "put_i64":
            self._races(state, thread, writes + reads, word)
            count = sum(1 for _ in writes)
            return [
                self._moved(state, thread, None, word=address, content=event[3],
                            event=("put", word, count))
            ]  # fmt: skip
        self._races(state, thread, writes, word)
        noted = ("get", word, thread, len(writes))
        return [self._moved(state, thread, dict(state.memory)[address], event=noted)]

    def _races(self, state: State, thread: int, others: list[Any], word: str) -> None:
        if not state.known[thread].issuperset(others):
            self.races.add(word)

    def _depends(self, state: State, thread: int, events: list[Any], what: str) -> None:
        if not state.known[thread].issuperset(events):
            raise ViolationError(f"{what} is used before what it needs has happened for its thread")

    def _call(self, state: State, thread: int, event: Event) -> list[State]:
        _, _, address, begin, end, part = event
        number, step = address // TABLES, address % TABLES // STEP_BYTES
        units = self.runs[number - 1][step][0]
        if not 0 <= begin < end <= units or not 0 <= part <= self.workers:
            raise ViolationError(f"units {begin} to {end} of {units} as part {part}")
        if ("end", number) in state.happened:
            raise ViolationError("a kernel runs after its run")
        done = [("unit", number, step, unit) for unit in range(begin, end)]
        if not state.happened.isdisjoint(done):
            raise ViolationError("a unit is done twice")
        self._depends(state, thread, self._units(number, step - 1), "a step")
        after = state
        for unit in done[:-1]:
            known = (
                *after.known[:thread],
                after.known[thread] | {unit},
                *after.known[thread + 1 :],
            )
            after = after._replace(known=known, happened=after.happened | {unit})
        return [self._moved(after, thread, None, event=done[-1])]

    def _units(self, number: int, step: int) -> list[tuple[Any, ...]]:
        if step < 0:
            return [("begin", number)]
        units = self.runs[number - 1][step][0]
        return [("unit", number, step, unit) for unit in range(units)]

    def _begin(self, state: State, thread: int, event: Event) -> list[State]:
        return [self._moved(state, thread, None, event=event)]

    def _end(self, state: State, thread: int, event: Event) -> list[State]:
        number = event[1]
        for step in range(len(self.runs[number - 1])):
            self._depends(state, thread, self._units(number, step), "the result of a run")
        rows = [e for e in state.happened if e[:2] == ("row", number)]
        self._depends(state, thread, rows, "a table that is freed")
        return [self._moved(state, thread, None, event=event)]
