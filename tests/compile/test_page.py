"""examples/web/ in a browser: drawing, keyboard, photos, and the same scores as bwn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
from graphs import floats

import bwn

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "examples" / "web"
MODEL = HERE.parents[1] / "models" / "mnist-lenet.bwn"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium")
ROWS = [f"{digit}0%" for digit in range(10)]


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder; the result of the page goes to a queue."""

    result: Queue[Any]

    def do_POST(self) -> None:
        self.result.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def site(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with what drives it, and inputs."""
    folder = tmp_path_factory.mktemp("site")
    for path in (*PAGE.iterdir(), *modules.glob("*.mjs"), *modules.glob("*.wasm")):
        shutil.copy(path, folder)
    shutil.copy(HERE / "drive_page.js", folder)
    index = (folder / "index.html").read_text()
    drive = '<script src="drive_page.js" defer></script>\n</head>'
    (folder / "index.html").write_text(index.replace("</head>", drive))
    floats(20, 1, 28, 28).tofile(folder / "net.in")
    floats(20, 70).tofile(folder / "many.in")
    return folder


@pytest.fixture(scope="module")
def result(site: Path) -> Any:
    """What the page has shown."""
    assert BROWSER is not None
    Handler.result = Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    profile = site.with_name("profile")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = subprocess.Popen(
        [
            BROWSER, "--headless", "--disable-gpu", "--disable-dev-shm-usage", *root,
            f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/?model=net",
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


@needs_browser
@pytest.mark.parametrize(("picture", "digit"), [("drawn", "7"), ("keys", "1"), ("photo", "7")])
def test_digits_are_recognized(result: Any, picture: str, digit: str) -> None:
    shown = result[picture]
    percent = int(shown["sure"].removesuffix("% sure"))
    assert shown["best"] == digit
    assert percent > 50
    assert shown["rows"][int(digit)] == f"{digit}{percent}%"
    assert float(shown["time"].removesuffix(" ms an image")) > 0


@needs_browser
@pytest.mark.parametrize("state", ["empty", "cleared"])
def test_nothing_drawn_is_no_digit(result: Any, state: str) -> None:
    assert result[state] == {"best": "\u2013", "sure": "", "time": "", "rows": ROWS}


@needs_browser
def test_files_that_are_no_pictures_are_refused(result: Any) -> None:
    assert result["problem"] == "a.txt: not a picture that this browser can read"


@needs_browser
def test_scores_in_a_browser(result: Any, modules: Path) -> None:
    many = bwn.load(modules / "many.bwn", threads=1)
    expected = np.concatenate([many.run(part) for part in np.split(floats(20, 70), 4)])
    np.testing.assert_array_equal(np.float32(result["many"]), expected.reshape(-1))
    net = bwn.load(MODEL, threads=1)
    for actual, x in zip(np.reshape(result["net"], (20, 10)), floats(20, 1, 28, 28), strict=True):
        scores = net.run(x[None])[0]
        np.testing.assert_allclose(actual, scores, rtol=0, atol=2e-6 * np.abs(scores).max())
