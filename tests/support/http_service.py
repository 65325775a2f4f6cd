"""A real `bwn serve` in a process of its own, and clients for it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

MODEL = Path(__file__).resolve().parents[2] / "models" / "mnist-lenet.bwn"


LISTENING = re.compile(r"^listening on http://127\.0\.0\.1:(\d+) .*\n", re.MULTILINE)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running service."""

    port: int

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[str]) -> None:
        self.process, self._stderr = process, stderr

    def errors(self) -> str:
        """What it has written to standard error."""
        self._stderr.seek(0)
        return self._stderr.read()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = self.connect()
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            return read_answer(connection)
        finally:
            connection.close()

    def classify(self, body: Any, path: str = "/classify", **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def metric(self, name: str) -> float:
        text = self.ask("GET", "/metrics").body.decode()
        match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else 0.0


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    return Answer(response.status, dict(response.getheaders()), response.read())


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for what must happen soon."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@contextmanager
def running(*options: str, model: Path = MODEL) -> Iterator[Server]:
    """Start `bwn serve` on a free port, and end it."""
    pytest.importorskip("aiohttp", reason="needs aiohttp, the extra serve")
    command = [sys.executable, "-m", "bwn", "serve", str(model), "--port", "0", "--threads", "1"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*command, *options], stderr=errors)
        server = Server(process, errors)
        try:
            # The first run after a change of the kernels compiles them.
            until(lambda: LISTENING.search(server.errors()) or process.poll() is not None, 400)
            match = LISTENING.search(server.errors())
            assert match, server.errors()
            server.port = int(match[1])
            yield server
        finally:
            process.kill()
            process.wait()


def form(*parts: tuple[str | None, bytes], boundary: str = "x0x0x") -> tuple[bytes, str]:
    """A multipart body and its Content-Type, of (file name or None, content)."""
    body = b""
    for name, content in parts:
        file = "" if name is None else f'; filename="{name}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"{file}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
