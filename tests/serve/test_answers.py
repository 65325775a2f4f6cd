"""Answers of the service are those of `bwn infer --json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from http_service import MODEL, Server, form

from bwn.cli.main import bwn
from bwn.page import page_files


def infer(*arguments: object) -> list[dict[str, Any]]:
    words = [
        "infer",
        str(MODEL),
        *map(str, arguments),
        "--json",
        "--threads",
        "1",
        "--batch-size",
        "1",
    ]
    result = CliRunner().invoke(bwn, words)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_an_image_is_classified_as_by_infer(server: Server, digits: list[Path]) -> None:
    for row in infer(*digits[:5]):
        answer = server.classify(Path(str(row["path"])).read_bytes())
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        del row["path"]
        assert answer.json == row


def test_files_of_a_form_are_classified_as_by_infer(server: Server, digits: list[Path]) -> None:
    body, kind = form(*((path.name, path.read_bytes()) for path in digits), (None, b"a field"))
    answer = server.classify(body, "/classify?top=3", Content_Type=kind)
    assert answer.status == 200
    for found, row in zip(answer.json["images"], infer(*digits, "--top", 3), strict=True):
        assert found.pop("probability") == found["top"][0]["probability"]
        # Batches of another size may round differently.
        chances = [[best.pop("probability") for best in r["top"]] for r in (found, row)]
        assert chances[0] == pytest.approx(chances[1], abs=1e-6)
        del row["probability"]
        assert found == {**row, "path": Path(row["path"]).name}


def test_a_broken_file_of_a_form_does_not_spoil_the_others(
    server: Server, digits: list[Path]
) -> None:
    body, kind = form(("bad.png", b"no image"), ("good.png", digits[0].read_bytes()))
    answer = server.classify(body, Content_Type=kind)
    assert answer.status == 200
    bad, good = answer.json["images"]
    assert bad.keys() == {"path", "error"}
    assert good["label"] == digits[0].parent.name


def test_a_connection_is_used_again(server: Server, digits: list[Path]) -> None:
    connection = server.connect()
    for _ in range(3):
        connection.request("POST", "/classify", digits[0].read_bytes())
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["label"]) == (200, "0")
    connection.close()


def test_health(server: Server) -> None:
    answer = server.ask("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_the_page_has_all_it_needs_and_asks_nobody_else(server: Server) -> None:
    page = server.ask("GET", "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    kinds = {"css": "text/css", "js": "text/javascript"}
    named = re.findall(r'(?:src|href)="(\w+\.(\w+))"', page.body.decode())
    assert len(named) == 4
    for name, kind in named:
        part = server.ask("GET", f"/{name}")
        assert (part.status, part.body) == (200, page_files()[name])
        assert part.headers["Content-Type"] == f"{kinds[kind]}; charset=utf-8"
    assert not any(b"://" in part or b"@import" in part for part in page_files().values())


def test_the_model_is_described(server: Server) -> None:
    answer = server.ask("GET", "/model")
    assert answer.json == {"classes": list("0123456789"), "input_shape": [1, 28, 28]}


def test_metrics_count(server: Server, digits: list[Path]) -> None:
    names = (
        'bwn_requests_total{status="200"}',
        'bwn_requests_total{status="422"}',
        'bwn_images_total{result="classified"}',
        'bwn_images_total{result="refused"}',
        "bwn_request_seconds_count",
        "bwn_batch_images_sum",
    )
    before = [server.metric(name) for name in names]
    body, kind = form(*((path.name, path.read_bytes()) for path in digits[:4]))
    server.classify(body, Content_Type=kind)
    server.classify(b"no image")
    after = [server.metric(name) for name in names]
    # The first also counts the requests for metrics themselves.
    assert [b - a for a, b in zip(before, after, strict=True)] == [len(names) + 1, 1, 4, 1, 2, 4]
    assert server.metric("bwn_queue_images") == 0


def test_metrics_have_prometheus_form(server: Server) -> None:
    answer = server.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    buckets = [line for line in lines if line.startswith("bwn_request_seconds_bucket")]
    counts = [float(line.split()[1]) for line in buckets]
    assert counts == sorted(counts)
    assert buckets[-1].startswith('bwn_request_seconds_bucket{le="+Inf"}')
    assert f"bwn_request_seconds_count {counts[-1]:.0f}" in lines
