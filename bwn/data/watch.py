"""Images as they arrive in folders: what a camera, or whoever copies files, puts there."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bwn.data.images import images_in

INTERVAL = 0.25
"""Seconds between two looks."""
REST = 9
"""How many times as long as it takes to look there is no looking: folders fill up, and a board has other work."""


class Stamp(NamedTuple):
    """What changes when a file is written."""

    modified: int
    size: int


def arrivals(
    folders: Sequence[str | Path], recursive: bool = True, wait: Callable[[], object] | None = None
) -> Iterator[Path]:
    """Yield images that are new in the folders or written anew, for ever; those there at the first look are not.

    An image counts as written when two looks one after the other find it the same; one that is renamed into a folder
    is found likewise. The folders are listed anew each time: that works on every file system, network drives included.
    A folder that is gone, or cannot be listed, is waited for, after one line of warning.

    wait: called between two looks, default a sleep of INTERVAL, or longer where a look takes long (REST).
    """
    looks = _Looks(folders, recursive)
    done = before = looks.look()
    while True:
        wait() if wait is not None else time.sleep(max(INTERVAL, REST * looks.seconds))
        now = looks.look()
        for path, stamp in now.items():
            if before.get(path) == stamp and done.get(path) != stamp:
                done[path] = stamp
                yield Path(path)
        if not looks.lost:  # what is on a drive that comes back is not new
            done = {path: stamp for path, stamp in done.items() if path in now}
        before = now


class _Looks:
    """Looks at folders. lost: those that the last look could not list. seconds: that it took."""

    def __init__(self, folders: Sequence[str | Path], recursive: bool) -> None:
        self.folders, self.recursive = folders, recursive
        self.lost: list[str | Path] = []
        self.seconds = 0.0

    def look(self) -> dict[str, Stamp]:
        """The images that are there; warns of a folder when it is lost."""
        began = time.perf_counter()
        known, self.lost = self.lost, []
        found = {}
        for folder in self.folders:
            try:
                os.scandir(folder).close()
            except OSError as error:
                self.lost.append(folder)
                if folder not in known:
                    logging.getLogger(__name__).warning(
                        "%s: %s; waiting for it", folder, error.strerror
                    )
                continue
            for path in images_in(folder, self.recursive):
                with suppress(OSError):  # gone since it was listed
                    status = os.stat(path)
                    found[path] = Stamp(status.st_mtime_ns, status.st_size)
        self.seconds = time.perf_counter() - began
        return found
