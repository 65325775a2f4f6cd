"""`bwn infer --watch` on a folder whose images are added and replaced."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from PIL import Image

from bwn.data import datasets
from tests.soak.load import MODELS, ROOT

SECONDS = 60
"""In which an image must be answered: the machine is busy."""


class Watched:
    """The command, and a folder that it watches."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "photos"
        self.folder.mkdir()
        samples = datasets.load_dataset("mnist-sample", "test").images[:40]
        self.images = [Image.fromarray(pixels) for pixels in samples]
        self.turns = 0
        self.lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Watched:
        command = [sys.executable, "-m", "bwn.cli", "infer", "--watch", "--json", "--threads", "1"]
        self.process = subprocess.Popen(
            [*command, str(MODELS / "mnist-lenet.bwn"), str(self.folder)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, name="watch-reader")
        self.reader.start()
        self.started = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def turn(self) -> str:
        """Add an image, or replace one by another; what is wrong with the answer."""
        image = self.images[self.turns % len(self.images)]
        path = self.folder / f"camera-{self.turns % 7}.png"
        self.turns += 1
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            partial = path.with_suffix(".part")
            image.save(partial, "PNG")
            partial.replace(path)
            try:
                row = json.loads(self.lines.get(timeout=SECONDS if self.started else 2))
            except queue.Empty:
                if not self.started:  # images that are there before it watches are passed over
                    continue
                return f"no answer within {SECONDS} s"
            self.started = True
            if "error" in row:
                return str(row)
            return "" if Path(row["path"]).name == path.name else f"an answer for {row['path']}"
        return f"it did not start within {SECONDS} s"
