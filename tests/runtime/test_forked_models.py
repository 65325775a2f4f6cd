"""Forks while many threads wait for one model: each child has a model that answers."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from graphs import floats, legal_graph

from bwn import Model
from bwn.ir.model_spec import ModelSpec
from bwn.kernels.lazy import lazy
from bwn.ops import Dense

FORKS = 40
SECONDS = 30


def ends(child: int) -> int | None:
    """The exit code of a child; None, and the child is ended, where it hangs."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_answers_however_many_threads_were_waiting() -> None:
    # A thread that has just got the model's lock, and not Python's, holds it though `locked` says no.
    dense = Dense(input="x", output="y", weight="w")
    graph = legal_graph(dense, shape=(400,), w=floats(400, 400))
    model, x = Model(ModelSpec(graph=graph), threads=1), floats(4, 400)
    expected, stop = model.run(x), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            model.run(x)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    codes: list[int | None] = []
    try:
        while len(codes) < FORKS and None not in codes:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # threads and a fork, on purpose
                child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(model.run(x), expected) else 1)
            codes.append(ends(child))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * FORKS


class Slow:
    """Its value takes as long as a test wants."""

    def __init__(self, entered: threading.Event, leave: threading.Event) -> None:
        self.entered, self.leave = entered, leave

    @lazy
    def value(self) -> int:
        self.entered.set()
        self.leave.wait()
        return 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_has_attributes_that_its_parent_was_computing() -> None:
    entered, leave, free = threading.Event(), threading.Event(), threading.Event()
    free.set()
    slow, other = Slow(entered, leave), Slow(threading.Event(), free)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    entered.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if other.value == 7 else 1)
    code = ends(child)
    leave.set()
    thread.join()
    assert code == 0
