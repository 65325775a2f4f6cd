"""Batching, the full queue, the stop, and what is said where something is missing."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from http_service import LISTENING, MODEL, read_answer, running, until

from bwn.cli.main import bwn
from bwn.errors import BwnError
from bwn.model import load

pytest.importorskip("aiohttp", reason="needs aiohttp, the extra serve")

from bwn.serve.batching import Batcher, Limits, batch_sizes
from bwn.serve.prometheus import Metrics


class Held:
    """A model that waits before its first run, and refuses images with a NaN."""

    def __init__(self) -> None:
        self.model, self.go = load(MODEL, threads=1), threading.Event()
        self.spec, self.runs = self.model.spec, list[int]()

    def run(self, x):
        assert self.go.wait(20)
        self.runs.append(len(x))
        return self.model.run(x)


def together(limits: Limits, images: list[bytes]) -> tuple[list[Any], list[int], Metrics]:
    """Classify images that arrive while the first one runs. Returns answers and sizes of runs."""
    model, metrics = Held(), Metrics()

    async def classify() -> list[Any]:
        batcher = Batcher(model, limits, metrics)  # type: ignore[arg-type]
        runs = asyncio.create_task(batcher.run())
        answers = [asyncio.create_task(batcher.classify(images[0], 1))]
        while not batcher._runner._work_queue.qsize() and not batcher._runner._threads:
            await asyncio.sleep(0.001)
        answers += [asyncio.create_task(batcher.classify(image, 2)) for image in images[1:]]
        while batcher._waiting.qsize() < len(images) - 1:
            await asyncio.sleep(0.001)
        model.go.set()
        done = await asyncio.gather(*answers, return_exceptions=True)
        runs.cancel()
        batcher.close()
        return done

    return asyncio.run(classify()), model.runs, metrics


def test_images_that_wait_are_run_together(digits: list[Path]) -> None:
    images = [path.read_bytes() for path in digits]
    answers, runs, metrics = together(Limits(max_batch=8), images)
    assert runs == [1, 8, 8, 2, 1]
    assert (metrics.batches.sum, sum(metrics.batches.counts)) == (20, 5)
    expected = load(MODEL, threads=1).predict(images, top=2, batch_size=1)
    assert [len(answer) for answer in answers] == [1, *[2] * 19]
    for answer, best in zip(answers, expected, strict=True):
        assert [b.label for b in answer] == [b.label for b in best[: len(answer)]]
        assert answer[0].probability == pytest.approx(best[0].probability, abs=1e-6)


def test_one_image_with_infinite_scores_fails_alone(
    monkeypatch: pytest.MonkeyPatch, digits: list[Path]
) -> None:
    from bwn.serve import batching

    def poisoned(spec, data):
        return np.full((1, 28, 28), np.nan if data == b"bad" else 0, np.float32)

    monkeypatch.setattr(batching, "to_input", poisoned)
    answers, _, _ = together(Limits(), [b"", b"", b"bad", b""])
    assert [isinstance(answer, BwnError) for answer in answers] == [False, False, True, False]


@pytest.mark.parametrize("most", [1, 2, 3, 16, 256])
def test_sizes_of_batches_are_few(most: int) -> None:
    sizes = batch_sizes(most)
    assert (sizes[0], sizes[-1]) == (most, 1)
    assert len(sizes) <= 4


def test_a_full_queue_refuses_and_a_stop_answers_what_has_arrived(digits: list[Path]) -> None:
    image = digits[0].read_bytes()
    with running("--max-queue", "1") as server, closing(server.connect()) as slow:
        slow.putrequest("POST", "/classify")
        slow.putheader("Content-Length", str(len(image)))
        slow.endheaders(image[:100])
        until(lambda: server.metric("bwn_queue_images") == 1)
        refused = server.classify(image)
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "1"
        assert "too many images" in refused.json["error"]
        with closing(server.connect()) as idle:
            idle.request("GET", "/healthz")
            assert read_answer(idle).status == 200
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not listens(server.port))
            idle.request("GET", "/healthz")
            assert read_answer(idle).json == {"error": "the service is stopping"}
        slow.send(image[100:])
        assert read_answer(slow).json["label"] == "0"
        assert server.process.wait(20) == 0
        assert LISTENING.split(server.errors())[-1] == ""


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_an_idle_service(number: signal.Signals) -> None:
    with running() as server, closing(server.connect()) as client:
        client.request("GET", "/healthz")
        read_answer(client)
        server.process.send_signal(number)
        assert server.process.wait(5) == 0
        assert LISTENING.split(server.errors())[-1] == ""


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    for name in [name for name in sys.modules if name.startswith("bwn.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    result = CliRunner().invoke(bwn, ["serve", str(MODEL)])
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: bwn serve needs aiohttp, which is not installed: pip install aiohttp, or "
        "'.[serve]' in bwn's folder\n"
    )


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = CliRunner().invoke(bwn, ["serve", str(MODEL), "--port", port])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
    assert "already in use" in result.stderr


def test_an_address_of_another_machine() -> None:
    result = CliRunner().invoke(bwn, ["serve", str(MODEL), "--host", "192.0.2.77", "--port", "0"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: cannot listen on 192.0.2.77:0: cannot assign requested address; try another --host"
    )


@pytest.mark.parametrize("size", ["0", "-1", "8X", "1.5M", "", "٣"])
def test_a_wrong_size(size: str) -> None:
    result = CliRunner().invoke(bwn, ["serve", str(MODEL), "--max-bytes", size])
    assert result.exit_code == 2
    assert "is not a size such as 8M" in result.stderr
