"""The page in a browser, with a module and with a service: drawing, keyboard, photos, scores."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
from graphs import floats
from http_service import Server, running

import bwn
from bwn.page import page_files

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "models" / "mnist-lenet.bwn"
COLOR = HERE.parents[1] / "models" / "cifar10-convnet.bwn"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium")
ROWS = [f"{digit}0%" for digit in range(10)]


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder; the result of the page goes to a queue; a service answers the rest."""

    result: Queue[Any]

    def __init__(self, *arguments: Any, service: Server | None = None, directory: str) -> None:
        self.service = service
        super().__init__(*arguments, directory=directory)

    def do_GET(self) -> None:
        if self.path == "/model" and self.service is not None:
            self.pass_on(b"")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/result":
            self.pass_on(body)
            return
        self.result.put(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def pass_on(self, body: bytes) -> None:
        assert self.service is not None
        answer = self.service.ask(self.command, self.path, body)
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def write_page(folder: Path, module: str) -> Path:
    """The page with what drives it."""
    for name, content in page_files(module).items():
        (folder / name).write_bytes(content)
    shutil.copy(HERE / "drive_page.js", folder)
    index = folder / "index.html"
    drive = '<script src="drive_page.js" defer></script>\n</head>'
    index.write_text(index.read_text().replace("</head>", drive))
    return folder


@pytest.fixture(scope="module")
def site(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page for a module, with modules and inputs."""
    folder = write_page(tmp_path_factory.mktemp("site"), "net")
    for path in (*modules.glob("*.mjs"), *modules.glob("*.wasm")):
        shutil.copy(path, folder)
    floats(20, 1, 28, 28).tofile(folder / "net.in")
    floats(20, 70).tofile(folder / "many.in")
    return folder


def driven(site: Path, service: Server | None = None) -> Any:
    """What the page has shown."""
    assert BROWSER is not None
    Handler.result = Queue()
    handler = partial(Handler, directory=str(site), service=service)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = subprocess.Popen(
        [
            BROWSER, "--headless", "--disable-gpu", "--disable-dev-shm-usage", *root,
            f"--user-data-dir={site.with_name(site.name + '-profile')}",
            f"http://127.0.0.1:{server.server_port}/",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        result = Handler.result.get(timeout=120)
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    assert "failed" not in result, result["failed"]
    return result


@pytest.fixture(scope="module")
def with_module(site: Path) -> Any:
    return driven(site)


@pytest.fixture(scope="module")
def with_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("aiohttp")
    with running() as service:
        yield driven(write_page(tmp_path_factory.mktemp("service"), ""), service)


@pytest.fixture(scope="module", params=["with_module", "with_service"])
def result(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(("picture", "digit"), [("drawn", "7"), ("keys", "1"), ("photo", "7")])
def test_digits_are_recognized(result: Any, picture: str, digit: str) -> None:
    shown = result[picture]
    percent = int(shown["sure"].removesuffix("% sure"))
    assert shown["best"] == digit
    assert percent > 50
    assert shown["rows"][int(digit)] == f"{digit}{percent}%"
    assert re.fullmatch(r"[\d.]+ ms an image|answered in \d+ ms", shown["time"])


@pytest.mark.parametrize("state", ["empty", "cleared"])
def test_nothing_drawn_is_no_digit(result: Any, state: str) -> None:
    assert result[state] == {"best": "\u2013", "sure": "", "time": "", "rows": ROWS}


def test_files_that_are_no_pictures_are_refused(result: Any) -> None:
    assert result["problem"] == "a.txt: not a picture that this browser can read"


def test_scores_in_a_browser(with_module: Any, modules: Path) -> None:
    many = bwn.load(modules / "many.bwn", threads=1)
    expected = np.concatenate([many.run(part) for part in np.split(floats(20, 70), 4)])
    np.testing.assert_array_equal(np.float32(with_module["many"]), expected.reshape(-1))
    net = bwn.load(MODEL, threads=1)
    for actual, x in zip(
        np.reshape(with_module["net"], (20, 10)), floats(20, 1, 28, 28), strict=True
    ):
        scores = net.run(x[None])[0]
        np.testing.assert_allclose(actual, scores, rtol=0, atol=2e-6 * np.abs(scores).max())


def test_both_networks_see_the_same_picture(with_module: Any, with_service: Any) -> None:
    for picture in ("drawn", "keys", "photo"):
        module, service = (shown[picture] for shown in (with_module, with_service))
        assert (module["best"], module["rows"]) == (service["best"], service["rows"])


def test_photos_of_a_network_in_color(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with running(model=COLOR) as service:
        result = driven(write_page(tmp_path, ""), service)
        best = bwn.load(COLOR, threads=1).predict(base64.b64decode(result["png"]))
    assert result["drawn"]["best"] == result["keys"]["best"] == "\u2013"  # nobody draws there
    assert result["title"] == "Classify a photo"
    assert result["photo"]["best"] == best.label
    assert result["photo"]["sure"] == f"{100 * best.probability:.0f}% sure"
