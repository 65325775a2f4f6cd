"""The process of a run ends in order, also while its input is still open."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from bwn.experiment.worker import Event


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_ends_without_an_error(planned, fails: bool) -> None:
    _, (job,) = planned(epochs=1)
    job = msgspec.structs.replace(job, source="nowhere") if fails else job
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "bwn.experiment.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as worker:  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        worker.stdin.write(msgspec.json.encode(job) + b"\n")
        worker.stdin.flush()
        *_, last = map(msgspec.json.Decoder(Event).decode, worker.stdout)
        errors = worker.stderr.read().decode()
        assert worker.wait() == 0, errors
    assert (last.record is None) == fails
    assert (last.failed is not None) == fails
    assert "Fatal" not in errors
