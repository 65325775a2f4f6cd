"""A fork at any moment: the child loads, plans, compiles and runs, whatever other threads did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from functools import cached_property  # noqa: TID251  # what must not be used
from pathlib import Path

import numpy as np
import pytest
from graphs import floats, legal_graph

from bwn import Model
from bwn.format.writer import to_bytes
from bwn.ir.graph import Graph
from bwn.ir.model_spec import ModelSpec
from bwn.kernels.lazy import lazy
from bwn.kernels.target import forks, loader
from bwn.ops.dense import Dense
from bwn.plan.gemm_layer import Gemm
from bwn.plan.tensor_forms import TensorForms
from bwn.tools.random_networks import NETWORKS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKS = 40
SECONDS = 30

LOOP = """
import os, random, signal, sys, threading, time
import numpy as np
import bwn
data = open(sys.argv[1], "rb").read()
x = np.random.default_rng(0).standard_normal((9, 1, 28, 28)).astype(np.float32)
model = bwn.load(data, threads=2)
expected = model.run(x)
stop = threading.Event()
def runs():
    model.run(x)
    model.run(x[:1])
def loads():
    bwn.load(data)
def plans():
    bwn.load(data, threads=2).run(x[:random.randint(1, 9)])
def traces():
    model.trace(x)
    model.profile(x)
def until_stopped(do):
    while not stop.is_set():
        do()
work = [globals()[name] for name in sys.argv[2].split()]
threads = [threading.Thread(target=until_stopped, args=[do], daemon=True) for do in work]
for thread in threads:
    thread.start()
for turn in range(40):
    time.sleep(random.random() * 0.004)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        right = np.array_equal(model.run(x), expected)
        fresh = bwn.load(data, threads=2)
        right = right and np.array_equal(fresh.run(x), expected) and len(fresh.trace(x[:1])) > 1
        os._exit(0 if right else 1)
    status = os.waitpid(child, 0)[1]
    assert status == 0, (turn, status)
stop.set()
for thread in threads:
    thread.join()
assert np.array_equal(model.run(x), expected)
"""

FIRST_USE = """
import os, signal, sys, threading, time
data, delay = open(sys.argv[1], "rb").read(), float(sys.argv[2])
def use():
    import numpy as np
    import bwn
    model = bwn.load(data, threads=2)
    x = np.ones((2, 1, 28, 28), np.float32)
    return model.run(x)
import bwn.kernels.target.forks  # from here on forks wait
thread = threading.Thread(target=use)
thread.start()
time.sleep(delay)
child = os.fork()
if child == 0:
    signal.alarm(90)
    use()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model file."""
    path = tmp_path / "model.bwn"
    spec = NETWORKS["mlp"](0)
    path.write_bytes(to_bytes(spec))
    return path


def child(*arguments: object, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("work", ["runs", "loads", "plans", "traces", "runs loads plans traces"])
def test_a_child_works_whatever_other_threads_do(file: Path, work: str) -> None:
    child(LOOP, file, work)


@pytest.mark.parametrize("delay", [0.01, 0.1, 0.3, 0.6])
def test_a_fork_in_the_first_imports_does_no_harm(file: Path, delay: float) -> None:
    child(FIRST_USE, file, delay)


@pytest.mark.skipif(loader.library() is not None, reason="a library needs no compiling")
def test_a_fork_while_kernels_are_compiled_does_no_harm(file: Path, tmp_path: Path) -> None:
    child(FIRST_USE, file, 1.5, BWN_KERNELS="jit", BWN_CACHE_DIR=str(tmp_path / "cache"))


def test_no_property_has_a_lock() -> None:
    for owner in (Graph, TensorForms, Gemm):
        computed = [value for value in vars(owner).values() if isinstance(value, lazy)]
        assert computed
        assert not any(isinstance(value, cached_property) for value in vars(owner).values())


def test_a_fork_waits_for_the_import_of_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(0.5); done = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(forks, "PACKAGES", {"slow_to_import"})
    thread = threading.Thread(target=__import__, args=["slow_to_import"])
    thread.start()
    while "slow_to_import" not in sys.modules:
        time.sleep(0.001)
    assert forks.others_import()
    pid = os.fork()
    if pid == 0:
        import slow_to_import  # type: ignore[import-not-found]

        os._exit(0 if slow_to_import.done else 1)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()
    assert not forks.others_import()


def test_a_fork_within_an_import_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import os\npid = os.fork()\nif pid == 0: os._exit(0)\nstatus = os.waitpid(pid, 0)[1]\n"
    (tmp_path / "forks_when_imported.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    start = time.monotonic()
    module = __import__("forks_when_imported")
    assert module.status == 0
    assert time.monotonic() - start < forks.LONGEST / 4


def test_a_fork_does_not_wait_for_imports_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server_in_import.py").write_text("import time; time.sleep(0.5)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    thread = threading.Thread(target=__import__, args=["server_in_import"])
    thread.start()
    while "server_in_import" not in sys.modules:
        time.sleep(0.001)
    assert not forks.others_import()
    thread.join()


def fork() -> int:
    """A fork while threads run, of which newer Pythons warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def exit_code(pid: int) -> int | None:
    """The exit code of a child; None, and the child is ended, where it hangs."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


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
            pid = fork()
            if pid == 0:
                os._exit(0 if np.array_equal(model.run(x), expected) else 1)
            codes.append(exit_code(pid))
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


def test_a_child_has_attributes_that_its_parent_was_computing() -> None:
    entered, leave, free = threading.Event(), threading.Event(), threading.Event()
    free.set()
    slow, other = Slow(entered, leave), Slow(threading.Event(), free)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    entered.wait()
    pid = fork()
    if pid == 0:
        os._exit(0 if other.value == 7 else 1)
    code = exit_code(pid)
    leave.set()
    thread.join()
    assert code == 0
