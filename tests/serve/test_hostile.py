"""Requests that are wrong, huge, slow or no HTTP are refused, and the service goes on."""

from __future__ import annotations

import random
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_service import LISTENING, Server, form, read_answer, until


@pytest.fixture(autouse=True)
def _still_serves(server: Server, digits: list[Path]) -> Iterator[None]:
    """After each test an image is classified, the queue is empty, and nothing fills a log."""
    yield
    assert server.classify(digits[0].read_bytes()).json["label"] == "0"
    assert server.metric("bwn_queue_images") == 0
    assert LISTENING.split(server.errors())[-1] == ""


def refusal(server: Server, *arguments: object, **headers: str) -> tuple[int, str]:
    answer = server.ask(*arguments, **headers)  # type: ignore[arg-type]
    assert answer.json.keys() == {"error"}
    assert "\n" not in answer.json["error"]
    return answer.status, answer.json["error"]


def bomb(digit: bytes) -> bytes:
    """A PNG whose header claims 30,000 x 30,000 pixels."""
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + digit[24:29]
    return digit[:12] + header + struct.pack(">I", zlib.crc32(header)) + digit[33:]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/classify", 405),
        ("PUT", "/classify", 405),
        ("POST", "/metrics", 405),
        ("GET", "/none", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%00", 404),
        ("POST", "/classify?top=0", 400),
        ("POST", "/classify?top=-1", 400),
        ("POST", "/classify?top=%F0%9D%9F%98", 400),
        ("POST", "/classify", 400),
    ],
)
def test_wrong_requests(server: Server, method: str, path: str, status: int) -> None:
    assert refusal(server, method, path)[0] == status


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"not an image", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\0" * 50_000, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_no_image(server: Server, body: bytes, expected: str) -> None:
    status, error = refusal(server, "POST", "/classify", body)
    assert status == 422
    assert expected in error


def test_a_truncated_image(server: Server, digits: list[Path]) -> None:
    status, error = refusal(server, "POST", "/classify", digits[0].read_bytes()[:-60])
    assert (status, error.partition(" (")[0]) == (422, "truncated or damaged image")


def test_a_decompression_bomb(server: Server, digits: list[Path]) -> None:
    status, error = refusal(server, "POST", "/classify", bomb(digits[0].read_bytes()))
    assert (status, "more pixels than" in error) == (422, True), error


def test_a_huge_body_by_its_length(server: Server) -> None:
    connection = server.connect()
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    answer = read_answer(connection)
    connection.close()
    assert (answer.status, answer.json) == (413, {"error": "the body is larger than 100.0 KiB"})


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=x"])
def test_a_huge_body_in_chunks(server: Server, kind: str) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="i"; filename="i"\r\n\r\n'
    chunks = (head if i == 0 else b"\0" * 10_000 for i in range(30))
    connection = server.connect()
    connection.request("POST", "/classify", chunks, {"Content-Type": kind}, encode_chunked=True)
    answer = read_answer(connection)
    connection.close()
    assert answer.status == 413


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=x"])
def test_a_slow_body(server: Server, kind: str) -> None:
    connection = server.connect()
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Length", "1000")
    connection.putheader("Content-Type", kind)
    connection.endheaders(b"--x\r\n")
    start = time.monotonic()
    answer = read_answer(connection)
    connection.close()
    assert (answer.status, answer.json) == (408, {"error": "the body did not arrive in time"})
    assert 0.5 < time.monotonic() - start < 8


def test_slow_headers(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: ")
        assert client.recv(100) == b"", "the connection is closed"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"no boundary at all", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n\r\nno end", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nno header\r\n\r\na\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
        (form(("a", b"b"))[0], "multipart/form-data", 400),
        (form(("a", b"b"))[0], "multipart/form-data; boundary=" + "y" * 200, 400),
        (form((None, b"only a field"))[0], form()[1], 400),
        (form(("a", b"b"))[0], "multipart/mixed; boundary=x0x0x", 415),
        (form(*[(None, b"")] * 1000)[0], form()[1], 503),
    ],
)
def test_wrong_forms(server: Server, body: bytes, kind: str, status: int) -> None:
    assert refusal(server, "POST", "/classify", body, Content_Type=kind)[0] == status


def test_damaged_forms(server: Server, digits: list[Path]) -> None:
    body, kind = form(("a.png", digits[0].read_bytes()), ("b.png", digits[1].read_bytes()))
    rng = random.Random(0)
    for _ in range(100):
        damaged = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(200 if rng.random() < 0.7 else len(body))] = rng.choice(
                b'\r\n-x;="\0\xff:'
            )
        cut = damaged[: rng.choice([len(body), rng.randrange(len(body))])]
        assert server.classify(bytes(cut), Content_Type=kind).status in (200, 400, 422)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET  HTTP/1.1\r\n\r\n", 400),
        (b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 5x\r\n\r\n", 400),
        (b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n", 400),
        (b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
         b"Content-Encoding: gzip\r\n\r\nabc", 415),
        (b"GET /healthz HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n", 200),
    ],
)  # fmt: skip
def test_odd_headers(server: Server, raw: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(raw)
        assert client.recv(1000).split()[1] == str(status).encode()


def test_a_client_that_leaves(server: Server, digits: list[Path]) -> None:
    for cut in (b"", b"--x\r\n", digits[0].read_bytes()[:50]):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(
                b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n" + cut
            )
    until(lambda: server.metric("bwn_queue_images") == 0)
